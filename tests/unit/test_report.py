"""A run told to people: its verdict, its causes, and the forms it is told in."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from rich.cells import cell_len
from rich.console import Console

from sftp_ingest.findings import CATALOGUE, Finding, Reading, finding
from sftp_ingest.model import Counts, DeliveredFile, Delivery, District, Hold, HoldReason, Outcome, SyncReport, SyncRun
from sftp_ingest.report import notify, pages, receipt, summary, text

NIGHT = datetime(2026, 11, 23, 2, 5, tzinfo=UTC)
DISTRICT = District("lincoln", "Lincoln Unified", NIGHT)
DELIVERY = Delivery(
    "20261123-1",
    "lincoln",
    NIGHT,
    Path("sealed"),
    (DeliveredFile("students.csv", 18_220_311, "ab" * 32), DeliveredFile("staff.csv", 7, "cd" * 32, resent=False)),
)
HOLD = Hold((HoldReason("students", "", "removed", 120, 1000),), {"students": 120, "enrollments": 1}, "9f2c" * 16)
COUNTS = {"students": Counts(existing=1000, rows=1010, created=12, moved=3, deactivated=2, unchanged=980, rejected=5), "staff": Counts()}


def run_of(number: int, outcome: Outcome | None = None, **counts: Counts) -> SyncRun:
    moment = NIGHT + timedelta(days=number)
    return SyncRun(number, "lincoln", DELIVERY.id, "closed", moment, moment, moment, outcome, counts=counts)


def report_of(
    outcome: Outcome = "successful",
    *findings: Finding,
    counts: dict[str, Counts] = COUNTS,
    hold: Hold | None = None,
    hold_state: str = "",
    run: SyncRun | None = run_of(7),
    history: Sequence[SyncRun] = (),
    district: District = DISTRICT,
) -> SyncReport:
    return summary.make(
        district=district,
        run=run,
        delivery=DELIVERY,
        outcome=outcome,
        findings=findings,
        counts=counts,
        hold=hold,
        hold_state=hold_state,
        seconds={"load": 0.5, "apply": 1.25},
        history=history,
    )


# ---------------------------------------------------------------- the verdict


def test_an_applied_night_says_who_came_moved_and_left() -> None:
    assert report_of().verdict == "Applied: 12 students created, 3 moved, 2 deactivated; 5 rows were left out."


def test_the_verdict_names_three_entities_people_first_and_counts_the_rest_together() -> None:
    counts = {name: Counts(created=1) for name in ("schools", "contacts", "sections", "enrollments", "teachers", "students", "section_teachers")}
    assert report_of(counts=counts).verdict == "Applied: 1 student created; 1 teacher created; 1 enrollment created; 4 other changes."


def test_an_unchanged_night_says_that_the_roster_is_as_sent() -> None:
    assert report_of("unchanged", counts={"students": Counts(unchanged=9)}).verdict == "Unchanged: the roster is as the district sent it."


def test_an_unchanged_night_that_left_out_rows_does_not_say_so() -> None:
    report = report_of("unchanged", counts={"students": Counts(rows=9, rejected=9)})
    assert report.verdict == "Unchanged: what could be used changes nothing; 9 rows were left out."
    assert "<strong>Unchanged</strong>\n<p>What could be used changes nothing; 9 rows" in pages.html(report)


def test_a_refusal_names_each_file_and_says_that_nothing_was_changed() -> None:
    report = report_of(
        "refused", finding("file_cut", "students.csv"), finding("header_missing", "sections.csv", "Section_id", [1]), finding("value_missing", "schools.csv")
    )
    assert report.verdict == "Refused: students.csv breaks off before its end; sections.csv: a required column is missing (Section_id). Nothing was changed."


def test_a_refusal_for_many_reasons_says_how_many_more_there_are() -> None:
    report = report_of("refused", *(finding("file_missing", f"{name}.csv") for name in ("schools", "students", "teachers", "sections", "enrollments")))
    assert report.verdict == "Refused: schools.csv is missing; students.csv is missing; teachers.csv is missing; and 2 more. Nothing was changed."


def test_a_hold_says_what_waits_and_what_went_through() -> None:
    waits = "120 of 1,000 students of the district (12%) would be removed."
    assert report_of("on_hold", hold=HOLD, hold_state="open").verdict == (
        f"On hold: {waits} Everything else was applied: 12 students created, 3 moved, 2 deactivated; 5 rows were left out."
    )
    assert report_of("on_hold", hold=HOLD, counts={}).verdict == f"On hold: {waits} Nothing else had to change."
    assert "A person has released it." in report_of("on_hold", hold=HOLD, hold_state="released").verdict


def test_removals_that_were_withheld_are_told_and_take_the_green_away() -> None:
    report = report_of("successful", finding("removals_withheld", "students.csv", count=40), counts={})
    assert report.verdict == "Applied: nothing had to change; 40 removals were withheld."
    assert summary.tone(report) == "attention"


def test_rows_left_out_in_numbers_take_the_green_away() -> None:
    few, many = ({"students": Counts(rows=100, created=100 - rejected, rejected=rejected)} for rejected in (10, 11))
    assert [summary.tone(report_of(counts=counts)) for counts in (few, many)] == ["good", "attention"]


def test_a_mere_check_says_what_would_happen() -> None:
    assert report_of(run=None).verdict == "Would be applied: 12 students created, 3 moved, 2 deactivated; 5 rows would be left out."
    assert report_of(run=None, counts={"students": Counts(rows=1010, rejected=1)}).verdict == "Good to send: 1,010 rows can be read; 1 row would be left out."
    assert report_of("refused", finding("file_empty", "schools.csv"), run=None).verdict.startswith("Would be refused: schools.csv is empty.")


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_only_an_applied_night_ever_looks_green(outcome: Outcome) -> None:
    report = report_of(outcome, hold=HOLD if outcome == "on_hold" else None)
    assert (summary.tone(report) == "good") == (outcome == "successful")
    assert ("tone-good" in re.findall(r'<section class="verdict ([\w-]+)"', pages.html(report))) == (outcome == "successful")


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_every_outcome_can_be_told_with_nothing_known(outcome: Outcome) -> None:
    report = summary.make(district=DISTRICT, run=None, delivery=None, outcome=outcome, findings=(), counts={}, hold=None)
    assert pages.html(report) and text.plain(report) and json.dumps(summary.as_json(report))


# ---------------------------------------------------------------- the causes


def test_what_follows_from_a_fault_adds_its_rows_to_that_fault() -> None:
    root = finding("value_missing", "students.csv", "Last_name", [14, 15])
    report = report_of("successful", root, finding("parent_rejected", "enrollments.csv", "Student_id", [88, 90, 91], cause=root.label))
    (cause,) = report.causes
    assert cause.finding == root
    assert cause.rows == {"students.csv": 2, "enrollments.csv": 3}


def test_one_wrong_school_in_two_files_is_one_cause() -> None:
    students = finding("school_unknown", "students.csv", "School_id", range(2, 1242), values=["12"], hint="0012 is known")
    sections = finding("school_unknown", "sections.csv", "School_id", range(2, 85), values=["12"], hint="0012 is known")
    other = finding("school_unknown", "sections.csv", "School_id", [99], values=["77"])
    report = report_of("refused", other, sections, students)
    assert [(each.finding, dict(each.rows)) for each in report.causes] == [
        (students, {"students.csv": 1240, "sections.csv": 83}),
        (other, {"sections.csv": 1}),
    ]
    told = summary.told(report)[0]
    assert told.effect == "1,240 rows of students.csv, 83 rows of sections.csv would be left out."
    assert told.hint == "0012 is known."


def test_a_cause_is_one_line_with_the_records_of_every_entity_that_it_leaves_out() -> None:
    students = replace(
        finding("school_unknown", "students.csv", "School_id", range(2, 216), values=["12"], hint="0012 is known"),
        left_out={"enrollments": 1284, "contacts": 230, "students": 214},
    )
    sections = replace(finding("school_unknown", "sections.csv", "School_id", [7], values=["12"]), left_out={"sections": 1, "enrollments": 6})
    follower = finding("parent_rejected", "enrollments.csv", "Student_id", count=1290, cause=students.label)
    report = report_of("successful", students, sections, follower)
    (cause,) = report.causes
    assert list(cause.left_out.items()) == [("students", 214), ("sections", 1), ("enrollments", 1290), ("contacts", 230)]
    effect = (
        "214 students, 1 section, 1,290 enrollments, 230 contacts were left out: "
        "214 rows of students.csv, 1 row of sections.csv, 1,290 rows of enrollments.csv."
    )
    assert summary.told(report)[0].effect == effect
    assert effect in " ".join(text.plain(report).split())
    assert effect in _Page(pages.html(report)).words
    told = json.loads(json.dumps(summary.as_json(report)))
    assert told["causes"][0]["left_out"] == {"students": 214, "sections": 1, "enrollments": 1290, "contacts": 230}
    assert told["findings"][0]["left_out"] == {"enrollments": 1284, "contacts": 230, "students": 214}


def test_drift_concerns_no_rows_and_tells_before_and_now() -> None:
    report = report_of("successful", finding("drift_rows", "students.csv", hint="1,000 → 700 rows"))
    (told,) = summary.told(report)
    assert (told.effect, told.hint, told.places) == ("", "1,000 → 700 rows.", ("students.csv",))
    assert summary.tone(report) == "good"


def test_what_speaks_for_changed_ids_is_told_whole_with_the_hold() -> None:
    evidence = "1,020 of 1,040 are the same people by name and birth date; the new ids are the old ones without leading zeros"
    hold = Hold((HoldReason("students", "", "rekeyed", 1040, 9000, evidence),), {"students": 2080}, "9f2c" * 16)
    report = report_of("on_hold", hold=hold, hold_state="open")
    for told in (report.verdict, " ".join(text.plain(report).split()), _Page(pages.html(report)).words, json.dumps(summary.as_json(report))):
        assert evidence in told


def test_equal_faults_without_a_common_value_stay_apart() -> None:
    report = report_of("refused", finding("file_cut", "students.csv"), finding("file_cut", "sections.csv"))
    assert [each.finding.file for each in report.causes] == ["students.csv", "sections.csv"]


def test_files_that_are_missing_are_one_cause_unless_something_is_said_of_each() -> None:
    files = ("teachers.csv", "sections.csv")
    (cause,) = summary.told(report_of("refused", *(finding("file_missing", each) for each in files)))
    assert (cause.places, cause.effect) == (files, "The delivery stops here; nothing of it is applied.")
    assert len(report_of("refused", *(finding("file_missing", each, hint=f"the manifest says so of {each}") for each in files)).causes) == 2


def test_equal_values_of_different_columns_stay_apart() -> None:
    columns = [finding("value_converted", "students.csv", column, range(2, 100), values=["no", "yes"]) for column in ("Iep_status", "Ell_status")]
    assert len(report_of("successful", *columns).causes) == 2


def test_a_chain_of_causes_leads_to_its_first_fault() -> None:
    first = finding("value_missing", "schools.csv", "School_id", [3])
    second = finding("parent_rejected", "sections.csv", "School_id", [4, 5], cause=first.label)
    third = finding("parent_rejected", "enrollments.csv", "Section_id", [6], cause=second.label)
    assert [dict(each.rows) for each in report_of("successful", third, second, first).causes] == [{"schools.csv": 1, "sections.csv": 2, "enrollments.csv": 1}]


def test_a_finding_whose_cause_is_unknown_stands_for_itself() -> None:
    orphan = finding("parent_rejected", "enrollments.csv", "Student_id", [5], cause="value_missing|gone.csv|X")
    assert [each.finding for each in report_of("successful", orphan).causes] == [orphan]


def test_causes_that_name_each_other_are_neither_lost_nor_followed_for_ever() -> None:
    one = finding("value_missing", "a.csv", "A", [2], cause="value_missing|b.csv|B")
    two = finding("value_missing", "b.csv", "B", [2], cause="value_missing|a.csv|A")
    own = finding("value_missing", "c.csv", "C", [2], cause="value_missing|c.csv|C")
    assert {each.finding for each in report_of("successful", one, two, own).causes} == {one, two, own}


def test_the_gravest_cause_comes_first_then_the_one_that_touches_most_rows() -> None:
    warning = finding("row_repeated", "students.csv", count=9000)
    small, large = finding("row_short", "students.csv", lines=[4]), finding("row_long", "students.csv", count=500)
    refusal = finding("file_cut", "students.csv")
    assert [each.finding for each in report_of("refused", warning, small, large, refusal).causes] == [refusal, large, small, warning]


def test_people_who_were_kept_are_not_counted_as_rows_left_out() -> None:
    root = finding("value_missing", "students.csv", "Student_id", [14])
    report = report_of("successful", root, finding("removals_withheld", "students.csv", count=40, cause=root.label))
    assert report.causes[0].rows == {"students.csv": 1}
    assert summary.told(report)[0].follows == ("People or records that left were kept: students.csv",)


def test_lines_are_told_in_ranges_and_never_as_if_they_were_all() -> None:
    (told,) = summary.told(report_of("successful", finding("row_short", "students.csv", lines=[4, 9, 12, 13, 14], count=1237)))
    assert told.places == ("students.csv, lines 4, 9, 12–14 and 1,232 more",)


def test_every_form_tells_what_texts_were_read_as() -> None:
    readings = [
        Reading("KG", "Kindergarten", 1204),
        Reading("<b>", "", 3),
        Reading("Klingon", "Klingon", 2),
        *(Reading(f"x{each}", "Other", 1) for each in range(20)),
    ]
    report = report_of("successful", finding("value_converted", "students.csv", "Grade", [3], count=1229, readings=readings))
    (told,) = summary.told(report)
    assert told.readings.startswith("KG → Kindergarten (1,204), <b> → blank (3), Klingon kept as sent (2), x0 → Other (1), ")
    assert told.readings.endswith(", and 11 more")
    assert "KG → Kindergarten (1,204)" in text.plain(report)
    assert "<p>KG → Kindergarten (1,204), &lt;b&gt; → blank (3), " in pages.html(report)


# ---------------------------------------------------------------- JSON


def test_the_json_form_is_one_object_of_plain_values() -> None:
    found = finding("value_unknown", "students.csv", "Grade", [3, 4], values=["K9"], readings=[Reading("K9", "Other", 2)])
    told = json.loads(json.dumps(summary.as_json(report_of("on_hold", found, hold=HOLD, hold_state="open"))))
    assert list(told) == [
        "district", "run", "delivery", "outcome", "preview", "verdict", "received_at", "finished_at", "files",
        "counts", "findings", "causes", "hold", "seconds", "error", "reverts", "left_alone",
    ]  # fmt: skip
    assert (told["run"], told["received_at"], told["seconds"]) == (7, "2026-11-23T02:05:00Z", {"load": 0.5, "apply": 1.25})
    assert told["counts"]["students"] == {
        "existing": 1000, "rows": 1010, "created": 12, "updated": 0, "moved": 3, "deactivated": 2,
        "reactivated": 0, "unchanged": 980, "rejected": 5, "waiting": 0,
    }  # fmt: skip
    assert told["findings"] == [
        {
            "code": "value_unknown",
            "severity": "warn",
            "title": CATALOGUE["value_unknown"].title,
            "file": "students.csv",
            "column": "Grade",
            "count": 2,
            "lines": [3, 4],
            "values": ["K9"],
            "hint": "",
            "cause": "",
            "readings": [{"sent": "K9", "read": "Other", "count": 2}],
            "left_out": {},
            "advice": CATALOGUE["value_unknown"].advice,
        }
    ]
    assert told["causes"][0]["rows"] == {"students.csv": 2}
    assert told["hold"]["state"] == "open"
    assert told["hold"]["digest"] == HOLD.digest
    assert told["hold"]["reasons"][0]["sentence"] == HOLD.reasons[0].sentence
    assert told["hold"]["reasons"][0]["count"] == 120
    assert summary.as_json(report_of())["hold"] is None


# ---------------------------------------------------------------- text


def test_the_plain_text_begins_with_the_verdict_and_has_no_line_over_a_hundred_columns() -> None:
    counts = {name: Counts(*[9_999_999] * 10) for name in ("students", "section_teachers")}
    hostile = finding("school_unknown", "ä" * 90 + ".csv", "学" * 80, range(2, 900), values=["x" * 300, "学校" * 40], hint="h" * 500)
    page = text.plain(report_of("on_hold", hostile, counts=counts, hold=HOLD))
    assert page.startswith("On hold: 120 of 1,000 students")
    assert max(cell_len(line) for line in page.splitlines()) <= 100
    assert "\nsection teachers: 9,999,999 rows, 9,999,999 existing," in page


def test_a_district_of_a_million_still_gets_its_table() -> None:
    counts = {"students": Counts(1_000_000, 1_000_000, 900, 900, 900, 900, 900, 0, 900), "section_teachers": Counts(existing=90_000)}
    assert re.search(r"^section teachers +· +90,000( +·){6}$", text.plain(report_of(counts=counts)), re.MULTILINE)


def test_the_plain_text_leaves_out_what_has_nothing_to_say() -> None:
    page = text.plain(report_of())
    assert "staff" not in page
    assert "waiting" not in page
    assert re.search(r"^students +1,010 +1,000 +12 +3 +2 +5$", page, re.MULTILINE)


@pytest.mark.parametrize(
    ("outcome", "code", "step"),
    [
        ("refused", "file_cut", "Mend the files as told below, and send all of them again."),
        ("successful", "value_missing", "Mend the rows that were left out for the next night; nothing has to be sent again now."),
        ("failed", "", "Nothing has to be sent again; what comes next is up to us."),
        ("successful", "row_blank", ""),
    ],
)
def test_the_report_says_what_comes_next(outcome: Outcome, code: str, step: str) -> None:
    report = report_of(outcome, *([finding(code, "students.csv")] if code else []))
    assert receipt.next_step(report) == step
    assert step in " ".join(text.plain(report).split())
    assert ('class="next"' in pages.html(report)) == bool(step)


def test_a_hint_that_another_begins_with_is_told_once() -> None:
    hints = ("0012 is known; 4 of 4 unknown ids are", "0012 is known", "the header says so")
    found = [replace(finding("school_unknown", f"{place}.csv", values=["12"]), hint=hint) for place, hint in enumerate(hints)]
    assert summary.told(report_of("successful", *found))[0].hint == "0012 is known; 4 of 4 unknown ids are. The header says so."


def test_the_hold_tells_a_person_what_to_do_until_it_is_decided() -> None:
    held = report_of("on_hold", hold=HOLD, hold_state="open")
    for told in (" ".join(text.plain(held).split()), _Page(pages.html(held)).words):
        assert "A person on our side looks at it, then releases or discards it: sftp-ingest holds list" in told
    assert "sftp-ingest holds show 12" in text.plain(replace(held, hold_number=12))
    assert "sftp-ingest" not in text.plain(replace(held, run=None)).partition("Waiting for a person")[2]  # a check leaves no hold to decide about
    decided = text.plain(report_of("on_hold", hold=HOLD, hold_state="discarded"))
    assert "This hold is discarded" in decided
    assert "releases or discards" not in decided


def test_the_page_of_a_hold_that_was_decided_does_not_look_as_if_it_waited() -> None:
    assert "<strong>On hold</strong>" in pages.html(report_of("on_hold", hold=HOLD, hold_state="open"))
    assert "<strong>Was on hold</strong>" in pages.html(report_of("on_hold", hold=HOLD, hold_state="superseded"))


def test_a_terminal_shows_the_same_words_as_the_plain_text() -> None:
    report = report_of("refused", finding("file_cut", "students.csv"))
    screen = io.StringIO()
    text.render(report, Console(file=screen, width=100, force_terminal=True, color_system="standard"))
    assert "\x1b[1;31mRefused" in screen.getvalue()
    bare = re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())
    assert [line.rstrip() for line in bare.splitlines()] == text.plain(report).splitlines()


def test_cells_can_neither_steer_the_terminal_nor_speak_rich_markup() -> None:
    page = text.plain(report_of("successful", finding("school_unknown", "students.csv", "School_id", [2], values=["\x1b[2J[red]1[/]\u202e"])))
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "[red]1[/]" in page


# ---------------------------------------------------------------- HTML


class _Page(HTMLParser):
    """The tags, attributes and running text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def full_history() -> list[SyncRun]:
    nights = [run_of(1, "successful", students=Counts(created=10_412))]
    nights += [run_of(each, "successful", students=Counts(existing=9, created=each, updated=4, moved=1)) for each in range(2, 6)]
    return [*nights, run_of(6, "refused"), run_of(7), run_of(8, "failed")]


def test_hostile_values_stay_text_on_the_page() -> None:
    evil = "<script>alert(1)</script>"
    found = finding("school_unknown", evil, evil, [2], values=[evil, '"><img src=x onerror=1>'], hint=evil)
    page = pages.html(report_of("refused", found, district=replace(DISTRICT, name=evil)))
    parsed = _Page(page)
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert parsed.words.count(evil) >= 4


def test_the_page_loads_nothing_and_allows_only_its_own_style() -> None:
    page = pages.html(report_of("on_hold", hold=HOLD, history=full_history()))
    parsed = _Page(page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(attributes["content"] for tag, attributes in parsed.tags if tag == "meta" and attributes.get("http-equiv"))
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not any({"src", "href", "style"} & set(attributes) for _, attributes in parsed.tags)
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page


def test_the_page_tells_files_seconds_hold_and_causes() -> None:
    words = _Page(pages.html(report_of("on_hold", finding("row_short", "students.csv", lines=[4]), hold=HOLD, hold_state="open"))).words
    for told in (
        "18.2 MB",
        "abababababab",
        "as before",
        "1.25",
        HOLD.reasons[0].sentence,
        "120 students, 1 enrollment",
        "students.csv, line 4",
        "2026-11-23 02:05:00 UTC",
    ):
        assert told in words


def test_what_needs_a_person_is_counted_before_what_may_be_off_a_phones_screen() -> None:
    counts = {"students": Counts(10, 11, created=1, updated=1, moved=1, deactivated=1, unchanged=6, rejected=1, waiting=2)}
    heads = re.findall(r'<th scope="col"( class="spare")?>(\w+)</th>', pages.html(report_of("on_hold", counts=counts)).partition("</thead>")[0])
    assert [name for _, name in heads[:4]] == ["Entity", "Rows", "Rejected", "Waiting"]
    assert [name for spare, name in heads if spare] == ["Existing", "Unchanged"]
    assert "Reactivated" not in [name for _, name in heads]


def test_an_entity_without_rows_is_not_said_to_have_had_none() -> None:
    both = {"students": Counts(existing=10, rows=11, unchanged=10), "staff": Counts(existing=3, unchanged=3)}
    page = pages.html(report_of("unchanged", counts=both))
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", line) for line in re.findall(r'<th scope="row">.*?</tr>', page, re.DOTALL)]
    assert [each[0] for each in cells[:2]] == ["11", "–"]
    assert "no file of its own was sent" in page
    assert "no file of its own was sent" not in pages.html(report_of("unchanged", counts={"students": both["students"]}))


def test_every_table_has_headers_and_every_picture_a_name() -> None:
    parsed = _Page(pages.html(report_of(history=full_history())))
    assert all(attributes.get("scope") for tag, attributes in parsed.tags if tag == "th")
    ids = {attributes.get("id") for _, attributes in parsed.tags}
    images = [attributes for tag, attributes in parsed.tags if attributes.get("role") == "img"]
    assert images
    assert all(set((each["aria-labelledby"] or "").split()) <= ids for each in images)


def test_the_picture_marks_refused_and_failed_nights_and_shows_the_run_itself() -> None:
    report = report_of(history=full_history())
    (picture,) = pages.pictures(report)
    assert [each.outcome for each in picture.nights[-3:]] == ["refused", "successful", "failed"]
    assert [each.run for each in picture.nights if each.current] == [7]
    assert picture.nights[-2].title == "2026-11-30, run 7, applied: 12 created, 3 moved, 2 deactivated"
    assert picture.description == "8 runs from 2026-11-24 to 2026-12-01; 1 refused, 1 failed."
    page = pages.html(report)
    assert 'class="mark refused"' in page
    assert 'class="mark failed"' in page


def test_a_first_night_is_cut_instead_of_flattening_all_others() -> None:
    (picture,) = pages.pictures(report_of(history=full_history()))
    assert picture.nights[0].cut == 10_412
    assert not any(each.cut for each in picture.nights[1:])
    assert all(pages.TOP - 0.01 <= segment.y <= pages.BASE for each in picture.nights for segment in each.segments)
    assert picture.ticks[-1][1] == 20


def test_the_picture_tells_each_day_once_below_its_last_run() -> None:
    seven = (run_of(number, "successful", students=Counts(created=number)) for number in range(1, 8))
    runs = [replace(each, finished_at=NIGHT + timedelta(hours=7 * each.id)) for each in seven]
    (picture,) = pages.pictures(report_of(run=runs[-1], history=runs))
    assert [night.date[5:] for night in picture.nights] == [*3 * ["11-23"], *3 * ["11-24"], "11-25"]
    assert [night.day for night in picture.nights] == ["", "", "11-23", "", "", "11-24", "11-25"]


def test_the_picture_shows_thirty_nights_at_most_and_none_before_the_second() -> None:
    many = [run_of(each, "successful", students=Counts(created=1)) for each in range(100, 160)]
    assert len(pages.pictures(report_of(run=run_of(160), history=many))[0].nights) == 30
    assert pages.pictures(report_of()) == ()


# ---------------------------------------------------------------- in the home


def test_the_report_lies_in_the_home_in_three_forms_and_as_the_latest(tmp_path: Path) -> None:
    report = report_of("refused", finding("file_cut", "students.csv"))
    page = notify.leave_in_home(report, tmp_path)
    assert page == tmp_path / "reports" / "20261130T020500-run-7.html"
    assert sorted(each.name for each in page.parent.iterdir()) == [
        "20261130T020500-run-7-receipt.json", "20261130T020500-run-7.html", "20261130T020500-run-7.json", "20261130T020500-run-7.txt",
        "20261130T020500-run-7.zip", "latest-receipt.json", "latest.html", "latest.json", "latest.txt", "latest.zip",
    ]  # fmt: skip
    assert page.read_text(encoding="utf-8") == pages.html(report)
    assert (page.parent / "latest.txt").read_text(encoding="utf-8") == text.plain(report)
    assert json.loads((page.parent / "latest.json").read_text(encoding="utf-8"))["outcome"] == "refused"
    assert {stat.S_IMODE(each.stat().st_mode) for each in page.parent.iterdir() if each.suffix != ".zip"} == {0o644}


def test_the_report_of_a_delivery_that_came_before_the_last_one_is_not_the_latest(tmp_path: Path) -> None:
    notify.leave_in_home(report_of("refused", finding("file_cut", "students.csv")), tmp_path)
    before = {each.name: each.read_bytes() for each in (tmp_path / "reports").glob("latest*")}
    page = notify.leave_in_home(report_of("superseded", run=run_of(8)), tmp_path)
    assert page.read_text(encoding="utf-8") == pages.html(report_of("superseded", run=run_of(8)))
    assert {each.name: each.read_bytes() for each in (tmp_path / "reports").glob("latest*")} == before
    assert sorted(each.suffix for each in (tmp_path / "reports").glob("*-run-8*")) == [".html", ".json", ".json", ".txt", ".zip"]


def test_a_reader_of_the_latest_report_keeps_the_whole_one_it_opened(tmp_path: Path) -> None:
    notify.leave_in_home(report_of(), tmp_path)
    with (tmp_path / "reports" / "latest.html").open(encoding="utf-8") as reading:
        begun = reading.read(100)
        notify.leave_in_home(report_of("refused", finding("file_cut", "students.csv"), run=run_of(8)), tmp_path)
        assert begun + reading.read() == pages.html(report_of())


def test_a_report_that_cannot_be_put_in_place_leaves_no_part_behind(tmp_path: Path) -> None:
    (tmp_path / "reports" / "latest.html").mkdir(parents=True)
    with pytest.raises(OSError, match="latest"):
        notify.leave_in_home(report_of(), tmp_path)
    assert not list((tmp_path / "reports").glob(".upload-*"))


def test_only_the_newest_sixty_runs_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    for day in range(70):
        for form in ("html", "txt", "json"):
            (folder / f"{NIGHT - timedelta(days=day):%Y%m%dT%H%M%S}-run-{70 - day}.{form}").touch()
    (folder / "notes.txt").touch()
    notify.leave_in_home(report_of(run=run_of(71)), tmp_path)
    names = {each.name for each in folder.iterdir()}
    assert sum(name.endswith(".html") for name in names) == 60 + 1
    assert {"notes.txt", "latest.html", f"{NIGHT:%Y%m%dT%H%M%S}-run-70.txt"} <= names
    assert not any(re.search(r"-run-1?\d\.", name) and int(re.findall(r"-run-(\d+)", name)[0]) <= 11 for name in names)


def test_names_that_are_not_text_do_not_keep_a_report_from_being_left(tmp_path: Path) -> None:
    page = notify.leave_in_home(report_of("refused", finding("file_unknown", "sch\udce4ler.csv")), tmp_path)
    assert "sch\N{REPLACEMENT CHARACTER}ler.csv" in page.read_text(encoding="utf-8")
