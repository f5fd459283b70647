"""Loading and validating alone: ours beside parsing, pandera used plainly, and frictionless, in three states of one made-up district.

The states: without a fault, with a realistic share of faults of every kind, and with one column wrong in every row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import districts
from benchmarks.contender import FILES
from benchmarks.districts import UP_TO_M
from benchmarks.measure import OURS_PYTHON, PEERS_PYTHON, Case, Figure, run
from sftp_ingest.roster import contract, values

STATES: Mapping[str, tuple[str, ...]] = {
    "no fault": (),
    "0.2 % faults": ("--fault-share", "0.002"),
    "a wrong column": ("--wrong-column", "Last_name"),
}


def cases(scratch: Path, students: int, faultless: Path, warm: Path) -> list[Case]:
    """All contenders of this family; the files with faults are made here, outside any clock."""
    describe(warm)
    found = []
    for state, arguments in STATES.items():
        night = districts.make(scratch / state, students, 1, *arguments) / "night-1" if arguments else faultless
        describe(night)
        group = f"reading, {state}"
        read: Callable[..., Callable[[int], Mapping[str, Figure]]] = partial(partial, _read, state, night, warm)
        found += [
            Case(group, "floor", "pyarrow parse", read(OURS_PYTHON, "floors", "parse"), base="parse"),
            Case(group, "ours", "sftp_ingest, load and validate", read(OURS_PYTHON, "ours", "read")),
            Case(group, "peer", "pandera, used plainly", read(OURS_PYTHON, "ours", "plain pandera"), sizes=(*UP_TO_M, "L")),
            Case(group, "peer", "frictionless validate", read(PEERS_PYTHON, "peers", "frictionless"), sizes=UP_TO_M),
        ]
    return found


def _read(state: str, night: Path, warm: Path, python: str, module: str, contender: str, _: int) -> Mapping[str, Figure]:
    """One contender's reading; ends the benchmark where it validates and does not see the faults that are there, or sees some where none are."""
    figure = run(python, module, contender, folder=str(night), warm=str(warm))
    wrong_rows = districts.records(night)["students"] if state == "a wrong column" else 1
    if module != "floors" and (figure.found > 0 if state == "no fault" else figure.found < wrong_rows):
        raise SystemExit(f"{contender} found {figure.found} faults in {state}")
    return {"": figure}


def describe(folder: Path) -> None:
    """Write the contract as a data package, for frictionless."""
    rules = contract.load()
    resources = []
    for name in FILES:
        table = rules.tables[name]
        by_name = {each.name: each for each in table.fields}
        spelt = {each.column: each.name for each in table.fields}
        fields: list[dict[str, Any]] = []
        for column in districts.header(folder / f"{name}.csv"):
            field = by_name.get(column)
            pattern = (field.pattern or values.PATTERNS.get(field.type, "")) if field else ""
            constraints = {"required": True} if field and field.required else {}
            fields.append({"name": column, "type": "string", "constraints": constraints | ({"pattern": pattern} if pattern else {})})
        schema: dict[str, Any] = {"fields": fields}
        if not table.repeat:
            schema["primaryKey"] = [spelt[each] for each in table.key]
        schema["foreignKeys"] = [
            {"fields": [spelt[each.column]], "reference": {"resource": each.table, "fields": [f"{each.table.removesuffix('s').capitalize()}_id"]}}
            for each in table.references
            if not each.optional and each.table in FILES and not rules.tables[each.table].repeat  # what repeats is no key to frictionless
        ]
        resources.append({"name": name, "path": f"{name}.csv", "schema": schema})
    (folder / "datapackage.json").write_text(json.dumps({"name": "district", "resources": resources}), encoding="utf-8")
