"""Runs are forked from a process of their own, whose memory comes in large pages; the daemon's own does not."""

from __future__ import annotations

import os
import re
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from sftp_ingest import forks

TUNABLES = "GLIBC_TUNABLES"
MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def tell(path: Path, size: int) -> None:
    """Writes what glibc was told, and how many pieces of memory large pages were asked for while so many bytes are held."""
    held = bytearray(size)
    asked = re.findall(r"^VmFlags:.* hg\b", Path("/proc/self/smaps").read_text(encoding="ascii"), re.MULTILINE)
    path.write_text(f"{os.environ[TUNABLES]}\n{len(asked)}", encoding="utf-8")
    del held


def begin(path: Path) -> None:
    """Has it told by a forked process, and ends as that does, or with 1 where it was told of large pages itself."""
    os.environ.pop(TUNABLES, None)
    process = forks.begun(tell, path, 64 << 20, name="told")
    process.join()
    sys.exit(TUNABLES in os.environ or process.exitcode)


def test_a_forked_process_asks_for_large_pages_and_the_one_that_began_it_does_not(tmp_path: Path) -> None:
    process = get_context("spawn").Process(target=begin, args=(tmp_path / "told",))  # of this one, other tests may have forked something before
    process.start()
    process.join()
    assert process.exitcode == 0
    told, asked = (tmp_path / "told").read_text(encoding="utf-8").splitlines()
    assert told == "glibc.malloc.hugetlb=1"
    if MODE.exists() and "[madvise]" in MODE.read_text(encoding="ascii"):  # elsewhere they are given unasked, or never
        assert int(asked) > 0


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_what_the_operator_has_told_glibc_stays(before: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TUNABLES, before)
    assert forks.environment()[TUNABLES] == told
