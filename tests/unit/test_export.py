"""What is exported is the roster: loaded again it changes nothing, whoever wrote the files first."""

from __future__ import annotations

import csv
import stat
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given

from sftp_ingest import sample
from sftp_ingest.config import Settings
from sftp_ingest.errors import ConfigError
from sftp_ingest.model import Delivery, Roster
from sftp_ingest.planning import Plan, empty_roster, plan
from sftp_ingest.roster import contract, export, export_oneroster
from sftp_ingest.roster.arrow import TEXT
from tests.unit.districts import TOLERANT, Files, applied, content, delivery_of, planned, small, student
from tests.unit.test_laws import QUICK, districts, roster_of
from tests.unit.test_side_files import STAFF, custom

EVERYTHING = replace(
    TOLERANT, keep_sensitive=tuple(field.column for field in contract.load("clever").tables["students"].fields if field.sensitive and not field.drop)
)
"""No limits, and every sensitive column is kept."""


def exported(roster: Roster, folder: Path) -> Delivery:
    """The roster's files as a delivery, those of sub-folders included."""
    export.save(folder, export.clever(roster, contract.load("clever")))
    return delivery_of(folder)


def again(roster: Roster, settings: Settings = TOLERANT) -> Plan:
    """What the roster's own files would do to it."""
    with TemporaryDirectory() as folder:
        return plan(exported(roster, Path(folder)), settings, roster)


def roster_of_folder(folder: Path, settings: Settings = TOLERANT) -> Roster:
    """What a folder's files make of a district that has nothing yet."""
    return applied(empty_roster(), plan(delivery_of(folder), settings, empty_roster()))


def after_nights(folder: Path, settings: Settings, *, faults: bool = False) -> Roster:
    """A district of the generator after three nights."""
    now = empty_roster()
    for night in sample.write(folder, students=300, nights=3, seed=2, faults=faults):
        now = applied(now, plan(delivery_of(night.folder), settings, now))
    return now


def as_sent(roster: Roster) -> Roster:
    """The roster without what is derived from the files."""
    derived = {name: ["school_id", "school_ids"] for name in ("students", "teachers")} | {"sections": ["name", "grade", "subject"]}
    return Roster({name: frame.drop(columns=derived.get(name, [])) for name, frame in roster.entities.items()})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_unchanged(made: Plan) -> None:
    assert made.flowing is not None, made.findings
    assert {name: frame.to_dict("records") for name, frame in made.flowing.changes.items() if len(frame)} == {}
    assert made.outcome == "unchanged"


@QUICK
@given(districts())
def test_a_roster_exported_and_loaded_changes_nothing(files: Files) -> None:
    made = again(roster_of(files))
    assert_unchanged(made)
    assert {each.severity for each in made.findings} <= {"warn"}


@QUICK
@given(districts(), districts())
def test_who_has_left_is_not_exported(before: Files, after: Files) -> None:
    with TemporaryDirectory() as folder:
        now = roster_of(before)
        now = applied(now, planned(Path(folder), after, now))
    assert_unchanged(again(now))


@pytest.mark.parametrize("settings", [TOLERANT, EVERYTHING], ids=["usual", "all-sensitive-columns"])
def test_a_sample_district_exported_and_loaded_changes_nothing(tmp_path: Path, settings: Settings) -> None:
    assert_unchanged(again(after_nights(tmp_path, settings), settings))


def test_after_a_night_with_faults_the_export_can_change_only_what_is_derived(tmp_path: Path) -> None:
    """What was derived of records in doubt is as it was before that night; what was sent of them stands, and from it all is derived anew."""
    now = after_nights(tmp_path, TOLERANT, faults=True)
    told = applied(now, again(now))
    assert content(as_sent(told)) == content(as_sent(now))
    assert_unchanged(again(told))


def test_the_first_night_and_its_export_are_the_same_roster(tmp_path: Path) -> None:
    (night,) = sample.write(tmp_path / "sent", students=200)
    now = applied(empty_roster(), plan(delivery_of(night.folder), EVERYTHING, empty_roster()))
    told = applied(empty_roster(), plan(exported(now, tmp_path / "exported"), EVERYTHING, empty_roster()))
    assert content(told) == content(now)


def test_every_phone_of_a_contact_has_a_row_of_its_own(tmp_path: Path) -> None:
    files = small()
    files["students"][0]["Contact_phone_type"] = "Cell"
    files["students"] += [student(1, Contact_phone=phone, Contact_phone_type=kind) for phone, kind in (("2125550101", "Work"), ("2125550102", "Home"))]
    now = roster_of(files)
    assert_unchanged(again(now))
    exported(now, tmp_path / "out")
    phones = sorted(row["Contact_phone"] for row in rows(tmp_path / "out" / "students.csv") if row["Student_id"] == "0001")
    assert phones == ["2125550100", "2125550101", "2125550102"]


def test_awkward_cells_come_back_as_they_were(tmp_path: Path) -> None:
    files = small()
    files["schools"][0]["School_name"] = 'The "Oak", North'
    files["students"][0] |= {"First_name": "Zoë", "Last_name": "O'Brien, Jr.", "Middle_name": "two\nlines", "Contact_sis_id": "", "ext.a,b": '"x"'}
    now = roster_of(files)
    assert_unchanged(again(now))
    exported(now, tmp_path / "out")
    assert b'"The ""Oak"", North"' in (tmp_path / "out" / "schools.csv").read_bytes()


def test_co_teachers_stand_in_the_columns_of_their_positions(tmp_path: Path) -> None:
    files = small()
    files["teachers"] += [{**files["teachers"][0], "Teacher_id": f"t{number}"} for number in range(3, 12)]
    for number in range(2, 11):
        files["sections"][0][f"Teacher_{number}_id"] = f"t{number}"
    files["sections"][1]["Teacher_3_id"] = "t1"
    now = roster_of(files)
    assert_unchanged(again(now))
    exported(now, tmp_path / "out")
    first, second, _ = rows(tmp_path / "out" / "sections.csv")
    assert [first["Teacher_id"], *(first[f"Teacher_{number}_id"] for number in range(2, 11))] == [f"t{number}" for number in range(1, 11)]
    assert (second["Teacher_2_id"], second["Teacher_3_id"]) == ("", "t1")


def test_courses_terms_and_their_description_are_told_by_the_sections() -> None:
    files = small()
    for row in files["sections"]:
        row |= {"Course_number": row["Course_name"][:1], "Course_description": f"All of {row['Course_name']}", "Term_end": "2027-06-11", "Period": "2(A-B)"}
    assert_unchanged(again(roster_of(files)))


def test_staff_of_several_schools_have_several_rows(tmp_path: Path) -> None:
    files = small()
    files["staff"] = [
        {"School_id": school, "Staff_id": "a1", "Staff_email": "a1@example.org", "First_name": "Grace", "Last_name": "Hopper", "Role": "School Tech Lead"}
        for school in ("0012", "0011")
    ] + [{"School_id": "district", "Staff_id": "a2", "Staff_email": "a2@example.org", "First_name": "Ada", "Last_name": "King"}]
    now = roster_of(files)
    assert_unchanged(again(now))
    exported(now, tmp_path / "out")
    assert [(row["Staff_id"], row["School_id"]) for row in rows(tmp_path / "out" / "staff.csv")] == [("a1", "0011"), ("a1", "0012"), ("a2", "district")]


def test_columns_in_which_nothing_stands_are_left_out_and_required_ones_never(tmp_path: Path) -> None:
    exported(roster_of(small()), tmp_path)
    assert "Middle_name" not in rows(tmp_path / "students.csv")[0] and "Password" not in rows(tmp_path / "students.csv")[0]
    exported(empty_roster(), tmp_path / "empty")
    assert (tmp_path / "empty" / "teachers.csv").read_text() == "School_id,Teacher_id,First_name,Last_name\n"
    assert not (tmp_path / "empty" / "staff.csv").exists()


def test_the_order_of_the_roster_means_nothing(tmp_path: Path) -> None:
    now = roster_of(small(8))
    shuffled = Roster({name: frame.sample(frac=1, random_state=7).reset_index(drop=True) for name, frame in now.entities.items()})
    for name, roster in (("one", now), ("other", shuffled)):
        exported(roster, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_files_are_their_owners_alone_and_are_not_overwritten_unasked(tmp_path: Path) -> None:
    told = export.clever(roster_of(small()), contract.load("clever"))
    for made in export.save(tmp_path / "out", told):
        path = tmp_path / "out" / made.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (made.rows, made.size) == (len(rows(path)), path.stat().st_size)
    kept = (tmp_path / "out" / "students.csv").read_bytes()
    other = export.clever(roster_of(small(2)), contract.load("clever"))
    with pytest.raises(ConfigError, match=r"students\.csv, teachers\.csv already"):
        export.save(tmp_path / "out", other)
    assert (tmp_path / "out" / "students.csv").read_bytes() == kept
    export.save(tmp_path / "out", other, force=True)
    assert (tmp_path / "out" / "students.csv").read_bytes() != kept
    assert not list((tmp_path / "out").glob(".*"))


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    told = export.clever(roster_of(small()), contract.load("clever"))
    export.save(tmp_path, told)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def broken() -> list[export.Columns]:
        raise OSError(28, "No space left on device")

    files = (*told.files[:-1], replace(told.files[-1], blocks=broken))
    with pytest.raises(ConfigError, match="No space left"):
        export.save(tmp_path, replace(told, files=files), force=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_teachers_beyond_the_tenth_are_counted_as_left_out() -> None:
    now = roster_of(small())
    links = now.entities["section_teachers"]
    surplus = pd.DataFrame({"section_id": ["s1"], "teacher_id": ["t2"], "position": ["11"]}, dtype=TEXT).assign(active=True)
    told = export.clever(Roster({**now.entities, "section_teachers": pd.concat([links, surplus], ignore_index=True)}), contract.load("clever"))
    assert told.left_out == {"section_teachers": 1}


def test_what_came_from_side_files_goes_back_into_them(tmp_path: Path) -> None:
    files = small() | custom()
    files["customstudents/students"][0] |= {"Grade": "6", "DOB": "2014-05-06"}
    files["extensionfields/students_ext"] = [{"Sis_id": "x1", "ext.bus": "7"}, {"Sis_id": "0002", "ext.bus": "8"}]
    files["staff"] = [STAFF, STAFF | {"School_id": "0012"}]
    files["preferred-sis-data/staff"] = [STAFF | {"Staff_id": "p2", "Title": "Head"}]
    files["admins"] = [{"School_id": "0011", "Staff_id": "p3", "Admin_email": "p3@example.org", "First_name": "Old", "Last_name": "Form"}]
    now = roster_of(files)
    exported(now, tmp_path)
    told = {path.relative_to(tmp_path).as_posix(): len(rows(path)) for path in tmp_path.rglob("*.csv")}
    assert told == {
        "schools.csv": 2, "teachers.csv": 2, "students.csv": 6, "sections.csv": 3, "enrollments.csv": 7, "staff.csv": 2, "admins.csv": 1,
        "preferred-sis-data/staff.csv": 1, "customstudents/students.csv": 1, "customteachers/teachers.csv": 1, "customsections/sections.csv": 1,
        "customsections/enrollments.csv": 2, "customcontacts/contacts.csv": 1, "extensionfields/students_ext.csv": 1,
    }  # fmt: skip
    assert_unchanged(again(now))
    assert content(roster_of_folder(tmp_path)) == content(now)


# ---------------------------------------------------------------- OneRoster


def cells(folder: Path) -> dict[str, list[list[tuple[str, str]]]]:
    """The rows of every file, in no order, without blank cells."""
    return {path.name: sorted(sorted(pair for pair in row.items() if pair[1]) for row in rows(path)) for path in folder.iterdir()}


@pytest.mark.parametrize("version", export_oneroster.VERSIONS)
def test_the_generator_and_the_export_write_one_district_alike_in_oneroster(tmp_path: Path, version: str) -> None:
    """The one from its numbers, the other from what was read of the same district in Clever's format."""
    (sent,) = sample.write(tmp_path / "clever", students=300, seed=4)
    (made,) = sample.write(tmp_path / "oneroster", students=300, seed=4, format="oneroster", oneroster_version=version)
    now = applied(empty_roster(), plan(delivery_of(sent.folder), EVERYTHING, empty_roster()))
    export.save(tmp_path / "exported", export_oneroster.oneroster(now, version))
    one, other = cells(made.folder), cells(tmp_path / "exported")
    assert one.keys() == other.keys()
    for name in one:
        assert one[name] == other[name], name


def test_two_kinds_of_people_with_one_id_cannot_be_told_in_oneroster() -> None:
    files = small()
    files["teachers"].append({**files["teachers"][0], "Teacher_id": "0001"})
    with pytest.raises(ConfigError, match="1 ids are used for two kinds of people"):
        export_oneroster.oneroster(roster_of(files), "1.1")
