"""The doorbell's ears, in a process of their own: `python -m sftp_ingest.intake.ears HOMES`, as `Doorbell` starts it; it ends when the daemon does."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from watchdog import events
from watchdog.observers import Observer

from sftp_ingest.intake.inbox import REPORTS

CHANGES: list[type[events.FileSystemEvent]] = [
    events.DirCreatedEvent,
    events.DirDeletedEvent,
    events.DirMovedEvent,
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileDeletedEvent,
    events.FileMovedEvent,
]
"""What rings. Opening, reading and listing do not, else our own hashing would ring for ever; nor does each write, of which an upload has thousands,
and all of them would be told to this process: what is written is closed in the end."""
BREATH_SECONDS = 0.1
"""The first change rings at once; those that follow sooner than this ring together."""
PULSE_SECONDS = 1.0


class Ears(events.FileSystemEventHandler):
    """Hears of every change in a home outside reports/."""

    def __init__(self, homes: Path) -> None:
        self._homes = os.fspath(homes)
        self._observer = Observer()
        self._heard: SimpleQueue[str] = SimpleQueue()
        self._observer.schedule(self, self._homes, recursive=True, event_filter=CHANGES)

    def listen(self) -> None:
        """Says on standard output, in lines of JSON, which homes have changed; once it listens, in the first line, none. Raises OSError without a watch.

        Returns once a thread of watchdog's has died.
        """
        self._observer.start()
        print([], flush=True)
        while self._observer.is_alive() and all(each.is_alive() for each in self._observer.emitters):
            with suppress(Empty):
                heard = {self._heard.get(timeout=PULSE_SECONDS)}
                while not self._heard.empty():
                    heard.add(self._heard.get())
                print(json.dumps(sorted(heard)), flush=True)
                time.sleep(BREATH_SECONDS)

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        """Notes each home that the event touches: a move has two ends."""
        for path in (event.src_path, event.dest_path):
            names = os.fsdecode(path).removeprefix(self._homes).split("/", 3)[1:]  # of "", there are none
            if names and names[1:2] != [REPORTS]:
                self._heard.put(names[0])


def main() -> None:
    """Listens until the daemon closes our standard input, or is no more. It heeds no signal: who stops the daemon leaves it to the daemon to stop this."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    try:
        Ears(Path(sys.argv[1])).listen()
    except OSError as fault:
        os._exit(fault.errno or 1)
    os._exit(1)


def _end_with_the_daemon() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
