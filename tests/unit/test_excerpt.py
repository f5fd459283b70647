"""A night of which only the new lines are read comes to the very same as one that is read as a whole, and odd nights are read as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from sftp_ingest import copies
from sftp_ingest.config import Settings
from sftp_ingest.copies import Copy
from sftp_ingest.model import Derivations, Limits, Roster
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster.excerpt import Known
from tests.unit.districts import TOLERANT, Files, changed, csv_of, enrollment, planned, ruled, section, small, student, written, zipped

SECTIONS = ("s1", "s2", "s3", "s4")
CELLS = (
    "",
    "0011",
    "0012",
    "0013",
    "0001",
    "0002",
    "s1",
    "s2",
    "t1",
    "t2",
    "t3",
    "6",
    "7",
    "Art",
    "Math",
    "Lee",
    "c1-0",
    "1/2/2014",
    'A "B", C',
    "x@example.org",
)
OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

Raw = dict[str, bytes]


@st.composite
def nights(draw: st.DrawFn) -> tuple[Raw, list[Raw]]:
    """A faultless night, and some that follow it, each a few steps from the one before: the files of each as bytes."""
    files = small(0)
    files["teachers"].append(dict(files["teachers"][0], Teacher_id="t3"))
    files["staff"] = [{"School_id": "0011", "Staff_id": "p1", "First_name": "Jo", "Last_name": "Roe", "Staff_email": "jo@example.org"}]
    files["sections"] = [section(each, draw(SCHOOLS), draw(st.sampled_from(["t1", "t2"])), draw(st.sampled_from(["Math", "Art"]))) for each in SECTIONS]
    for row in files["sections"]:
        row["Teacher_2_id"] = draw(st.sampled_from(["", "t3"]))
    files["students"], files["enrollments"] = [], []
    for number in range(1, draw(st.integers(2, 7)) + 1):
        cells = {"School_id": draw(SCHOOLS), "Grade": draw(st.sampled_from(["6", "7"])), "ext.house": draw(st.sampled_from(["", "Red"]))}
        for contact in range(draw(st.integers(1, 2))):
            told = {"Contact_sis_id": f"c{number}-{contact}", "Contact_name": draw(st.sampled_from(["Kim", "Lee, Ann"]))}
            files["students"].append(student(number, **told, **cells))
        for each in sorted(draw(st.sets(st.sampled_from(SECTIONS), min_size=1))) if number > 1 else SECTIONS:
            files["enrollments"].append(enrollment(each, number))
    first = bytes_of(files)
    following = []
    for _ in range(draw(st.integers(1, 2))):
        for _ in range(draw(st.integers(0, 6))):
            _usual(draw, files)
        if draw(st.integers(0, 5)) == 0:
            _odd(draw, files)
        following.append(bytes_of(files))
        if draw(st.integers(0, 8)) == 0:
            following[-1] = _spoilt(draw, following[-1])
    return first, following


SCHOOLS = st.sampled_from(["0011", "0012"])
USUAL = ("edit", "edit", "grade", "school", "contact", "another contact", "leave", "come", "join", "switch", "section", "teacher", "move")
EDITS = (("First_name", "Zoë"), ("Last_name", "O'Neil, Jr"), ("ext.house", "Red"), ("ext.house", ""), ("DOB", "1/3/2014"))
SECTION_EDITS = (("Teacher_id", "t2"), ("Teacher_2_id", "t3"), ("Teacher_2_id", ""), ("Course_name", "Art"), ("Term_name", "Fall"))


def _usual(draw: st.DrawFn, files: Files) -> None:
    """A change as they happen every night."""
    students = sorted({row["Student_id"] for row in files["students"]})
    somebody = draw(st.sampled_from(students))
    his = [row for row in files["students"] if row["Student_id"] == somebody]
    somewhere = draw(st.sampled_from(SECTIONS))
    match draw(
        st.sampled_from(["edit", "edit", "grade", "school", "contact", "another contact", "leave", "come", "join", "switch", "section", "teacher", "move"])
    ):
        case "edit":
            column, value = draw(
                st.sampled_from([("First_name", "Zoë"), ("Last_name", "O'Neil, Jr"), ("ext.house", "Red"), ("ext.house", ""), ("DOB", "1/3/2014")])
            )
            for row in his:
                row[column] = value
        case "grade":
            grade = draw(st.sampled_from(["5", "6", "7", "Ungraded"]))
            for row in his:
                row["Grade"] = grade
        case "school":
            school = draw(SCHOOLS)
            for row in his:
                row["School_id"] = school
        case "contact":
            his[0]["Contact_name" if draw(st.booleans()) else "Contact_phone"] = draw(st.sampled_from(["Kim", "2125550199"]))
        case "another contact" if len(his) > 1:
            files["students"].remove(his[draw(st.integers(0, len(his) - 1))])
        case "another contact":
            more = {"Contact_sis_id": draw(st.sampled_from(["", f"c{somebody}"])), "Contact_name": "Ann", "Contact_phone": "2125550123"}
            files["students"].insert(draw(st.integers(0, len(files["students"]))), his[0] | more)
        case "leave" if len(students) > 2 and somebody != "0001":
            for name in ("students", "enrollments"):
                files[name] = [row for row in files[name] if row["Student_id"] != somebody]
        case "come":
            number = draw(st.integers(2, 9))
            if f"{number:04}" not in students:
                files["students"].append(student(number, **{"Contact_sis_id": f"c{number}-0", "ext.house": ""}))
                files["enrollments"].append(enrollment(somewhere, number))
        case "join" if not any(row["Student_id"] == somebody and row["Section_id"] == somewhere for row in files["enrollments"]):
            files["enrollments"].append(enrollment(somewhere, int(somebody)))
        case "switch":
            row = files["enrollments"][draw(st.integers(0, len(files["enrollments"]) - 1))]
            if not any(each["Student_id"] == row["Student_id"] and each["Section_id"] == somewhere for each in files["enrollments"]):
                row["Section_id"] = somewhere
        case "section":
            row = next(row for row in files["sections"] if row["Section_id"] == somewhere)
            changes = [
                ("School_id", draw(SCHOOLS)),
                ("Teacher_id", "t2"),
                ("Teacher_2_id", "t3"),
                ("Teacher_2_id", ""),
                ("Course_name", "Art"),
                ("Term_name", "Fall"),
            ]
            column, value = draw(st.sampled_from(changes))
            row[column] = value
        case "teacher":
            files["teachers"][draw(st.integers(0, 2))][draw(st.sampled_from(["Last_name", "First_name"]))] = draw(st.sampled_from(["Curie", "Noether"]))
        case "move":
            rows = files[draw(st.sampled_from(["students", "enrollments", "sections"]))]
            rows.insert(draw(st.integers(0, len(rows) - 1)), rows.pop(draw(st.integers(0, len(rows) - 1))))
        case _:
            pass


def _odd(draw: st.DrawFn, files: Files) -> None:
    """A change that may be wrong, and mostly is."""
    rows = files[draw(st.sampled_from(["students", "enrollments", "sections", "teachers", "staff", "schools"]))]
    at = draw(st.integers(0, max(len(rows) - 1, 0)))
    match draw(st.sampled_from(["cell", "cell", "drop", "repeat", "add", "leave"])):
        case "cell":
            rows[at][draw(st.sampled_from(sorted(rows[at])))] = draw(st.sampled_from(CELLS))
        case "drop" if len(rows) > 1:
            del rows[at]
        case "repeat":
            rows.insert(draw(st.integers(0, len(rows))), dict(rows[at]))
        case "add":
            number = draw(st.integers(1, 9))
            files["students"].append(student(number, **{"Contact_sis_id": f"c{number}-0", "ext.house": ""}))
            files["enrollments"].append(enrollment(draw(st.sampled_from(SECTIONS)), number))
        case "leave":
            number = f"{draw(st.integers(1, 9)):04}"
            for name in ("students", "enrollments"):
                files[name] = [row for row in files[name] if row["Student_id"] != number] or files[name]
        case _:
            pass


def _spoilt(draw: st.DrawFn, raw: Raw) -> Raw:
    """The files with a few bytes that do not belong there."""
    name = draw(st.sampled_from(sorted(raw)))
    at = draw(st.integers(0, len(raw[name])))
    return raw | {name: raw[name][:at] + draw(st.sampled_from([b'"', b",", b"\n", b"\r", b"\r\n", b"\0", b"\xe9", b"  ", b'""'])) + raw[name][at:]}


def bytes_of(files: Files) -> Raw:
    return {name: csv_of(rows) for name, rows in files.items()}


def known_of(folder: Path, raw: Mapping[str, bytes | None], made: Plan) -> Known:
    """What is known after a faultless night."""
    assert made.lasting and not made.findings and not made.rejections
    return Known(written(folder, {}, **raw), made.shapes)


def after(now: Roster, made: Plan) -> Roster:
    assert made.flowing is not None
    return changed(now, made.flowing)


def as_copied(path: Path, held: Copy, made: Plan, token: str) -> Copy:
    """The roster after the night, as the copy in files tells it to the next one."""
    assert made.flowing is not None
    copies.follow(path, held, made.flowing, token)()
    found = copies.read(path, token)
    assert found is not None
    return found


def told(made: Plan) -> dict[str, object]:
    """All that a run does with a plan, but for the shapes and the seconds."""
    parts = {}
    for kind, chosen in (("flowing", made.flowing), ("waiting", made.waiting)):
        if chosen is not None:
            parts[kind] = (_rows(chosen.changes), _rows(chosen.before), chosen.existing, chosen.unchanged)
    shapes = {file: (each.columns, each.rows, each.terminated) for file, each in made.shapes.items()}
    return {
        "outcome": made.outcome,
        "findings": made.findings,
        "counts": made.counts,
        "hold": made.hold,
        "parts": parts,
        "rows": made.rows,
        "rejections": sorted(made.rejections),
        "lasting": made.lasting,
        "shapes": shapes,
    }


def _rows(frames: Mapping[str, pd.DataFrame]) -> dict[str, list[dict[str, str]]]:
    return {name: frame.to_dict("records") for name, frame in frames.items()}


@OFTEN
@given(nights(), st.sampled_from([TOLERANT, Settings(limits=Limits(records=1)), replace(TOLERANT, derive=Derivations(course=False, contact_merge=False))]))
def test_reading_only_what_is_new_comes_to_the_same_as_reading_all(told_nights: tuple[Raw, list[Raw]], rules: Settings) -> None:
    first, following = told_nights
    with TemporaryDirectory() as folder:
        made = planned(Path(folder, "0"), {}, settings=rules, **first)
        now, before = after(empty_roster(), made), first
        copy = Copy(empty_roster(), datetime.now(UTC))
        for number, raw in enumerate(following, 1):
            if made.findings or made.rejections or not made.lasting:
                return
            copy = as_copied(Path(folder, "copy"), copy, made, str(number))
            known = known_of(Path(folder, f"{number - 1}-kept"), before, made)
            whole = planned(Path(folder, f"{number}"), {}, now, settings=rules, before=made.shapes, **raw)
            short = planned(Path(folder, f"{number}"), {}, copy.roster, settings=rules, before=made.shapes, known=known, **raw)
            assert told(short) == told(whole)
            made, before = short, raw
            if made.flowing is None:
                return
            now = after(now, made)


# ---------------------------------------------------------------- which nights are read as a whole


def a_night() -> Files:
    """A faultless district, large enough to drift."""
    files = small(60)
    for number, row in enumerate(files["students"]):
        row |= {"Gender": "MF"[number % 2], "Student_email": f"{row['Student_id']}@example.org"}
    return files


def following(tmp_path: Path, files: Files, rules: Settings = TOLERANT, **raw: bytes | None) -> Plan:
    """The plan of a night that follows `a_night`, which must be the plan of a whole reading too."""
    first = bytes_of(a_night())
    made = planned(tmp_path / "first", {}, settings=rules, **first)
    now, known = after(empty_roster(), made), known_of(tmp_path / "first", first, made)
    tonight = {**bytes_of(files), **raw}
    whole, short = (planned(tmp_path / "second", {}, now, settings=rules, before=made.shapes, known=each, **tonight) for each in (None, known))
    assert told(short) == told(whole)
    return short


def line(rows: bytes, number: int) -> bytes:
    return rows.splitlines(keepends=True)[number]


def test_a_usual_night_is_not_read_as_a_whole(tmp_path: Path) -> None:
    files = a_night()
    files["students"][3]["Last_name"] = "Other"
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0007"] + [enrollment("s3", 3)]
    files["students"] = [row for row in files["students"] if row["Student_id"] != "0007"]
    made = following(tmp_path, files)
    assert (made.whole, made.outcome) == (False, "successful")
    assert made.counts["students"].deactivated == made.counts["students"].updated == 1
    assert made.rows == {"schools.csv": 2, "teachers.csv": 2, "students.csv": 59, "sections.csv": 3, "enrollments.csv": 61}
    assert made.shapes["students.csv"].rows == 59


ODD: Mapping[str, tuple[str, dict[str, str]]] = {
    "a blank name": ("students", {"Last_name": ""}),
    "a word that the format does not know": ("students", {"Gender": "unknown thing"}),
    "a spelling that is read as another": ("students", {"Grade": "07"}),
    "a school that was not sent": ("students", {"School_id": "0099"}),
    "the id of somebody else": ("students", {"Student_id": "0002"}),
    "another name for one contact id": ("students", {"Contact_sis_id": "c2"}),
    "a contact without a name": ("students", {"Contact_name": ""}),
    "a teacher who was not sent": ("sections", {"Teacher_id": "t9"}),
    "a section's id in use": ("sections", {"Section_id": "s2"}),
    "a section that was not sent": ("enrollments", {"Section_id": "s9"}),
    "a student who was not sent": ("enrollments", {"Student_id": "9999"}),
    "an enrollment that is there already": ("enrollments", {"Student_id": "0003"}),
    "a teacher who leaves his sections behind": ("teachers", {"Teacher_id": "t9"}),
    "another name of a school": ("schools", {"School_name": "Elsewhere"}),
}


@pytest.mark.parametrize("oddity", ODD)
def test_a_row_that_a_whole_reading_may_find_fault_with_has_all_read(tmp_path: Path, oddity: str) -> None:
    name, cells = ODD[oddity]
    files = a_night()
    files[name][0] |= cells
    assert following(tmp_path, files).whole


def test_a_section_that_its_last_student_left_has_all_read(tmp_path: Path) -> None:
    files = a_night()
    files["enrollments"].pop()
    made = following(tmp_path, files)
    assert made.whole
    assert [each.code for each in made.findings] == ["section_without_students"]


def test_a_student_who_left_and_not_his_enrollments_has_all_read(tmp_path: Path) -> None:
    files = a_night()
    files["students"].pop()
    assert following(tmp_path, files).whole


SPOILT: Mapping[str, tuple[bytes, bytes]] = {
    "a quote that is never closed": (b"Last5,", b'"Last5,'),
    "a cell over two lines": (b"Last5,", b'"Last\n5",'),
    "a cell too many": (b"Last5,", b"Last5,,"),
    "a letter of another encoding": (b"Last5,", b"Last\xe9,"),
    "a NUL": (b"Last5,", b"Last\0,"),
    "a lone carriage return": (b"Last5,", b"La\rst5,"),
    "a header in another spelling": (b"Last_name", b"last_name"),
    "a blank line": (b"\n0011,0005", b"\n\n0011,0005"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_line_that_may_not_be_one_record_has_all_read(tmp_path: Path, fault: str) -> None:
    students = csv_of(a_night()["students"])
    assert students.count(SPOILT[fault][0]) == 1
    assert following(tmp_path, a_night(), students=students.replace(*SPOILT[fault])).whole


def test_a_file_that_breaks_off_has_all_read(tmp_path: Path) -> None:
    assert following(tmp_path, a_night(), students=csv_of(a_night()["students"])[:-1]).whole


def test_a_file_more_or_less_has_all_read(tmp_path: Path) -> None:
    staff = [{"School_id": "0011", "Staff_id": "p1", "First_name": "Jo", "Last_name": "Roe", "Staff_email": "jo@example.org"}]
    assert following(tmp_path / "more", a_night() | {"staff": staff}).whole
    assert following(tmp_path / "less", a_night(), students=None).whole


def test_who_was_enrolled_by_hand_has_all_read_on_nights_without_him(tmp_path: Path) -> None:
    first = planned(tmp_path / "1", {}, **bytes_of(a_night() | {"customsections/enrollments": [enrollment("s2", 1)]}))
    now = after(empty_roster(), first)
    files = a_night()
    before = planned(tmp_path / "2", {}, now, before=first.shapes, **bytes_of(files))
    now = after(now, before)
    known = known_of(tmp_path / "2", bytes_of(files), replace(before, findings=()))  # but for the file that is missed, it was a night without a word
    files["students"][3]["Last_name"] = "Other"
    whole, short = (planned(tmp_path / "3", {}, now, before=before.shapes, known=each, **bytes_of(files)) for each in (None, known))
    assert short.whole
    assert told(short) == told(whole)
    assert (short.counts["students"].updated, short.counts["enrollments"].deactivated) == (1, 0)


def test_files_in_an_archive_are_read_as_a_whole(tmp_path: Path) -> None:
    first = bytes_of(a_night())
    made = planned(tmp_path / "first", {}, **first)
    now, known = after(empty_roster(), made), known_of(tmp_path / "first", first, made)
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "rosters.zip").write_bytes(zipped({f"{name}.csv": content for name, content in first.items()}))
    assert planned(folder, {}, now, before=made.shapes, known=known).whole


def test_more_changes_than_a_file_may_drift_by_have_all_read(tmp_path: Path) -> None:
    files = a_night()
    for row in files["students"][:7]:
        row["Last_name"] = "Other"
    assert following(tmp_path, files).whole


def test_changes_of_many_nights_add_up(tmp_path: Path) -> None:
    files = a_night()
    made = planned(tmp_path / "0", {}, **bytes_of(files))
    now, ways = after(empty_roster(), made), []
    for night in range(1, 8):
        known = known_of(tmp_path / "kept", bytes_of(files), made)
        files["students"][night]["Last_name"] = f"Night {night}"
        files["students"][night + 20]["Last_name"] = f"Night {night}"
        made = planned(tmp_path / f"{night}", {}, now, before=made.shapes, known=known, **bytes_of(files))
        now = after(now, made)
        ways.append((made.whole, made.shapes["students.csv"].changed))
    assert ways == [(False, 2), (False, 4), (False, 6), (True, 0), (False, 2), (False, 4), (False, 6)]


def test_a_vocabulary_that_may_have_doubled_has_all_read(tmp_path: Path) -> None:
    files = a_night()
    for row, grade in zip(files["students"], ("8", "9", "10"), strict=False):
        row["Grade"] = grade
    made = following(tmp_path, files)
    assert made.whole
    assert [each.code for each in made.findings] == ["drift_values"]


def test_a_description_of_courses_has_all_read(tmp_path: Path) -> None:
    files = a_night()
    for row in files["sections"]:
        row["Course_description"] = "Numbers"
    first = bytes_of(files)
    made = planned(tmp_path / "first", {}, **first)
    now, known = after(empty_roster(), made), known_of(tmp_path / "first", first, made)
    files["students"][0]["Last_name"] = "Other"
    assert planned(tmp_path / "second", {}, now, before=made.shapes, known=known, **bytes_of(files)).whole


def test_a_check_of_the_districts_own_that_compares_rows_has_all_read(tmp_path: Path) -> None:
    own = ruled(tmp_path / "own", students='[[checks]]\nname = "one-mail"\ncolumn = "Student_email"\nunique = true\n')
    files = a_night()
    files["students"][0]["Last_name"] = "Other"
    assert following(tmp_path, files, replace(TOLERANT, contract=str(own))).whole


def test_a_section_without_a_school_counts_among_those_of_which_the_larger_decides(tmp_path: Path) -> None:
    own = ruled(tmp_path / "own", sections='[[fields]]\nname = "School_id"\nconstraints = { required = false }\n')
    rules = replace(TOLERANT, contract=str(own))
    files = a_night()
    files["sections"].append(section("s4", "", "t2", "Art"))
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0003"]
    files["sections"].append(section("s5", "0011", "t1", "Art"))
    files["enrollments"] += [enrollment("s4", 3), enrollment("s5", 3), enrollment("s5", 5)]
    first = bytes_of(files)
    made = planned(tmp_path / "first", {}, settings=rules, **first)
    now, known = after(empty_roster(), made), known_of(tmp_path / "first", first, made)
    files["enrollments"] += [enrollment("s4", 7), enrollment("s4", 9)]
    tonight = bytes_of(files)
    whole, short = (planned(tmp_path / "second", {}, now, settings=rules, before=made.shapes, known=each, **tonight) for each in (None, known))
    assert told(short) == told(whole)
    assert not short.whole
    assert short.flowing is not None
    assert "0003" in short.flowing.changes["students"]["sis_id"].to_list()


def test_what_is_no_longer_kept_has_all_read(tmp_path: Path) -> None:
    first = bytes_of(a_night())
    made = planned(tmp_path / "first", {}, **first)
    now, known = after(empty_roster(), made), known_of(tmp_path / "first", first, made)
    files = a_night()
    files["students"][0]["Last_name"] = "Other"
    tonight = bytes_of(files)
    (tmp_path / "first" / "students.csv").write_bytes(first["students"].replace(b"Last2,", b"LastX,"))
    assert planned(tmp_path / "second", {}, now, before=made.shapes, known=known, **tonight).whole, "a file that is not the one that was sealed"
    (tmp_path / "first" / "students.csv").unlink()
    assert planned(tmp_path / "second", {}, now, before=made.shapes, known=known, **tonight).whole
