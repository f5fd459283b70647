"""What districts write, and what it is read as: grades, dates, races, languages, contacts, phones, subjects."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftp_ingest.findings import Finding, Reading
from sftp_ingest.model import Roster
from sftp_ingest.planning import empty_roster
from sftp_ingest.roster import values
from sftp_ingest.roster.contract import TYPES
from sftp_ingest.roster.languages import ALIASES, LANGUAGES
from sftp_ingest.roster.subjects import SUBJECTS, subject
from tests.unit.districts import Files, applied, content, planned, small

TODAY = date(2026, 11, 23)
READERS = values.readers(TODAY)

CONVERTED = {
    "grade": {
        "1": "01", "9": "09 9.0 9th Ninth_Grade", "5": "Grade_5 grade5 Gr_5 Gr.5 5th_grade G5 Fifth", "12": "012 12th", "10": "10th_Grader",
        "Kindergarten": "0 00 K k KG kg KN KF Kinder Grade_K K2 K5",
        "PreKindergarten": "PK Pre-K PreK pre_k PKG Pre-Kindergarten K1 P4 PK4 -1 JK",
        "Preschool": "PS PR K0 P3 PK3 -2 Early_Childhood Pre-School", "TransitionalKindergarten": "TK Transitional_Kindergarten",
        "InfantToddler": "IT Infant/Toddler Infant_Toddler", "PostGraduate": "PG Post-Graduate", "Ungraded": "UG Non-graded",
        "6-8": "6–8 06-08 6_-_8 6_to_8 6,7,8 6th-8th Grades_6-8 6/8", "Kindergarten-5": "K-5 KG-05 0-5 k_–_5 K_thru_5",
        "PreKindergarten-Kindergarten": "PK-K", "PreKindergarten-5": "PreK-5 Pre-K-5", "9-10": "09,10",
    },
    "gender": {"M": "male Male", "F": "female FEMALE", "X": "nonbinary Non-binary Non_Binary"},
    "flag": {"Y": "Yes yes TRUE true T 1", "N": "No FALSE f 0"},
    "race": {
        "Caucasian": "White WHITE", "Black or African American": "Black African_American African-American Black/African_American",
        "American Indian": "Native_American American_Indian_or_Alaska_Native American_Indian/Alaskan_Native",
        "Hawaiian or Other Pacific Islander": "Pacific_Islander Native_Hawaiian_or_Other_Pacific_Islander Native_Hawaiian/Pacific_Islander",
        "Two or More Races": "Multiple Two_or_more Multi-Racial White,Asian White;Black", "Unknown": "Hispanic Decline_to_state",
    },
    "meal_status": {"Free": "F Y Free_Lunch", "Reduced": "R Reduced-Price", "Paid": "P N Full_Price Not_eligible"},
    "language": {"Mandarin": "Mandarin_Chinese Chinese_(Mandarin)", "Haitian Creole": "Haitian Creole_(Haitian)", "Farsi": "Persian"},
    "disability": {"Autism": "ASD Autism_Spectrum_Disorder", "Speech or language impairment": "Speech/Language_Impairment", "Deaf-blindness": "Deaf_Blindness"},
    "disability_code": {"SLD": "Specific_Learning_Disabilities LD", "HI": "Deafness"},
    "contact_type": {
        "Parent/Guardian": "Mother FATHER Step-mother Stepfather mom Legal_Guardian Parents Mother's_house", "Emergency": "Emergency_1 emergency_contact",
        "Family": "Grandmother Grand_Mother Great_Uncle Aunt Family_Friend Sister Cousin Relative", "Primary": "Primary_Contact", "Other": "other_adult",
    },
    "relationship": {
        "Parent": "Mother Stepfather dad Foster_Parent", "Grandparent": "Grandmother Grand-father great_grandmother", "Aunt/Uncle": "Great_Aunt Uncle",
        "Sibling": "Brother Step_sister", "Other": "Guardian Cousin Family_Friend", "Self": "Student",
    },
    "phone_type": {"Cell": "Mobile cellular Cell_Phone C", "Home": "Landline House H", "Work": "Office Business W", "Other": "Pager"},
    "attendance": {"tardy": "late"},
    "date": {"2015-08-01": "8/1/15 08/01/15 1-Aug-15 42217", "1998-08-01": "8/1/98", "2030-06-01": "6/1/30"},
    "birth_date": {"1998-04-29": "4/29/98", "2014-01-01": "1/1/14 41640 1-Jan-14", "1926-11-24": "11/24/26", "2000-02-29": "2/29/00"},
}  # fmt: skip
"""Type → what is read → how it was written, `_` standing for a space; all of these are read with a warning."""

SILENT = {
    "grade": {"1": "1", "Kindergarten": "Kindergarten KINDERGARTEN", "PreKindergarten": "Prekindergarten", "PostGraduate": "Postgraduate", "6-8": "6-8"},
    "gender": {"M": "M m", "X": "x"},
    "flag": {"Y": "Y y", "N": "N n"},
    "race": {
        "Caucasian": "W w caucasian", "Asian": "A", "Black or African American": "B", "American Indian": "I", "Two or More Races": "M",
        "Hawaiian or Other Pacific Islander": "P", "Unknown": "unknown",
    },
    "meal_status": {"Free": "Free free"},
    "language": {"Chinese": "chi zho zh", "Spanish": "spa SPA es spanish", "French": "fra fre fr", "Cantonese": "yue", "Laotian": "Lao"},
    "disability": {"Autism": "autism AUT aut", "Other": "other"},
    "disability_code": {"AUT": "AUT aut Autism", "OTHER": "other"},
    "contact_type": {"Parent/Guardian": "parent/guardian", "Primary": "primary", "Emergency": "EMERGENCY"},
    "relationship": {"Aunt/Uncle": "Aunt/Uncle"},
    "phone_type": {"Cell": "Cell cell"},
    "attendance": {"absent": "Absent absent", "tardy": "Tardy", "present": "present"},
    "attendance_type": {"daily": "Daily", "section": "section"},
    "date": {
        "2026-02-21": "2026-02-21 2026-02-21T00:00:00Z 2/21/2026 02/21/2026 20260221 2026/2/21 2026-02-21_00:00:00 2/21/2026_12:00:00_AM 2-21-2026",
        "2014-01-05": "5-Jan-2014 Jan_5,_2014 January_5,_2014 5_January_2014 05JAN2014 Jan._5_2014", "2014-12-25": "25.12.2014 12.25.2014",
    },
    "birth_date": {"2014-01-05": "1/5/2014 2014-01-05"},
}  # fmt: skip
"""The same, read without a word: the format's own values in any case, and the codes that it documents."""

UNKNOWN = {
    "grade": {"Other": "99 Multiple 14 8-6 1-1 2014-06-08 6/8/2014 8-Jun-14 6,8 Smith"},
    "gender": {"": "z"},
    "race": {"": "zz 7"},
    "meal_status": {"": "zz"},
    "language": {"Klingon": "Klingon"},
    "contact_type": {"": "zz Motherwell"},
    "relationship": {"Other": "zz"},
    "phone_type": {"Other": "zz"},
    "attendance": {"": "excused"},
    "date": {"": "soon 13/1/2014 5.6.2014 2/29/2005 2014-13-01 2014-01-02_x 99999 0"},
    "birth_date": {"": "2026-11-24 11/24/2026 1905-01-01 0014-01-02"},
}
"""The same of texts that mean nothing."""


def rows(table: dict[str, dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(kind, text.replace("_", " "), read) for kind, readings in table.items() for read, texts in readings.items() for text in texts.split()]


@pytest.mark.parametrize(("kind", "text", "read"), rows(CONVERTED))
def test_another_spelling_is_read_with_a_warning(kind: str, text: str, read: str) -> None:
    assert READERS[kind](text) == values.Meaning(read, values.CONVERTED)


@pytest.mark.parametrize(("kind", "text", "read"), rows(SILENT))
def test_the_formats_own_values_and_codes_are_read_in_silence(kind: str, text: str, read: str) -> None:
    assert READERS[kind](text) == values.Meaning(read)


@pytest.mark.parametrize(("kind", "text", "read"), rows(UNKNOWN))
def test_a_text_that_means_nothing_is_told(kind: str, text: str, read: str) -> None:
    assert READERS[kind](text) == values.Meaning(read, values.UNREADABLE if kind in values.DATES else values.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "read"), [("8-Jun", "6-8"), ("Jun-8", "6-8"), ("12-Sep", "9-12"), ("5-Jan", "1-5"), ("8-Jun-26", "6-8"), ("8-Jun-2025", "6-8"), ("June 8", "6-8")]
)
def test_what_a_spreadsheet_made_of_a_range_of_grades_is_the_range_again(text: str, read: str) -> None:
    assert READERS["grade"](text) == values.Meaning(read, values.EXCEL)


CANONICAL = [
    *(("grade", each) for each in (*values.GRADES, "6-8", "Kindergarten-5", "PreKindergarten-Kindergarten")),
    *(("race", each) for each in values.RACES),
    *(("language", each) for each in LANGUAGES),
    *((kind, each) for kind, each in (("gender", "X"), ("flag", "N"), ("date", "2026-08-17"), ("birth_date", "2014-01-02"))),
    *(("meal_status", each) for each in ("Free", "Reduced", "Paid", "Other")),
    *(("contact_type", each) for each in ("Parent/Guardian", "Emergency", "Primary", "Secondary", "Family", "Other")),
    *(("relationship", each) for each in ("Parent", "Grandparent", "Self", "Aunt/Uncle", "Sibling", "Other")),
    *(("phone_type", each) for each in ("Cell", "Home", "Work", "Other")),
]


@pytest.mark.parametrize(("kind", "text"), CANONICAL)
def test_the_formats_own_value_is_itself(kind: str, text: str) -> None:
    assert READERS[kind](text) == values.Meaning(text)


WRITTEN = st.one_of(
    st.text(min_size=1),
    st.from_regex(r"[0-9]{1,4}[-/. ,][0-9A-Za-z]{1,4}([-/. ,][0-9]{1,4})?", fullmatch=True),
    st.sampled_from([text for table in (CONVERTED, SILENT, UNKNOWN) for _, text, _ in rows(table)]),
)


@pytest.mark.parametrize("kind", READERS)
@given(text=WRITTEN)
def test_any_text_is_read_and_what_was_read_is_read_again_as_itself(kind: str, text: str) -> None:
    meaning = READERS[kind](text)
    if meaning.value and not (kind == "language" and meaning.code):
        assert READERS[kind](meaning.value) == values.Meaning(meaning.value)


def test_a_contract_may_name_every_type_that_has_a_meaning() -> None:
    assert {*READERS, *values.PATTERNS} <= set(TYPES)
    assert set(TYPES) - set(READERS) - set(values.PATTERNS) == {"string", "id"}


def test_no_name_or_code_of_a_language_means_two() -> None:
    codes = [code for each in LANGUAGES.values() for code in each.split()]
    assert len(codes) == len(set(codes))
    assert set(ALIASES.values()) <= set(LANGUAGES)
    assert not {name.lower() for name in LANGUAGES} & set(ALIASES)


# ---------------------------------------------------------------- phones

PHONES = {
    "3365331632": "3365331632",
    "(336)533-1632 x218": "3365331632x218",
    "839.543.4396 x372": "8395434396x372",
    "1-919-721-2809 x00676": "9197212809x00676",
    "+1 (336) 533-1632": "3365331632",
    "13365331632": "3365331632",
    "336-533-1632 ext. 12": "3365331632x12",
    "533-1632": "533-1632",
    "nobody at home": "nobody at home",
    "x": "x",
    "": "",
}


def test_phones_are_ten_digits_with_their_extension_and_others_stay_as_sent() -> None:
    read = values.phones(pa.array(list(PHONES)))
    assert read.to_pylist() == list(PHONES.values())
    assert values.phones(read).equals(read)


@given(st.lists(st.one_of(st.text(), st.from_regex(r"\+?1?[ (-]?[0-9]{3}[). -]{0,2}[0-9]{3}[ .-]?[0-9]{4}( ?(x|ext)\.? ?[0-9]{0,8})?", fullmatch=True))))
def test_reading_phones_twice_is_reading_them_once(sent: list[str]) -> None:
    read = values.phones(pa.array(sent, pa.string()))
    assert values.phones(read).equals(read)


# ---------------------------------------------------------------- subjects

GUESSED = {
    "english/language arts": [
        "English 9",
        "Reading",
        "Writing",
        "ELA",
        "English Comp 101",
        "AP English Language and Composition",
        "Language Arts",
        "Children's Lit",
    ],
    "math": ["Mathematics", "Algebra II", "Pre-Algebra", "Geometry", 'AP Calculus "AB"', "Math7"],
    "science": ["Astronomy", "Biology", "Chem", "Physical Science", "Earth Science", "Physics"],
    "social studies": ["History", "US Government", "Social Science", "Political Science", "Economics"],
    "language": ["Spanish II", "French", "World Languages", "American Sign Language"],
    "homeroom/advisory": ["Homeroom", "Advisory 7"],
    "interventions/online learning": ["RTI", "Math Intervention", "Credit Recovery"],
    "technology and engineering": ["Computer Science", "STEM Lab", "Robotics", "Industrial Arts"],
    "PE and health": ["P.E.", "PE", "Physical Education 9", "Health 11", "Gym", "Martial Arts"],
    "arts and music": ["Art", "Band", "Music Composition", "Art History", "French Horn", "Theater"],
    "other": ["", "Grade 3", "Culinary Arts", "Communities", "Martial"],
}


@pytest.mark.parametrize(("read", "text"), [(read, text) for read, texts in GUESSED.items() for text in texts])
def test_a_subject_is_guessed_from_the_words(read: str, text: str) -> None:
    assert subject(text, "", "") == subject("", text, "") == subject("", "", text) == read


@pytest.mark.parametrize("own", SUBJECTS)
def test_a_subject_of_the_format_is_used_as_it_is_whatever_the_names_say(own: str) -> None:
    assert subject(own.upper(), "Algebra", "Band") == own


def test_the_subject_counts_before_the_name_and_the_name_before_the_course() -> None:
    assert subject("Spanish", "Algebra", "Band") == "language"
    assert subject("Core", "Algebra", "Band") == "math"
    assert subject("", "Period 3", "Band") == "arts and music"


@given(st.text(), st.text(), st.text())
def test_any_texts_give_one_of_the_subjects(one: str, name: str, course: str) -> None:
    read = subject(one, name, course)
    assert read in SUBJECTS
    assert subject(read, name, course) == read


# ---------------------------------------------------------------- what is told of a column


def found(files: Files, folder: Path, code: str) -> dict[str, Finding]:
    return {each.column: each for each in planned(folder, files).findings if each.code == code}


def spread(column: str, *texts: str) -> Files:
    """A district whose students have these texts in the column, in turn."""
    files = small(len(texts))
    for row, text in zip(files["students"], texts, strict=True):
        row[column] = text
    return files


def test_a_finding_tells_what_texts_became_most_frequent_first(tmp_path: Path) -> None:
    files = spread("Grade", *["KG"] * 3, *["01"] * 5, "7", "7")
    converted = found(files, tmp_path, "value_converted")["Grade"]
    assert converted.readings == (Reading("01", "1", 5), Reading("KG", "Kindergarten", 3))
    assert converted.count == 8


def test_unknown_texts_are_told_where_they_stand_in_several_rows(tmp_path: Path) -> None:
    unknown = found(spread("Grade", *["Multiple"] * 3, "Garcia", *["2014-01-02"] * 2), tmp_path, "value_unknown")["Grade"]
    assert unknown.readings == (Reading("Multiple", "Other", 3),)
    assert (unknown.count, unknown.values) == (6, ())


def test_a_column_of_names_is_never_told(tmp_path: Path) -> None:
    names = [f"Garcia{'abcdefghijklmnopqrstuvwxyz'[number]}" for number in range(26)] * 2
    for column in ("Grade", "Contact_type", "Contact_relationship"):
        assert "Garcia" not in repr(planned(tmp_path, spread(column, *names)).findings)


def test_dates_and_phones_are_never_told(tmp_path: Path) -> None:
    files = spread("DOB", *["1/2/14"] * 9)
    for row in files["students"]:
        row["Contact_phone"] = "555-0100"
    plan = planned(tmp_path, files)
    assert {each.code for each in plan.findings} == {"value_converted", "value_malformed"}
    assert not any(each.readings or each.values for each in plan.findings)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "tolerant"])
def test_a_contacts_type_that_is_no_keyword_is_told_once_and_costs_nobody_the_contact(strict: bool, tmp_path: Path) -> None:
    plan = planned(tmp_path, spread("Contact_type", "Primary", "Motherwell", ""), strict=strict)
    assert {each.code: each.lines for each in plan.findings if each.column == "Contact_type"} == {"value_unknown": (3,), "contact_type_missing": (4,)}
    assert plan.counts["contacts"].created == (2 if strict else 3)


def test_what_a_contacts_type_tells_of_the_relationship_fills_a_blank(tmp_path: Path) -> None:
    files = spread("Contact_type", "Mother", "Grandfather", "Primary", "Cousin", "Aunt")
    kept = applied(empty_roster(), planned(tmp_path, files)).entities["contacts"]
    told = dict(zip(kept["student_id"], zip(kept["type"], kept["relationship"], strict=True), strict=True))
    assert list(told.values()) == [
        ("Parent/Guardian", "Parent"),
        ("Family", "Grandparent"),
        ("Primary", ""),
        ("Family", ""),
        ("Family", "Aunt/Uncle"),
    ]


def test_a_relationship_that_was_sent_stands(tmp_path: Path) -> None:
    files = spread("Contact_type", *["Mother"] * 4)
    for row in files["students"]:
        row["Contact_relationship"] = "Grandparent"
    assert set(applied(empty_roster(), planned(tmp_path, files)).entities["contacts"]["relationship"]) == {"Grandparent"}


def test_two_spellings_of_one_value_are_no_change(tmp_path: Path) -> None:
    def roster(**cells: str) -> Roster:
        files = small()
        for row in files["students"]:
            row |= cells
        return applied(empty_roster(), planned(tmp_path, files))

    one = roster(Grade="K", Race="W", DOB="1/2/14", Contact_phone="(212) 555-0100", Contact_type="Mother", Contact_relationship="Mother")
    other = roster(Grade="0", Race="White", DOB="2014-01-02", Contact_phone="+12125550100", Contact_type="Parent/Guardian", Contact_relationship="Parent")
    assert content(one) == content(other)


@pytest.mark.parametrize(("sent", "read"), [("Grandmother", ("Family", "Grandparent")), ("Chauffeur", ("Other", ""))])
def test_a_contact_added_by_hand_is_kept_whatever_its_type_says(tmp_path: Path, sent: str, read: tuple[str, str]) -> None:
    by_hand = {"Contact_id": "xc", "Student_id": "0001", "First_name": "Gran", "Last_name": "Hand", "Type": sent, "Phone": "(212) 555-0199 x7"}
    kept = applied(empty_roster(), planned(tmp_path, small() | {"customcontacts/contacts": [by_hand]})).entities["contacts"]
    contact = kept[(kept["contact_id"] == "xc").to_numpy(dtype=bool)].iloc[0]
    assert (contact["type"], contact["relationship"], contact["phone"]) == (*read, "2125550199x7")
