"""The guard: what waits, what flows, and what a release lets through."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sftp_ingest.config import Settings
from sftp_ingest.model import ChangeSet, FileShape, Limits, Roster
from sftp_ingest.planning import Plan, empty_roster
from tests.unit.districts import Files, applied, busy, content, enrollment, planned, section, small, student, without

LIMITED = Settings()
FEW = Settings(limits=Limits(records=2))


def night(folder: Path, files: Files, now: Roster, approved: str = "", before: dict[str, FileShape] | None = None, settings: Settings = LIMITED) -> Plan:
    return planned(folder, files, now, settings=settings, approved=approved, before=before)


def first(folder: Path, files: Files) -> Roster:
    return applied(empty_roster(), planned(folder, files))


def test_ten_may_leave_whatever_the_share(tmp_path: Path) -> None:
    files = small(20)
    now = first(tmp_path, files)
    plan = night(tmp_path, without(files, set(range(2, 12))), now)
    assert plan.hold is None
    assert plan.counts["students"].deactivated == 10


def test_more_than_ten_and_more_than_a_tenth_wait(tmp_path: Path) -> None:
    files = small(60)
    now = first(tmp_path, files)
    plan = night(tmp_path, without(files, set(range(2, 14))), now)
    assert plan.outcome == "on_hold"
    assert plan.hold is not None
    assert any(reason.entity == "students" and reason.kind == "removed" and (reason.count, reason.total) == (12, 60) for reason in plan.hold.reasons)
    assert plan.counts["students"].deactivated == 0
    assert plan.counts["students"].waiting == 12
    assert plan.counts["enrollments"].deactivated == 0, "nobody's classes are emptied while his removal waits"


def test_a_school_that_empties_waits_though_the_district_is_large(tmp_path: Path) -> None:
    files = small(200)
    tiny = [student(number, School_id="0013") for number in range(201, 221)]
    files["schools"].append({"School_id": "0013", "School_name": "Tiny", "School_number": "13"})
    files["students"] += tiny
    files["sections"].append(section("s4", "0013", "t1", "Math"))
    files["enrollments"] += [enrollment("s4", number) for number in range(201, 221)]
    now = first(tmp_path, files)
    plan = night(tmp_path, without(files, set(range(201, 213))), now)
    assert plan.hold is not None
    assert [(reason.entity, reason.school, reason.count, reason.total) for reason in plan.hold.reasons if reason.entity == "students"] == [
        ("students", "0013", 12, 20)
    ]


def test_additions_and_corrections_flow_while_removals_wait(tmp_path: Path) -> None:
    files = small(60)
    now = first(tmp_path, files)
    files = without(files, set(range(2, 14)))
    files["students"][0]["Grade"] = "8"
    files["students"].append(student(99))
    files["enrollments"].append(enrollment("s1", 99))
    plan = night(tmp_path, files, now)
    assert plan.outcome == "on_hold"
    assert (plan.counts["students"].updated, plan.counts["students"].created, plan.counts["enrollments"].created) == (1, 1, 1)


def test_ids_that_lost_their_zeros_wait_on_both_sides(tmp_path: Path) -> None:
    files = small(60)
    now = first(tmp_path, files)
    for table in ("students", "enrollments"):
        for row in files[table]:
            row["Student_id"] = row["Student_id"].lstrip("0")
    plan = night(tmp_path, files, now)
    assert plan.hold is not None
    assert "rekeyed" in {reason.kind for reason in plan.hold.reasons}
    assert plan.flowing is not None and plan.flowing.empty
    assert content(applied(now, plan)) == content(now)


def test_enrollments_wait_for_the_sections_that_they_join(tmp_path: Path) -> None:
    """All sections get other ids: their enrollments would be moves, which no limit counts; but they wait for their sections."""
    files = small(60)
    files["sections"] = [section(f"s{number}", "0011", "t1", "Math") for number in range(1, 21)]
    files["enrollments"] = [{"School_id": "0011", "Section_id": f"s{number % 20 + 1}", "Student_id": f"{number:04}"} for number in range(1, 61)]
    now = first(tmp_path, files)
    for row in files["sections"] + files["enrollments"]:
        row["Section_id"] = "x" + row["Section_id"]
    plan = night(tmp_path, files, now)
    assert plan.hold is not None
    assert plan.hold.scope["enrollments"] == 60
    assert plan.flowing is not None and plan.flowing.empty


def test_a_release_belongs_to_exactly_what_waited(tmp_path: Path) -> None:
    files = small(60)
    now = first(tmp_path, files)
    held = night(tmp_path, without(files, set(range(2, 14))), now)
    assert held.hold is not None
    now = applied(now, held)
    released = night(tmp_path, without(files, set(range(2, 14))), now, approved=held.hold.digest)
    assert (released.outcome, released.counts["students"].deactivated) == ("successful", 12)
    other = night(tmp_path, without(files, set(range(2, 15))), now, approved=held.hold.digest)
    assert other.outcome == "on_hold"


def test_the_digest_does_not_depend_on_what_flows(tmp_path: Path) -> None:
    files = small(60)
    now = first(tmp_path, files)
    one = night(tmp_path, without(files, set(range(2, 14))), now)
    files["students"][0]["Grade"] = "8"
    other = night(tmp_path, without(files, set(range(2, 14))), now)
    assert one.hold is not None and other.hold is not None
    assert one.hold.digest == other.hold.digest


def test_a_column_shifted_over_everybody_waits(tmp_path: Path) -> None:
    files = small(60)
    now = first(tmp_path, files)
    for row in files["students"]:
        row["First_name"] = row["Last_name"]
    plan = night(tmp_path, files, now)
    assert plan.hold is not None
    assert [(reason.entity, reason.kind) for reason in plan.hold.reasons] == [("students", "updated")]
    assert plan.counts["students"].updated == 0


def test_no_removal_flows_on_a_night_when_a_column_is_gone(tmp_path: Path) -> None:
    files = small(20)
    now = first(tmp_path, files)
    before = {"students.csv": FileShape((*(name.lower() for name in files["students"][0]), "gender"))}
    plan = night(tmp_path, without(files, {2}), now, before=before)
    assert plan.hold is not None
    assert ("students", "headers") in {(reason.entity, reason.kind) for reason in plan.hold.reasons}
    assert plan.counts["students"].deactivated == 0


# ---------------------------------------------------------------- what follows


def without_sections(files: Files, gone: set[str]) -> Files:
    return files | {name: [row for row in files[name] if row["Section_id"] not in gone] for name in ("sections", "enrollments")}


def done(change_set: ChangeSet | None, name: str, operation: str = "deactivated") -> pd.DataFrame:
    assert change_set is not None
    frame = change_set.changes[name]
    return frame[(frame["operation"] == operation).to_numpy(dtype=bool)]


def test_what_ends_with_who_leaves_is_not_counted(tmp_path: Path) -> None:
    files = busy(20)
    now = first(tmp_path, files)
    plan = night(tmp_path, without(files, {2, 4, 6}), now)
    assert plan.hold is None
    assert (plan.counts["students"].deactivated, plan.counts["enrollments"].deactivated, plan.counts["contacts"].deactivated) == (3, 18, 3)


def test_what_ends_with_a_section_is_not_counted(tmp_path: Path) -> None:
    files = busy(20)
    now = first(tmp_path, files)
    plan = night(tmp_path, without_sections(files, {"s1", "s2"}), now)
    assert plan.hold is None
    assert (plan.counts["sections"].deactivated, plan.counts["section_teachers"].deactivated, plan.counts["enrollments"].deactivated) == (2, 2, 40)


def test_what_ends_by_itself_is_counted_without_what_follows(tmp_path: Path) -> None:
    files = busy(20)
    now = first(tmp_path, files)
    files = without(files, {2, 4})
    files["enrollments"] = [row for row in files["enrollments"] if row["Section_id"] != "s1"]
    plan = night(tmp_path, files, now)
    assert plan.hold is not None
    assert [(reason.entity, reason.count, reason.total) for reason in plan.hold.reasons] == [("enrollments", 18, 120)]
    assert plan.hold.scope == {"enrollments": 18}
    assert set(done(plan.flowing, "enrollments")["student_id"]) == {"0002", "0004"}


def test_a_membership_goes_with_who_leaves_though_the_section_waits(tmp_path: Path) -> None:
    files = busy(20)
    now = first(tmp_path, files)
    plan = night(tmp_path, without(without_sections(files, {"s1", "s2", "s3"}), {2}), now, settings=FEW)
    assert plan.hold is not None
    assert [(reason.entity, reason.count) for reason in plan.hold.reasons] == [("sections", 3)]
    assert set(done(plan.flowing, "enrollments")["student_id"]) == {"0002"}
    assert len(done(plan.flowing, "enrollments")) == 6
    assert plan.hold.scope == {"sections": 3, "section_teachers": 3, "enrollments": 57}


def test_memberships_of_who_leaves_flow_on_a_night_when_nothing_of_their_own_file_is_believed(tmp_path: Path) -> None:
    files = busy(20)
    now = first(tmp_path, files)
    before = {"enrollments.csv": FileShape((*(name.lower() for name in files["enrollments"][0]), "start_date"))}
    files = without(files, {2})
    files["enrollments"].pop()
    plan = night(tmp_path, files, now, before=before)
    assert plan.hold is not None
    assert plan.hold.scope == {"enrollments": 1}
    assert plan.counts["enrollments"].deactivated == 6


def test_a_section_stays_while_who_would_move_away_waits(tmp_path: Path) -> None:
    """All sections of one school get other ids, which waits; to one of them goes who was in a section that closes elsewhere."""
    files = busy(20, sections=3)
    files["sections"] += [section(f"other{number}", "0012", "t2", "Art") for number in range(12)]
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0002"]
    files["enrollments"] += [{"School_id": "0012", "Section_id": f"other{each}", "Student_id": number} for each, number in ((0, "0002"), (1, "0004"))]
    now = first(tmp_path, files)
    del files["sections"][3]
    for row in files["sections"] + files["enrollments"]:
        if row["School_id"] == "0011":
            row["Section_id"] = "x" + row["Section_id"]
    files["enrollments"][-2] |= {"School_id": "0011", "Section_id": "xs1"}
    plan = night(tmp_path, files, now, settings=Settings(limits=Limits(records=1, removed_share=0.5)))
    assert plan.hold is not None
    assert [(reason.entity, reason.school, reason.kind) for reason in plan.hold.reasons] == [("sections", "0011", "rekeyed")]
    assert plan.hold.scope["sections"] == 7
    assert done(plan.waiting, "enrollments", "moved")["from_section_id"].isin(["other0"]).sum() == 1
    assert done(plan.flowing, "sections").empty


def test_what_should_have_ended_before_ends_whatever_a_rejected_row_says_and_never_waits(tmp_path: Path) -> None:
    files = busy(20)
    now = first(tmp_path, files)
    gone = applied(now, planned(tmp_path, without(files, {2, 4, 6}), now))
    orphaned = Roster({**now.entities, "students": gone.entities["students"]})
    rows = files["enrollments"]
    plan = night(tmp_path, without(files, {2, 4, 6}) | {"enrollments": rows}, orphaned, settings=FEW)
    assert plan.counts["enrollments"].rejected == 18
    assert plan.hold is None
    assert (plan.counts["enrollments"].deactivated, plan.counts["contacts"].deactivated) == (18, 3)
    assert content(applied(orphaned, plan)) == content(gone)


def test_nobody_becomes_the_primary_teacher_while_it_waits_that_another_leaves(tmp_path: Path) -> None:
    files = busy(6, sections=4)
    for number, row in enumerate(files["sections"]):
        files["teachers"].append(files["teachers"][0] | {"Teacher_id": f"u{number}"})
        row |= {"Teacher_id": f"u{number}", "Teacher_2_id": "t2" if number == 0 else ""}
    now = first(tmp_path, files)
    files["teachers"] = [row for row in files["teachers"] if row["Teacher_id"] not in {"u0", "u1", "u2"}]
    for row, teacher in zip(files["sections"], ("t2", "t1", "t1", "t1"), strict=True):
        row |= {"Teacher_id": teacher, "Teacher_2_id": ""}
    plan = night(tmp_path, files, now, settings=FEW)
    assert plan.hold is not None
    assert plan.hold.scope == {"teachers": 3, "section_teachers": 6}
    links = applied(now, plan).entities["section_teachers"]
    primary = links[links["active"] & (links["position"] == "1").to_numpy(dtype=bool)]
    assert dict(zip(primary["section_id"], primary["teacher_id"], strict=True)) == {"s0": "u0", "s1": "u1", "s2": "u2", "s3": "t1"}
