"""Clever's format and OneRoster's tell the same: one district in both is one roster, and what is exported in either changes nothing when loaded."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given

from sftp_ingest import sample
from sftp_ingest.model import Roster
from sftp_ingest.planning import Plan, plan
from sftp_ingest.roster import export, export_oneroster, formats
from tests.unit.districts import Files, content, delivery_of, small
from tests.unit.test_export import EVERYTHING, after_nights, assert_unchanged, roster_of_folder
from tests.unit.test_laws import QUICK, districts, roster_of

pytestmark = [
    pytest.mark.skipif("oneroster" not in formats.FORMATS, reason="OneRoster is not among the formats that are read"),
    pytest.mark.parametrize("version", export_oneroster.VERSIONS),
]


def again(roster: Roster, version: str) -> Plan:
    """What the roster's own OneRoster files would do to it."""
    with TemporaryDirectory() as folder:
        export.save(Path(folder), export_oneroster.oneroster(roster, version))
        return plan(delivery_of(Path(folder)), EVERYTHING, roster)


@QUICK
@given(files=districts())
def test_a_roster_exported_in_oneroster_and_loaded_changes_nothing(version: str, files: Files) -> None:
    assert_unchanged(again(roster_of(files), version))


def test_a_contact_without_an_id_and_with_several_phones_stays_the_same_in_oneroster(version: str) -> None:
    files = small()
    for row in files["students"]:
        row |= {"Contact_sis_id": "", "Contact_phone_type": "Cell", "Contact_email": "kim@example.org"}
    files["students"] += [row | {"Contact_phone": "2125550199", "Contact_phone_type": "Work"} for row in files["students"][:1]]
    assert_unchanged(again(roster_of(files), version))


def test_staff_of_all_schools_and_of_several_stay_the_same_in_oneroster(version: str) -> None:
    files = small()
    files["staff"] = [
        {"School_id": school, "Staff_id": person, "Staff_email": f"{person}@example.org", "First_name": "Ada", "Last_name": "King", "Title": "Dean"}
        for school, person in (("0011", "a1"), ("0012", "a1"), ("district", "a2"))
    ]
    assert_unchanged(again(roster_of(files), version))


@pytest.mark.parametrize(("students", "nights"), [(20, 1), (400, 3)])
def test_the_generators_two_formats_of_one_district_are_one_roster(tmp_path: Path, version: str, students: int, nights: int) -> None:
    sent = sample.write(tmp_path / "clever", students=students, nights=nights, seed=9)
    made = sample.write(tmp_path / "oneroster", students=students, nights=nights, seed=9, format="oneroster", oneroster_version=version)
    assert [night.story for night in sent] == [night.story for night in made]
    for one, other in zip(sent, made, strict=True):
        now = roster_of_folder(one.folder, EVERYTHING)
        assert content(roster_of_folder(other.folder, EVERYTHING)) == content(now)
        assert_unchanged(plan(delivery_of(other.folder), EVERYTHING, now))


def test_a_sample_district_exported_in_oneroster_and_loaded_changes_nothing(tmp_path: Path, version: str) -> None:
    assert_unchanged(again(after_nights(tmp_path, EVERYTHING), version))
