"""What a process holds of large files: nothing for longer than a moment, and of small ones all."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa

from sftp_ingest import memory
from sftp_ingest.roster import shelf


def test_small_files_and_those_of_nobody_who_said_where_stay_in_memory(tmp_path: Path) -> None:
    few = pa.array(["a"])
    with shelf.standing_in(tmp_path / "rosters"):
        assert shelf.put(few).buffers()[2].address == few.buffers()[2].address
        assert shelf.gathered([b"a", b"b"], 2) == b"ab"
    assert not (tmp_path / "rosters").exists()
    assert not shelf.puts_away(10 * shelf.MANY)


def test_what_was_looked_at_does_not_stay_in_memory(tmp_path: Path) -> None:
    def looked_at() -> int:
        told = Path("/proc/self/status").read_text(encoding="ascii")
        return int(told.partition("RssFile:")[2].split()[0]) >> 10

    size = 256 << 20
    before = looked_at()
    with (tmp_path / "large").open("w+b") as file:
        file.truncate(size)
        data = memory.mapped(file)
    assert not any(data[begin : begin + (1 << 20)].strip(b"\0") for begin in range(0, size, 1 << 20))
    assert looked_at() > before + 200
    with memory.letting_go():
        for _ in range(500):
            if looked_at() < before + 50:
                break
            time.sleep(0.02)
        assert looked_at() < before + 50
