"""A doorbell, never the record: tells at once that something moved in a home; whatever it misses, a sweep finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

EARS = (sys.executable, "-P", "-m", "sftp_ingest.intake.ears")


class Doorbell:
    """Calls `ring` with the district's id, in a thread of its own, whenever something changes in its home outside reports/.

    It listens in a process of its own: each file of an upload makes several events, which cost as much as taking it in.
    """

    def __init__(self, homes: Path, ring: Callable[[str], None]) -> None:
        self._homes = homes
        self._ring = ring
        self._ears: subprocess.Popen[bytes] | None = None
        self._ringing = threading.Thread(target=self._hear, name="doorbell", daemon=True)  # a daemon that cannot listen ends, and does not wait for it

    @property
    def alive(self) -> bool:
        """Whether it hears and rings; false before `start`, after `stop`, and once the process, or a thread of it or of ours, has died."""
        return self._ringing.is_alive()

    def start(self) -> None:
        """Begins to listen; makes the folder of homes where there is none. Raises OSError where the kernel gives no watch."""
        self._homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # what we import, it can import too
        self._ears = subprocess.Popen([*EARS, str(self._homes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=found)
        if not cast(IO[bytes], self._ears.stdout).readline():
            number = self._ears.wait()
            raise OSError(number, os.strerror(number))
        self._ringing.start()

    def stop(self) -> None:
        """Stops listening and waits until the last ring has returned."""
        if self._ears:
            cast(IO[bytes], self._ears.stdin).close()
            self._ears.wait()
            if self._ringing.ident:
                self._ringing.join()
            cast(IO[bytes], self._ears.stdout).close()

    def _hear(self) -> None:
        for line in cast(IO[bytes], cast("subprocess.Popen[bytes]", self._ears).stdout):
            for district in json.loads(line):
                self._ring(district)
