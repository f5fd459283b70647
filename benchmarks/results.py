"""What was measured, as a table to read and as JSON to compare with: medians, ranges, and ratios to the floors of the same run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Row


def told(rows: Sequence[Row], size: str, students: int, rounds: int, night_rows: int) -> dict[str, Any]:
    """Everything, for JSON."""
    bases = {(row.case.group, row.case.base): row for row in rows if row.case.base}
    return {
        "size": size,
        "students": students,
        "rows": night_rows,
        "rounds": rounds,
        "machine": f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}",
        "contenders": [_contender(row, bases) for row in rows],
    }


def _contender(row: Row, bases: Mapping[tuple[str, str], Row]) -> dict[str, Any]:
    found: dict[str, Any] = {"group": row.case.group, "kind": row.case.kind, "name": row.case.name, "night": row.night}
    if not row.figures:
        return found | {"left_out": "out of memory" if row.out_of_memory else f"limited to {row.case.sizes[-1]}"}
    parse = bases.get((row.case.group, "parse")) or bases.get(("files alone", "parse"))
    load = bases.get((row.case.group, "load"))
    of = {name: row.median(name) for name in ("seconds", "wall", "process", "tree")}
    return found | {
        "seconds": of["seconds"],
        "low": min(each.seconds for each in row.figures),
        "high": max(each.seconds for each in row.figures),
        "wall": of["wall"],
        "process_megabytes": of["process"],
        "tree_megabytes": of["tree"],
        "times_parse": of["seconds"] / parse.median("seconds") if parse else None,
        "times_load": of["seconds"] / load.median("seconds") if load else None,
        "memory_times_parse": of["tree"] / parse.median("tree") if parse else None,
        "found": max(each.found for each in row.figures),
        "stages": row.stages(),
        "turns": [asdict(each) for each in row.figures],
    }


def table(found: Mapping[str, Any]) -> str:
    """The same for people, in Markdown."""
    lines = [
        f"{found['students']:,} students, {found['rows']:,} rows a night, medians of {found['rounds']}; {found['machine']}.",
        "",
        "*s* is the work alone, with the lowest and highest turn; *wall* the whole process with its start-up. *Parse* is pyarrow's parse of the same",
        "files, *load* the bare load of the same files into keyed tables of the same database. *MB* is the peak of the contender's process and its",
        "children, with Python and what they import, PostgreSQL's server not counted; *× parse* after it compares that. *Faults* is how many were told,",
        "each contender counting its own way.",
        "",
        "| | Contender | Night | s | low-high | × parse | × load | wall s | MB | × parse | Faults |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found["contenders"]:
        name = f"**{each['name']}**" if each["kind"] == "ours" else each["name"] if each["kind"] == "peer" else f"*{each['name']}*"
        beginning = f"| {each['group']} | {name} | {each['night']} |"
        if "left_out" in each:
            lines.append(f"{beginning} {each['left_out']} | | | | | | | |")
            continue
        cells = (
            _short(each["seconds"]),
            f"{_short(each['low'])}-{_short(each['high'])}",
            _ratio(each["times_parse"]),
            _ratio(each["times_load"]),
            f"{each['wall']:.2f}",
            f"{each['tree_megabytes']:,.0f}",
            _ratio(each["memory_times_parse"]),
            f"{each['found']:,}" if each["found"] else "",
        )
        lines.append(f"{beginning} {' | '.join(cells)} |")
    staged = [each for each in found["contenders"] if each.get("stages")]
    if staged:
        lines += ["", "Stages of ours, in seconds:", ""]
        lines += [
            f"- {each['group']}, {each['name']}, {each['night']}: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in each["stages"].items())
            for each in staged
        ]
    return "\n".join(lines) + "\n"


def write(folder: Path, found: Mapping[str, Any]) -> Path:
    """The JSON and the table, named for the size; the path of the JSON."""
    folder.mkdir(exist_ok=True)
    (folder / f"{found['size']}.md").write_text(table(found), encoding="utf-8")
    path = folder / f"{found['size']}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _short(seconds: float) -> str:
    return f"{seconds:.4f}" if seconds < 0.1 else f"{seconds:.2f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"
