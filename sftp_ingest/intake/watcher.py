"""A doorbell, never the record: tells at once that something moved in a home; whatever it misses, a sweep finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from sftp_ingest.intake.inbox import REPORTS

CHANGES: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]
"""What rings. Opening, reading and listing do not, else our own hashing would ring for ever; nor does each write, of which an upload has thousands,
and all of them would be told to this process: what is written is closed in the end."""


class Doorbell(FileSystemEventHandler):
    """Calls `ring` with the district's id, in a thread of its own, whenever something changes in its home outside reports/."""

    def __init__(self, homes: Path, ring: Callable[[str], None]) -> None:
        self._homes = homes
        self._ring = ring
        self._observer = Observer()

    @property
    def alive(self) -> bool:
        """Whether it hears and rings; false before `start`, after `stop`, and once one of its threads has died."""
        return self._observer.is_alive() and all(each.is_alive() for each in self._observer.emitters)

    def start(self) -> None:
        """Begins to listen; makes the folder of homes where there is none. Raises OSError where the kernel gives no watch."""
        self._homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._observer.schedule(self, str(self._homes), recursive=True, event_filter=CHANGES)
        self._observer.start()

    def stop(self) -> None:
        """Stops listening and waits until the last ring has returned."""
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Rings once for each district that the event touches: a move has two ends."""
        paths = (Path(os.fsdecode(each)) for each in (event.src_path, event.dest_path) if each)
        for district in {each for path in paths if (each := self._district(path))}:
            self._ring(district)

    def _district(self, path: Path) -> str | None:
        if not path.is_relative_to(self._homes):
            return None
        names = path.relative_to(self._homes).parts
        return names[0] if names and names[1:2] != (REPORTS,) else None
