"""Real files of real shape, pushed with OpenSSH's own client: what lies in ../shared/samples beside this checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sftp_ingest.config import FILE_NAME
from tests.acceptance.conftest import Home, rows_of

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
CONROYSJ = SAMPLES / "conroysj_clever-sandbox"
GENAI = SAMPLES / "genai_district"
SFTP = shutil.which("sftp")

pytestmark = [
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="no ../shared/samples beside this checkout"),
    pytest.mark.skipif(SFTP is None, reason="OpenSSH's sftp is not installed"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A daemon that knows four districts, one of which wants Clever's own strictness."""
    folder = tmp_path_factory.mktemp("samples")
    made = Home.make(folder, f"sqlite:///{folder / 'sftp-ingest.db'}", "conroysj", "conroysj-strict", "cedarridge", "summitheights")
    with (folder / FILE_NAME).open("a", encoding="utf-8") as config:
        config.write('\n[districts."conroysj-strict"]\nstrict = true\n')
    made.serve()
    yield made
    made.close()


def push(home: Home, folder: Path, district: str) -> None:
    """Upload as a district's nightly script does: `sftp -b` with a key."""
    script = home.folder / f"{district}.batch"
    script.write_text("".join(f'put "{path}"\n' for path in sorted(folder.glob("*.csv"))) + "ls -l\nbye\n", encoding="utf-8")
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "BatchMode=yes")
    arguments = [SFTP or "", "-F", "/dev/null", "-P", str(home.port), "-i", str(home.key), *(word for option in options for word in ("-o", option))]
    done = subprocess.run([*arguments, "-b", str(script), f"{district}@127.0.0.1"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "students.csv" in done.stdout


def ids(path: Path, *columns: str) -> set[tuple[str, ...]]:
    """The distinct keys of a file, to the letter."""
    return {tuple(row[column] for column in columns) for row in rows_of(path)}


def users(home: Home, district: str, role: str) -> set[tuple[str, ...]]:
    """The ids of the district's active users in this role."""
    return {(row["sis_id"],) for row in home.records("users", district) if row["role"] == role}


def test_the_sandbox_district_is_accepted_whole_with_warnings(home: Home) -> None:
    push(home, CONROYSJ, "conroysj")
    assert home.wait_for_runs(1, "conroysj").outcome == "successful"

    students, teachers = users(home, "conroysj", "student"), users(home, "conroysj", "teacher")
    schools = {(row["school_id"],) for row in home.records("schools", "conroysj")}
    sections = {(row["section_id"],) for row in home.records("sections", "conroysj")}
    enrollments = {(row["section_id"], row["student_id"]) for row in home.records("enrollments", "conroysj")}
    assert (len(schools), len(students), len(teachers), len(sections), len(enrollments)) == (3, 1004, 89, 379, 8971)
    assert schools == ids(CONROYSJ / "schools.csv", "School_id")
    assert students == ids(CONROYSJ / "students.csv", "Student_id")
    assert teachers == ids(CONROYSJ / "teachers.csv", "Teacher_id")
    assert sections == ids(CONROYSJ / "sections.csv", "Section_id")
    assert enrollments == ids(CONROYSJ / "enrollments.csv", "Section_id", "Student_id")

    told = json.loads(home.fetch("reports/latest.json", "conroysj"))
    assert {each["severity"] for each in told["findings"]} == {"warn"}
    assert {("header_derived", "School_number"), ("header_unknown", "Nces_id")} <= {(each["code"], each["column"]) for each in told["findings"]}
    assert {row["number"] for row in home.records("schools", "conroysj")} == {school for (school,) in schools}


def test_the_sandbox_district_is_refused_where_clevers_strictness_is_wanted(home: Home) -> None:
    push(home, CONROYSJ, "conroysj-strict")
    assert home.wait_for_runs(1, "conroysj-strict").outcome == "refused"

    told = json.loads(home.fetch("reports/latest.json", "conroysj-strict"))
    refusing = {(each["code"], each["file"], each["column"]) for each in told["findings"] if each["severity"] == "refuse"}
    assert ("header_derived", "schools.csv", "School_number") in refusing
    assert ("header_unknown", "schools.csv", "Nces_id") in refusing
    assert not any(home.roster("conroysj-strict").values())


@pytest.mark.parametrize(("district", "folder"), [("cedarridge", "CedarRidge_Data"), ("summitheights", "SummitHeights_Data")])
def test_the_small_districts_are_accepted_with_their_staff(home: Home, district: str, folder: str) -> None:
    push(home, GENAI / folder, district)
    assert home.wait_for_runs(1, district).outcome == "successful"
    assert len(users(home, district, "staff")) == 6
    for role, column in (("student", "Student_id"), ("teacher", "Teacher_id"), ("staff", "Staff_id")):
        assert users(home, district, role) == ids(GENAI / folder / f"{'staff' if role == 'staff' else role + 's'}.csv", column)
