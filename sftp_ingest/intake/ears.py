"""The doorbell's ears, in a process of their own: `python -m sftp_ingest.intake.ears HOMES`, as `Doorbell` starts it; it ends when the daemon does."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from sftp_ingest.intake.inbox import PREVIEW, REPORTS, SIDE_FOLDERS

PLACES = tuple(Path(base, folder) for base in ("", PREVIEW) for folder in ("", *SIDE_FOLDERS))
"""The folders of a home whose files may be part of a delivery; no others are listened to, so that nobody has more of the kernel's watches."""
_HEARD = InotifyConstants.IN_CREATE | InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVE | InotifyConstants.IN_CLOSE_WRITE
CHANGES = Mask(_HEARD | InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_DONT_FOLLOW)
"""What rings. Opening, reading and listing do not, else our own hashing would ring for ever; nor does each write, of which an upload has thousands,
and all of them would be told to this process: what is written is closed in the end."""
BREATH_SECONDS = 0.1
"""The first change rings at once; those that follow sooner than this ring together."""
PULSE_SECONDS = 1.0


class Ears:
    """Hears of every change in the places of a home, as watchdog's reader calls it, in a thread of its own.

    What is watched is found anew from the names whenever one of them comes or goes: a watch stays with its folder, wherever that is moved to, and
    watchdog's own watching of all that lies below a folder is led astray by such moves.
    """

    def __init__(self, homes: Path) -> None:
        self._homes = homes
        self._inotify = InotifyFD()
        self._root: WatchDescriptor
        self._watches: dict[str, set[WatchDescriptor]] = {}
        self._home_of: dict[WatchDescriptor, str] = {}
        self._heard: SimpleQueue[tuple[str, bool]] = SimpleQueue()  # a home, and whether one of its places has come or gone
        self._over = False

    def listen(self) -> None:
        """Says on standard output, in lines of JSON, which homes have changed; once it listens, in the first line, none. Raises OSError without a watch.

        Returns once watchdog's thread has died, or the folder of homes is gone.
        """
        self._root = self._watch(self._homes.resolve())
        self._inotify.start()
        for folder in self._homes.iterdir():
            self._watch_places(folder.name)
        print([], flush=True)
        while self._inotify.is_alive() and not self._over:
            with suppress(Empty):
                heard = {self._heard.get(timeout=PULSE_SECONDS)}
                while not self._heard.empty():
                    heard.add(self._heard.get())
                for home in {home for home, anew in heard if anew}:
                    self._watch_places(home)
                print(json.dumps(sorted({home for home, _ in heard})), flush=True)
                time.sleep(BREATH_SECONDS)

    def on_event(self, event: InotifyEvent) -> None:
        """Notes the home that the event touches."""
        name = os.fsdecode(event.name)
        home = name if event.wd == self._root else self._home_of.get(event.wd)
        if home and name != REPORTS:
            self._heard.put((home, event.wd == self._root or (event.is_directory and name in (PREVIEW, *SIDE_FOLDERS))))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """A folder is gone. Of a place, the folder around it has told."""
        self._over = self._over or wd == self._root

    def on_queue_overflow(self) -> None:
        """The kernel had more to tell than it keeps: all homes may have changed."""
        for home in self._homes.iterdir():
            self._heard.put((home.name, True))

    def _watch_places(self, home: str) -> None:
        """Listens to those places of a home that are there, and to what it listened before no more."""
        there = set()
        for place in PLACES:
            with suppress(OSError):  # not there, or no watch is left: what is not heard of, a sweep finds
                there.add(self._watch(self._homes / home / place))
        self._home_of.update(dict.fromkeys(there, home))
        for each in self._watches.get(home, set()) - there:
            if self._home_of.get(each) == home:
                del self._home_of[each]
                self._inotify.remove_callbacks([(each, CallbackId(id(self)))])
        self._watches[home] = there

    def _watch(self, folder: Path) -> WatchDescriptor:
        return self._inotify.add_callback(os.fsencode(folder), CHANGES, self, CallbackId(id(self)))


def main() -> None:
    """Listens until the daemon closes our standard input, or is no more. It heeds no signal: who stops the daemon leaves it to the daemon to stop this.

    It says nothing of its own but what has died: watchdog's warnings, and the messages of exceptions, quote names that clients chose.
    """
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    logging.disable()
    threading.excepthook = lambda fault: _die(fault.exc_type)
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    try:
        Ears(Path(sys.argv[1])).listen()
    except OSError as fault:
        os._exit(fault.errno or 1)
    except Exception as fault:  # not one of its words may be told
        _die(type(fault))
    os._exit(1)


def _die(fault: type[BaseException]) -> None:
    sys.stderr.write(f"doorbell: {fault.__name__}\n")
    os._exit(1)


def _end_with_the_daemon() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
