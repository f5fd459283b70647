"""The sample districts are what they claim to be: valid, repeatable, and changed every night as their story says."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sftp_ingest import planning, sample
from sftp_ingest.errors import ConfigError
from sftp_ingest.sample.faults import WRONG_CELLS
from sftp_ingest.sample.oneroster import VERSIONS
from tests.unit.districts import TOLERANT, delivery_of

FILES = ("schools", "teachers", "students", "staff", "sections", "enrollments")
DISTRICTS = [(20, 5, 0), (21, 6, 3), (333, 3, 1), (2_000, 3, 2)]
GRADES = ("Kindergarten", *(str(grade) for grade in range(1, 13)))

Row = dict[str, str]
Files = Mapping[str, list[Row]]


def read(folder: Path) -> Files:
    """Every row of a night, with the header's names."""
    files = {}
    for name in FILES:
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            files[name] = list(csv.DictReader(file))
    return files


def lines(folder: Path, name: str) -> list[str]:
    """A file's lines as they stand, without the header."""
    return (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()[1:]


def own(row: Row) -> Row:
    """A student's columns without the contact's."""
    return {column: cell for column, cell in row.items() if not column.startswith("Contact_")}


def people(files: Files) -> dict[str, Row]:
    """Each student once."""
    return {row["Student_id"]: own(row) for row in files["students"]}


def seats(files: Files) -> dict[str, set[str]]:
    """Student → sections."""
    found: dict[str, set[str]] = {}
    for row in files["enrollments"]:
        found.setdefault(row["Student_id"], set()).add(row["Section_id"])
    return found


@pytest.fixture(scope="module", params=DISTRICTS, ids=lambda of: f"{of[0]}-students-seed-{of[2]}")
def nights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[sample.Night, ...]:
    students, count, seed = request.param
    return sample.write(tmp_path_factory.mktemp("district"), students=students, nights=count, seed=seed)


@pytest.fixture(scope="module")
def read_nights(nights: tuple[sample.Night, ...]) -> list[Files]:
    return [read(night.folder) for night in nights]


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        sample.write(tmp_path / copy, students=200, nights=3, seed=5, faults=True)
    written = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.csv"))
    assert len(written) == 18
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in written)


def test_another_seed_gives_another_district(tmp_path: Path) -> None:
    one, two = (sample.write(tmp_path / str(seed), students=50, seed=seed)[0].folder for seed in (1, 2))
    assert lines(one, "students") != lines(two, "students")


def test_more_nights_do_not_change_the_earlier_ones(tmp_path: Path) -> None:
    (short,) = sample.write(tmp_path / "short", students=50)
    long, *_ = sample.write(tmp_path / "long", students=50, nights=3, faults=True)
    assert all(lines(short.folder, name) == lines(long.folder, name) for name in FILES)


def test_every_reference_resolves_on_every_night(read_nights: list[Files]) -> None:
    for files in read_nights:
        schools = {row["School_id"] for row in files["schools"]}
        home = {row["Section_id"]: row["School_id"] for row in files["sections"]}
        faculty = {row["Teacher_id"]: row["School_id"] for row in files["teachers"]}
        students = people(files)
        assert {row["School_id"] for name in FILES for row in files[name]} == schools
        for row in files["sections"]:
            assert faculty[row["Teacher_id"]] == row["School_id"]
            assert row["Teacher_2_id"] != row["Teacher_id"]
            assert row["Teacher_2_id"] == "" or faculty[row["Teacher_2_id"]] == row["School_id"]
        for row in files["enrollments"]:
            assert home[row["Section_id"]] == row["School_id"] == students[row["Student_id"]]["School_id"]


def test_every_student_has_six_sections_and_every_section_a_student(read_nights: list[Files]) -> None:
    for files in read_nights:
        chosen = seats(files)
        assert chosen.keys() == people(files).keys()
        assert {len(sections) for sections in chosen.values()} == {6}
        assert len(files["enrollments"]) == 6 * len(chosen)
        assert set().union(*chosen.values()) == {row["Section_id"] for row in files["sections"]}


@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_district_lives_long_without_an_empty_section(tmp_path: Path, seed: int) -> None:
    nights = sample.write(tmp_path, students=20, nights=30, seed=seed)
    for night in nights[2:]:
        assert len({line.split(",")[1] for line in lines(night.folder, "enrollments")}) == night.sections
        assert {night.story[kind] for kind in ("added", "left", "returned", "edited", "moved_school", "moved_section")} == {1}


def test_ids_are_unique_and_keep_their_leading_zeros(read_nights: list[Files]) -> None:
    for files in read_nights:
        keys = {"schools": "School_id", "teachers": "Teacher_id", "sections": "Section_id"}
        for name, key in keys.items():
            assert len({row[key] for row in files[name]}) == len(files[name])
        contacts = [row["Contact_sis_id"] for row in files["students"] if row["Contact_name"]]
        assert len(set(contacts)) == len(contacts)
        assert files["schools"][0]["School_id"] == "0012"
        assert files["sections"][0]["Section_id"] == "0012-000345"
        for name, key, width in (("schools", "School_id", 4), ("students", "Student_id", 9), ("teachers", "Teacher_id", 7), ("staff", "Staff_id", 6)):
            assert all(row[key].startswith("0") and len(row[key]) == width for row in files[name])


def test_grades_fit_the_school_and_the_age(read_nights: list[Files]) -> None:
    for files in read_nights:
        span = {row["School_id"]: (GRADES.index(row["Low_grade"]), GRADES.index(row["High_grade"])) for row in files["schools"]}
        for row in [*people(files).values(), *files["sections"]]:
            low, high = span[row["School_id"]]
            assert low <= GRADES.index(row["Grade"]) <= high
        for student in people(files).values():
            month, day, year = map(int, student["DOB"].split("/"))
            age = (date(2026, 9, 1) - date(year, month, day)).days / 365.25
            assert abs(age - 5.5 - GRADES.index(student["Grade"])) < 2  # an edit or two may have corrected the grade
            assert int(student["Graduation_year"]) == 2039 - GRADES.index(student["Grade"])


def test_rows_of_one_student_lie_together_and_differ_only_in_the_contact(read_nights: list[Files]) -> None:
    for files in read_nights:
        rows = files["students"]
        repeated = [(one, two) for one, two in pairwise(rows) if one["Student_id"] == two["Student_id"]]
        assert len(rows) - len(repeated) == len(people(files))
        assert 1.1 < len(rows) / len(people(files)) < 1.3
        for one, two in repeated:
            assert own(one) == own(two)
            assert one["Contact_sis_id"] != two["Contact_sis_id"]


def test_contacts_are_whole_or_absent(read_nights: list[Files]) -> None:
    for row in read_nights[-1]["students"]:
        cells = [cell for column, cell in row.items() if column.startswith("Contact_")]
        assert all(cells) or not any(cells)
        assert not row["Contact_phone"] or (row["Contact_phone"].isdecimal() and len(row["Contact_phone"]) == 10)


def test_the_story_is_what_the_files_show(nights: tuple[sample.Night, ...], read_nights: list[Files]) -> None:
    gone: dict[str, tuple[Row, set[str]]] = {}
    for night, before, after in zip(nights[1:], read_nights[:-1], read_nights[1:], strict=True):
        was, now, sat, sits = people(before), people(after), seats(before), seats(after)
        came, stayed = now.keys() - was.keys(), now.keys() & was.keys()
        back = came & gone.keys()
        moved = {each for each in stayed if was[each]["School_id"] != now[each]["School_id"]}
        teachers = {row["Teacher_id"]: row for row in before["teachers"]}
        assert night.story == {
            "added": len(came - back),
            "left": len(was.keys() - now.keys()),
            "returned": len(back),
            "edited": sum(was[each] != now[each] for each in stayed - moved),
            "moved_school": len(moved),
            "moved_section": sum(len(sat[each] - sits[each]) == 1 for each in stayed - moved),
            "teachers_edited": sum(row != teachers[row["Teacher_id"]] for row in after["teachers"]),
            "faults": 0,
        }
        assert all((now[each], sits[each]) == gone[each] for each in back)
        assert all(not sat[each] & sits[each] for each in moved)
        gone = {each: (was[each], sat[each]) for each in was.keys() - now.keys()}


def test_the_counts_of_a_night_are_those_of_its_files(nights: tuple[sample.Night, ...], read_nights: list[Files]) -> None:
    for night, files in zip(nights, read_nights, strict=True):
        assert night.students == len(people(files))
        assert (night.teachers, night.sections, night.enrollments) == tuple(len(files[name]) for name in ("teachers", "sections", "enrollments"))


def test_every_kind_of_change_happens_every_night_and_only_a_few_leave(nights: tuple[sample.Night, ...]) -> None:
    assert not any(nights[0].story.values())
    for number, night in enumerate(nights[1:], start=2):
        happened = dict(night.story)
        del happened["faults"]
        if number == 2:
            assert happened.pop("returned") == 0
        assert all(happened.values())
        assert night.story["left"] <= 8


def test_rows_that_stay_keep_their_order_and_new_ones_follow(read_nights: list[Files]) -> None:
    for before, after in pairwise(read_nights):
        was, now = list(people(before)), list(people(after))
        stayed = [each for each in was if each in set(now)]
        assert now[: len(stayed)] == stayed
        for name in ("schools", "staff", "sections"):
            assert before[name] == after[name]


def test_a_district_looks_like_one(tmp_path: Path) -> None:
    (night,) = sample.write(tmp_path, students=2_000)
    files = read(night.folder)
    students, text = people(files).values(), (night.folder / "students.csv").read_text(encoding="utf-8")
    assert not text.isascii() and "\r" not in text and not text.startswith("\ufeff")
    assert any("'" in each["Last_name"] for each in students) and any("-" in each["Last_name"] for each in students)
    assert any("," in each["Student_street"] for each in students) and '""Garden House""' in text
    assert '""' not in text.replace('""Garden House""', "")  # an absent cell is nothing between two commas
    assert all(each["Student_email"].isascii() and each["Student_email"].endswith("@students.example.org") for each in students)
    assert all(column not in row for row in files["students"][:1] for column in ("Password", "NCES_id"))
    assert {"Heron", "Otter", "Fox", "Owl"} == {each["ext.house"] for each in students}
    sizes = Counter(row["Section_id"] for row in files["enrollments"]).values()
    assert 20 < sum(sizes) / len(sizes) <= 25 and max(sizes) <= 25
    assert 14 < night.students / night.teachers < 18
    assert 0.08 < sum(row["Teacher_2_id"] != "" for row in files["sections"]) / night.sections < 0.12
    rows = Counter(row["Staff_id"] for row in files["staff"])
    assert sorted(rows.values(), reverse=True)[:2] == [2, 1]
    busy = Counter((row["Teacher_id"], row["Period"]) for row in files["sections"])
    assert set(busy.values()) == {1}


def test_no_line_is_quoted_more_than_it_needs(tmp_path: Path) -> None:
    (night,) = sample.write(tmp_path, students=300)
    for name in FILES:
        path = night.folder / f"{name}.csv"
        again = tmp_path / "again.csv"
        with path.open(encoding="utf-8", newline="") as source, again.open("w", encoding="utf-8", newline="") as copy:
            csv.writer(copy, lineterminator="\n").writerows(csv.reader(source))
        assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("students", "nights"), [(20, 1), (20, 4), (500, 3)])
def test_faults_are_in_the_last_night_only(tmp_path: Path, students: int, nights: int) -> None:
    clean = sample.write(tmp_path / "clean", students=students, nights=nights)
    faulty = sample.write(tmp_path / "faulty", students=students, nights=nights, faults=True)
    for one, two in zip(clean[:-1], faulty[:-1], strict=True):
        assert one.story == two.story
        assert all(lines(one.folder, name) == lines(two.folder, name) for name in FILES)
    different = sum(len(Counter(lines(faulty[-1].folder, name)) - Counter(lines(clean[-1].folder, name))) for name in FILES)
    assert faulty[-1].story == {**clean[-1].story, "faults": 13}
    assert different == 13


def test_each_fault_is_the_one_that_the_docstring_names(tmp_path: Path) -> None:
    clean, faulty = (sample.write(tmp_path / name, students=100, nights=2, faults=name == "faulty") for name in ("clean", "faulty"))
    whole, night = read(clean[-1].folder), faulty[-1].folder
    known = people(read(clean[0].folder))
    width = len(whole["students"][0])
    good = set(lines(clean[-1].folder, "students"))
    bad = [line for line in lines(night, "students") if line not in good]
    rows = [next(csv.reader([line])) for line in bad]
    columns = list(whole["students"][0])
    plain = [dict(zip(columns, row, strict=True)) for row in rows if len(row) == width]
    assert all(row[1] in known for row in rows if any(row)), "only students of the night before are hit"
    assert Counter(len(row) for row in rows) == {width: 6, width - 1: 1, width + 1: 1}
    assert bad[-1] == "," * (width - 1)
    assert sum(row["Last_name"] == "" and row["First_name"] != "" for row in plain) == 1
    assert [f"00{row['School_id']}" in {row["School_id"] for row in whole["schools"]} for row in plain if row["School_id"][:1] == "1"] == [True]
    assert sum(row["Grade"] == "Freshman" for row in plain) == 1
    assert sum(row["DOB"] == "13/32/2014" for row in plain) == 1
    assert sum(' "Sunny" ' in line for line in bad) == 1

    spoilt = read(night)
    unknown = [row for row in spoilt["sections"] if row["Teacher_id"] not in {row["Teacher_id"] for row in whole["teachers"]}]
    assert len(unknown) == 1
    for name, key in (("sections", "Section_id"), ("teachers", "Teacher_id")):
        twice = [each for each, count in Counter(row[key] for row in spoilt[name]).items() if count == 2]
        first, second = (row for row in spoilt[name] if row[key] == twice[0])
        assert len(twice) == 1 and first != second
        assert name == "sections" or first["School_id"] != second["School_id"]
    lost = [row for row in spoilt["enrollments"] if row not in whole["enrollments"]]
    assert [row["Section_id"] in {row["Section_id"] for row in whole["sections"]} for row in lost] == [False, True]
    assert [row["Student_id"] in known for row in lost] == [True, False]


@pytest.mark.parametrize("wrong", [{"students": 19}, {"nights": 0}, {"seed": -1}])
def test_arguments_that_make_no_district_are_refused_by_name(tmp_path: Path, wrong: dict[str, int]) -> None:
    arguments = {"students": 20, "nights": 1, "seed": 0} | wrong
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        sample.write(tmp_path, students=arguments["students"], nights=arguments["nights"], seed=arguments["seed"])
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_for_every_file_to_its_end(tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}
    sample.write(tmp_path, students=20, nights=2, progress=lambda file, done, total: told.__setitem__(file, (done, total)))
    assert list(told) == [f"night-{night}/{name}.csv" for night in (1, 2) for name in FILES]
    assert all(done == total > 0 for done, total in told.values())


def test_a_share_of_all_rows_has_a_fault_of_every_kind_the_same_each_time(tmp_path: Path) -> None:
    (clean,) = sample.write(tmp_path / "clean", students=2_000)
    for copy in ("one", "two"):
        (night,) = sample.write(tmp_path / copy, students=2_000, fault_share=0.01)
    assert all(lines(night.folder, name) == lines(tmp_path / "one" / "night-1", name) for name in FILES)
    different = {name: sum(one != two for one, two in zip(lines(clean.folder, name), lines(night.folder, name), strict=True)) for name in FILES}
    assert sum(different.values()) == night.story["faults"] == different["students"] + different["enrollments"]
    rows = {name: len(lines(clean.folder, name)) for name in FILES}
    assert all(0.005 < different[name] / rows[name] < 0.015 for name in ("students", "enrollments"))
    plan = planning.plan(delivery_of(night.folder), TOLERANT, planning.empty_roster())
    assert plan.outcome == "successful"
    told = {each.code for each in plan.findings}
    assert {"value_missing", "value_unknown", "value_malformed", "school_unknown", "section_unknown", "student_unknown"} <= told
    assert {"row_short", "row_long", "quote_unescaped"} <= told


@pytest.mark.parametrize("version", VERSIONS)
def test_a_share_of_oneroster_rows_has_a_fault_of_every_kind(version: str, tmp_path: Path) -> None:
    (clean,) = sample.write(tmp_path / "clean", students=1_000, format="oneroster", oneroster_version=version)
    for copy in ("one", "two"):
        (night,) = sample.write(tmp_path / copy, students=1_000, fault_share=0.03, format="oneroster", oneroster_version=version)
    names = [path.stem for path in clean.folder.iterdir()]
    assert all(lines(night.folder, name) == lines(tmp_path / "one" / "night-1", name) for name in names)
    different = {name: sum(one != two for one, two in zip(lines(clean.folder, name), lines(night.folder, name), strict=True)) for name in names}
    assert {name for name, count in different.items() if count} == {"users", "demographics", "enrollments", "roles"} & set(names)
    assert sum(different.values()) == night.story["faults"]
    plan = planning.plan(delivery_of(night.folder), TOLERANT, planning.empty_roster())
    assert plan.outcome == "successful"
    told = {each.code for each in plan.findings}
    assert {"value_missing", "value_unknown", "value_malformed", "date_unreadable", "school_unknown", "section_unknown", "student_unknown"} <= told
    assert {"row_short", "row_long", "quote_unescaped", "kind_unknown"} <= told


def test_faults_of_a_share_are_in_the_last_night_only(tmp_path: Path) -> None:
    first, last = sample.write(tmp_path, students=500, nights=2, fault_share=0.01)
    assert first.story["faults"] == 0 < last.story["faults"]


@pytest.mark.parametrize("column", WRONG_CELLS)
def test_every_cell_of_the_wrong_column_is_wrong(tmp_path: Path, column: str) -> None:
    (night,) = sample.write(tmp_path, students=50, wrong_column=column)
    rows = read(night.folder)["students"]
    assert night.story["faults"] == len(rows)
    assert all(row[column] == "" or row[column].startswith("?") for row in rows)
    plan = planning.plan(delivery_of(night.folder), TOLERANT, planning.empty_roster())
    assert sum(each.count for each in plan.findings if each.column == column and each.file == "students.csv") == len(rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fault_share": 1.5},
        {"wrong_column": "Shoe_size"},
        {"oneroster_version": "2.0"},
        {"format": "oneroster", "faults": True},
        {"format": "oneroster", "wrong_column": "Grade"},
        {"faults": True, "fault_share": 0.1},
    ],
)
def test_wishes_that_cannot_be_met_are_refused_by_name(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=list(wrong)[-1].split("_")[0]):
        sample.write(tmp_path, students=20, **wrong)
    assert list(tmp_path.iterdir()) == []
