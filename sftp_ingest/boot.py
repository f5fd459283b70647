"""Which start of the machine this is: what was written before it, and not waited for, may not have come to the disk."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def this() -> str:
    """The kernel's name for it, another each time the machine starts."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
