"""Small districts for tests: tables as dicts, written as files, read as deliveries."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd

from sftp_ingest.config import Settings
from sftp_ingest.model import ENTITIES, ChangeSet, DeliveredFile, Delivery, FileShape, Limits, Roster
from sftp_ingest.planning import Plan, empty_roster, plan
from sftp_ingest.roster import afterwards, shelf
from sftp_ingest.roster.arrow import TEXT
from sftp_ingest.roster.excerpt import Known

Rows = list[dict[str, str]]
Files = dict[str, Rows]

TOLERANT = Settings(limits=Limits(records=1_000_000))
"""No limits: for tests that are not about holds."""


@contextmanager
def everything_put_away(folder: Path) -> Iterator[None]:
    """Inside, the smallest district lies in files without a name, as else only the cells of large ones do."""
    usual = shelf.LARGE, shelf.MANY
    shelf.LARGE = shelf.MANY = 0
    try:
        with shelf.standing_in(folder):
            yield
    finally:
        shelf.LARGE, shelf.MANY = usual


def small(students: int = 6) -> Files:
    """Two schools, two teachers, three sections; student n goes to school 0011 where n is odd."""
    return {
        "schools": [{"School_id": school, "School_name": f"School {school}", "School_number": school} for school in ("0011", "0012")],
        "teachers": [
            {"School_id": school, "Teacher_id": teacher, "First_name": "Ada", "Last_name": "Lovelace", "Teacher_email": f"{teacher}@example.org"}
            for school, teacher in (("0011", "t1"), ("0012", "t2"))
        ],
        "students": [student(number) for number in range(1, students + 1)],
        "sections": [
            section("s1", "0011", "t1", "Math"),
            section("s2", "0012", "t2", "Math"),
            section("s3", "0011", "t1", "Art"),
        ],
        "enrollments": [enrollment("s1" if number % 2 else "s2", number) for number in range(1, students + 1)] + [enrollment("s3", 1)],
    }


def busy(students: int, sections: int = 6) -> Files:
    """A district in which everybody is in all sections; those are of one school."""
    files = small(students)
    files["sections"] = [section(f"s{number}", "0011", "t1", "Math") for number in range(sections)]
    files["enrollments"] = [enrollment(f"s{each}", number) | {"School_id": "0011"} for number in range(1, students + 1) for each in range(sections)]
    return files


def without(files: Files, gone: set[int]) -> Files:
    """The district without these students and their enrollments."""
    ids = {f"{number:04}" for number in gone}
    return files | {
        "students": [row for row in files["students"] if row["Student_id"] not in ids],
        "enrollments": [row for row in files["enrollments"] if row["Student_id"] not in ids],
    }


def student(number: int, **more: str) -> dict[str, str]:
    """One student row."""
    return {
        "School_id": "0011" if number % 2 else "0012",
        "Student_id": f"{number:04}",
        "Last_name": f"Last{number}",
        "First_name": f"First{number}",
        "Grade": "7",
        "DOB": "2014-01-02",
        "Contact_name": f"Parent {number}",
        "Contact_phone": "2125550100",
        "Contact_type": "Primary",
        "Contact_sis_id": f"c{number}",
    } | more


def section(section_id: str, school: str, teacher: str, course: str) -> dict[str, str]:
    """One section row."""
    return {"School_id": school, "Section_id": section_id, "Teacher_id": teacher, "Course_name": course, "Term_name": "Year", "Term_start": "2026-08-17"}


def enrollment(section_id: str, number: int) -> dict[str, str]:
    """One enrollment row."""
    return {"School_id": "0012" if section_id == "s2" else "0011", "Section_id": section_id, "Student_id": f"{number:04}"}


def csv_of(rows: Sequence[Mapping[str, str]]) -> bytes:
    """The rows as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def written(folder: Path, files: Mapping[str, Rows], **raw: bytes | None) -> Delivery:
    """The files in a folder as a delivery; `raw` gives whole files, by table name, in place of rows; None leaves the file out."""
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, bytes | None] = {name: csv_of(rows) for name, rows in files.items()}
    contents.update(raw)
    for name, content in contents.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)
    return delivery_of(folder)


def ruled(folder: Path, **tables: str) -> Path:
    """A folder of a district's own rules: the TOML of each table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, toml in tables.items():
        (folder / f"{name}.toml").write_text(toml, encoding="utf-8")
    return folder


def delivery_of(folder: Path) -> Delivery:
    """All files of a folder and of the folders in it as a delivery."""
    files = tuple(
        DeliveredFile(str(path.relative_to(folder)), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    return Delivery("d1", "springfield", datetime(2026, 11, 23, tzinfo=UTC), folder, files)


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of the members, in memory."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return archive.getvalue()


def planned(
    folder: Path,
    files: Mapping[str, Rows],
    now: Roster | None = None,
    *,
    strict: bool = False,
    settings: Settings = TOLERANT,
    before: Mapping[str, FileShape] | None = None,
    approved: str = "",
    known: Known | None = None,
    **raw: bytes | None,
) -> Plan:
    """What the files would do."""
    now = now or empty_roster()
    held = partial(_attendance_of, now)
    return plan(written(folder, files, **raw), replace(settings, strict=strict), now, before=before, attendance=held, approved=approved, known=known)


def _attendance_of(now: Roster, ids: Sequence[str]) -> pd.DataFrame:
    held = now.entities["attendance"]
    return held[held["attendance_id"].isin(ids).to_numpy(dtype=bool)].reset_index(drop=True)


def changed(now: Roster, change_set: ChangeSet) -> Roster:
    """The roster after the change set, as the product itself keeps it."""
    return Roster({name: afterwards.one(name, held, change_set) for name, held in now.entities.items()})


def applied(now: Roster, made: Plan) -> Roster:
    """The roster after the change set, by the plainest means: dicts."""
    assert made.flowing is not None
    entities = {}
    for name, entity in ENTITIES.items():
        held = now.entities[name]
        rows = {tuple(row[column] for column in entity.key): dict(row) for row in held.to_dict("records")}
        for change in made.flowing.changes[name].to_dict("records") if name in made.flowing.changes else ():
            key = tuple(change[column] for column in entity.key)
            if change["operation"] == "deactivated":
                rows[key]["active"] = False
                continue
            rows[key] = {column: change[column] for column in entity.columns} | {"active": True}
            if name == "enrollments" and change["operation"] == "moved":
                rows[(change["from_section_id"], change["student_id"])]["active"] = False
        frame = pd.DataFrame(list(rows.values()), columns=[*entity.columns, "active"])
        entities[name] = pd.DataFrame({column: pd.array(frame[column].to_list(), dtype=TEXT) for column in entity.columns}).assign(
            active=pd.array(frame["active"].to_list(), dtype=bool)
        )
    return Roster(entities)


def content(roster: Roster, *, active_only: bool = True) -> dict[str, list[tuple[str, ...]]]:
    """All records, sorted, for comparing."""
    found = {}
    for name, frame in roster.entities.items():
        if active_only and "active" in frame.columns:
            frame = frame[frame["active"].to_numpy(dtype=bool)]
        columns = [column for column in frame.columns if column != "active"]
        found[name] = sorted(tuple(str(value) for value in row) for row in frame[columns].itertuples(index=False))
    return found
