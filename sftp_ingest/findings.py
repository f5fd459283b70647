"""All that may be wrong with a delivery: the catalogue of codes, and the finding that carries one.

A *finding* is one fault as a person would tell it: a code, where it is (file, column, first lines), and how often.
A million bad cells of one column are one finding with a count of a million, so the worst file costs no more than a good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["refuse", "reject", "warn"]
"""*refuse* stops the delivery, *reject* leaves the row out, *warn* keeps it."""

SAMPLE_LINES = 20
"""How many line numbers a finding shows; its count is never capped."""


@dataclass(frozen=True)
class Code:
    """One entry of the catalogue; `strict` is the severity for a district that wants Clever's own strictness."""

    code: str
    severity: Severity
    title: str
    advice: str
    strict: Severity | None = None

    def severity_for(self, strict: bool) -> Severity:
        """The severity under the district's setting."""
        return self.strict if strict and self.strict else self.severity


def _catalogue(*codes: Code) -> Mapping[str, Code]:
    return {each.code: each for each in codes}


CATALOGUE: Mapping[str, Code] = _catalogue(
    # The file as a whole. Clever's own words for these: contract 1.10.1.
    Code("file_missing", "refuse", "A core file is missing", "Send all five core files together; the home keeps what was sent before."),
    Code("file_empty", "refuse", "A file is empty", "Export the file again; it has no bytes at all."),
    Code("file_without_rows", "refuse", "A core file has a header and no rows", "Export the file again; a roster without any record is never believed."),
    Code("file_cut", "refuse", "A file breaks off before its end", "Upload the file again, whole; its last line is incomplete."),
    Code("file_not_csv", "refuse", "A file is not CSV text", "Export comma-separated text with a header line; spreadsheets and archives cannot be read."),
    Code("archive_unreadable", "refuse", "An archive cannot be read", "Send the files by themselves, or in a plain .zip archive without a password."),
    Code("archive_too_large", "refuse", "An archive holds too much", "Put only the roster's files into the archive, or send them by themselves."),
    Code(
        "archive_twin",
        "warn",
        "A file lies in the home twice, once in an archive",
        "Delete one of the two; the file that lies by itself, else the newer, was read.",
    ),
    Code("file_unterminated", "warn", "The last line of a file has no line end", "End every line with a line break; without it, a file cut short looks whole."),
    Code("file_twin", "warn", "Two files differ only in upper and lower case", "Delete one of the two; the newer was read. (Clever reads the older.)"),
    Code(
        "file_name_case",
        "warn",
        "A file name has other capitals than the format's",
        "Spell file names exactly as the format does; Clever's are in lower case.",
        strict="refuse",
    ),
    Code("file_unknown", "warn", "A file is not part of the format", "Remove the file, or name it as the format does; it was not read."),
    Code(
        "file_gone",
        "warn",
        "An optional file that was sent before is missing",
        "Send it again; until then nothing is known of its records, and none of them leaves.",
    ),
    Code("file_emptied", "warn", "A side file has a header and no rows", "Its records end; send rows, or leave the file out, if that is not meant."),
    Code(
        "file_deprecated",
        "warn",
        "A file of an older version of the format was read",
        "Send what it holds in the file that has taken its place.",
        strict="refuse",
    ),
    Code("file_not_resent", "warn", "A file was not sent again", "Send all core files every night; the file that lay in the home was used."),
    Code(
        "file_crossed",
        "warn",
        "Two sessions sent different files at once, and this file is of one of them",
        "Let one session at a time send, and send all files again; removals wait, and who releases them accepts that these files belong together.",
    ),
    # What OneRoster's files say of themselves. Contract 4.3 and 4.5.
    Code("manifest_missing", "warn", "The manifest is missing", "Send manifest.csv; the files were read as whole ones.", strict="refuse"),
    Code(
        "manifest_unreadable",
        "warn",
        "The manifest is not a list of names and values",
        "Write manifest.csv with the two columns propertyName and value.",
        strict="refuse",
    ),
    Code("manifest_header", "warn", "A column of the manifest is misspelt", "Name the manifest's columns propertyName and value.", strict="refuse"),
    Code(
        "manifest_version",
        "warn",
        "The manifest's version is missing or unknown",
        "Write manifest.version 1.0, and oneroster.version 1.1 or 1.2; spreadsheets make 1 of 1.0.",
        strict="refuse",
    ),
    Code(
        "manifest_mode",
        "warn",
        "The manifest says something else of a file than what was sent",
        "Give each file one of bulk, delta and absent, and send exactly those that are not absent.",
        strict="refuse",
    ),
    Code("delta_without_roster", "refuse", "Only changes were sent, and there is nothing yet to change", "Send all files whole (bulk) the first time."),
    Code("delta_unplaced", "warn", "A change cannot be placed", "Send with it the rows that it belongs to: a class, a person."),
    Code(
        "delta_overtook",
        "warn",
        "Changes have taken the place of a delivery of which a part waited",
        "Send once more what waited, or all files whole (bulk): changes do not repeat it.",
    ),
    # The header. Contract 1.3.
    Code("header_missing", "refuse", "A required column is missing", "Add the column to the export, spelt as the format spells it."),
    Code(
        "header_derived",
        "warn",
        "A required column is missing and was derived",
        "Add the column to the export; Clever itself would refuse the file.",
        strict="refuse",
    ),
    Code("header_duplicate", "refuse", "Two columns have one name", "Remove or rename one of the two columns; which one to believe cannot be known."),
    Code("header_unknown", "warn", "A column is not part of the format", "Remove the column, or name it ext.<name>; it was not read.", strict="refuse"),
    Code(
        "header_misspelt",
        "warn",
        "A column is misspelt",
        "Spell the column as the format does; it was read as what it must be.",
        strict="refuse",
    ),
    Code("header_unnamed", "warn", "A column has no name", "Remove empty columns from the export; they were not read.", strict="refuse"),
    Code(
        "header_gone",
        "warn",
        "A column that was sent before is gone",
        "Put the column back; while it is missing, removals wait, and who releases them accepts that it is gone.",
    ),
    # Bytes and rows.
    Code("encoding_guessed", "warn", "Text is not UTF-8", "Export as UTF-8; these lines were read in the encoding that fits them.", strict="refuse"),
    Code("bytes_unreadable", "reject", "Bytes are not text in any known encoding", "Export as UTF-8.", strict="refuse"),
    Code("nul_byte", "reject", "A row holds NUL bytes", "Export the file again; NUL bytes come from damaged exports."),
    Code("row_short", "reject", "A row has fewer cells than the header", "Look for a missing comma or a line break inside a cell.", strict="refuse"),
    Code("row_long", "reject", "A row has more cells than the header", "Put cells that hold a comma in double quotes.", strict="refuse"),
    Code("row_huge", "reject", "A line is too long to be a row", "Look for line ends that are missing, or for a quote that is never closed.", strict="refuse"),
    Code(
        "row_trailing_commas",
        "warn",
        "A row has blank cells beyond the header",
        "Export as many cells as the header has; the blank ones were not read.",
        strict="refuse",
    ),
    Code("row_blank", "warn", "A row has no value in any cell", "Remove empty rows from the export; they were not read."),
    Code(
        "quote_unescaped", "warn", "A quote inside a quoted cell is not doubled", 'Write a quote inside a quoted cell twice (""); the cell was read as meant.'
    ),
    Code(
        "quote_smart", "warn", "Cells are in typographic quotes", 'Quote cells with straight double quotes ("); the cells were read as meant.', strict="refuse"
    ),
    Code("quote_open", "reject", "A quote is opened and never closed", "Close the quote, or remove it."),
    # Cells.
    Code("value_missing", "reject", "A required cell is blank", "Fill the cell in the student information system."),
    Code(
        "value_unknown",
        "warn",
        "A value is not one that the format knows",
        "Use one of the format's values; the cell was read as blank, or as Other where the format has that, and a language was kept as sent.",
    ),
    Code("value_converted", "warn", "A value was read in another spelling", "No need to act; the format's own spelling would save the guess."),
    Code(
        "value_excel_date",
        "warn",
        "A spreadsheet turned a range of grades into a date",
        "Export the file again without opening it in a spreadsheet: 6-8 became 8-Jun, and was read as 6-8.",
    ),
    Code(
        "date_unreadable",
        "warn",
        "A date cannot be read",
        "Write dates as 2014-08-31 or 8/31/2014; the cell was read as blank. A birth date lies in the past, and not 120 years ago.",
    ),
    Code("value_malformed", "warn", "A value does not look as the column's values do", "Check the value; it was kept as sent."),
    Code("check_failed", "warn", "A check of the district's own failed", "Correct the cells; the check itself says whether their rows are left out."),
    Code(
        "grade_leading_zero",
        "reject",
        "A grade begins with a zero",
        "Write 1, not 01: Clever takes it for an error. (Told only with strict = true; else it is read as 1.)",
    ),
    Code("contact_incomplete", "warn", "A contact has no name", "Give the contact's name; the contact was left out, the student was kept."),
    Code(
        "contact_type_missing",
        "warn",
        "A contact has no type",
        "Give the contact's type (Primary, Emergency, Family, …); Clever itself leaves the contact out.",
    ),
    Code("contact_id_shared", "warn", "One contact id is used for people of different names", "Give each person a Contact_sis_id of his own; all were kept."),
    Code("contacts_many", "warn", "A student has more than five contacts", "Send the five that matter most; all were kept, Clever may not take them."),
    # Keys and references. Contract 1.5 and 1.10.2.
    Code("id_rounded", "refuse", "Excel rounded an id", "Export ids as text, and do not open the file in Excel; the digits after the first few are lost."),
    Code("kind_unknown", "reject", "A row does not say what it is a row of", "Give the row one of the roles, or types, that the format knows."),
    Code("id_duplicate", "reject", "An id is used by more than one row", "Give each record its own id and one row; the first row was used."),
    Code("row_repeated", "warn", "A row is repeated", "Remove the repetition; it was counted once."),
    Code("rows_differ", "warn", "Rows of one person differ", "Repeat the person's own columns unchanged on every row; the first row was used."),
    Code(
        "school_unknown", "reject", "A row refers to a school that was not sent", "Add the school, or correct its id in the row; look for lost leading zeros."
    ),
    Code("student_unknown", "reject", "A row refers to a student who was not sent", "Add the student, or remove the enrollment."),
    Code("section_unknown", "reject", "A row refers to a section that was not sent", "Add the section, or remove the enrollment."),
    Code("teacher_unknown", "reject", "A section's teacher was not sent", "Add the teacher, or correct the id."),
    Code("staff_unknown", "reject", "A row refers to a person who was not sent", "Add the person, or remove the row."),
    Code("user_unknown", "reject", "A role names a person who was not sent", "Add the person's own row, or remove the role."),
    Code(
        "coteacher_unknown",
        "warn",
        "A section's further teacher was not sent",
        "Add the teacher, or clear the cell; the section was kept without that teacher.",
    ),
    Code("course_unknown", "warn", "A class names a course that was not sent", "Add the course, or correct the class; it was kept without the course."),
    Code("term_unknown", "warn", "A class names a session that was not sent", "Add the session, or correct the class; it was kept without the term."),
    Code("contact_unknown", "warn", "A student's guardian was not sent", "Add the guardian's own row, or take the id off the student's."),
    Code("member_ended", "warn", "An enrollment names a person or class that has ended", "No need to act; the enrollment ended with it."),
    Code("record_overridden", "warn", "A record of a side file is in a file that goes before it", "No need to act; the record of the other file was used."),
    Code("parent_rejected", "reject", "A row refers to a record that was left out", "Correct the record that it refers to; this row then follows by itself."),
    Code("section_without_teacher", "warn", "A section has no teacher", "Enroll a teacher in it, or leave the section out."),
    Code("teachers_many", "warn", "A section has more than ten teachers", "Keep its ten main teachers; the others were left out."),
    Code("section_without_students", "warn", "A section has no enrollment", "Enroll a student, or leave the section out.", strict="reject"),
    # What the comparison kept back.
    Code("removals_withheld", "warn", "People or records that left were kept", "Correct the rows without an id; until then nobody can be told to have left."),
    Code("parent_kept", "warn", "A record that left was kept because others still refer to it", "Correct the rows that still refer to it, or send it again."),
    # What differs from the district's own history; none of it stops anything.
    Code("drift_rows", "warn", "A file has far more or far fewer rows than before", "Check whether the export covers what it covered before."),
    Code("drift_blank", "warn", "A column is blank far more often than before", "Check the export: the column may have lost its source."),
    Code("drift_values", "warn", "A column has far more or fewer different values than before", "Check the column's codes; they may have been mapped anew."),
    Code(
        "drift_ids",
        "warn",
        "The ids of a column look different than before",
        "Check for lost leading zeros and new prefixes; ids tell records apart.",
    ),
    Code(
        "drift_sections_empty",
        "warn",
        "Far more sections than before have no students",
        "Check whether all schools' enrollments were exported.",
    ),
    Code("drift_class_size", "warn", "Sections have half or twice as many students as before", "Check whether sections were split, merged or exported twice."),
)
"""Every code, in the order of reading: file, header, rows, cells, references, comparison, history."""


@dataclass(frozen=True)
class Reading:
    """One distinct text of a vocabulary column, what it was read as (blank where it was not understood), and in how many rows it stands."""

    sent: str
    read: str
    count: int


@dataclass(frozen=True)
class Finding:
    """One fault: `count` is exact, `lines` are the first of them (1 = the header line), `cause` names the finding behind it.

    `values` holds cells only of id and vocabulary columns (a school's id, a grade), never of a name, an address or a date; the same is
    true of `readings`. Of a district's own check it holds the name. `left_out` says how many records of each entity are left out because
    of it, those of other files among them.
    """

    code: str
    severity: Severity
    file: str
    column: str = ""
    count: int = 1
    lines: tuple[int, ...] = ()
    values: tuple[str, ...] = ()
    hint: str = ""
    cause: str = ""
    readings: tuple[Reading, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """What other findings name as their cause."""
        return "|".join((self.code, self.file, self.column, *self.values[:1]))

    @property
    def title(self) -> str:
        """The catalogue's title."""
        return CATALOGUE[self.code].title

    @property
    def advice(self) -> str:
        """The catalogue's one sentence of advice."""
        return CATALOGUE[self.code].advice


def finding(
    code: str,
    file: str,
    column: str = "",
    lines: Iterable[int] = (),
    *,
    count: int | None = None,
    values: Iterable[str] = (),
    hint: str = "",
    cause: str = "",
    readings: Iterable[Reading] = (),
    severity: Severity | None = None,
    strict: bool = False,
) -> Finding:
    """A finding of the catalogue; without `count` it counts its lines, or one for a fault of the whole file.

    `severity` is given where the catalogue cannot know it: by a district's own check.
    """
    numbers = tuple(lines)
    return Finding(
        code=code,
        severity=severity or CATALOGUE[code].severity_for(strict),
        file=file,
        column=column,
        count=(len(numbers) or 1) if count is None else count,
        lines=numbers[:SAMPLE_LINES],
        values=tuple(values),
        hint=hint,
        cause=cause,
        readings=tuple(readings),
    )


def refuses(findings: Iterable[Finding]) -> bool:
    """Whether any of them stops the delivery."""
    return any(each.severity == "refuse" for each in findings)
