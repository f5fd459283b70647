"""The plain words of the night: district, delivery, frames, verdict, roster, change set, hold, sync run, sync report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sftp_ingest.findings import Finding

if TYPE_CHECKING:  # the listener lives for months and never needs pandas' 100 MB; only runs, which import it themselves, do
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

Operation = Literal["created", "updated", "moved", "deactivated", "reactivated"]
OPERATIONS: tuple[Operation, ...] = ("created", "updated", "moved", "deactivated", "reactivated")
Outcome = Literal["successful", "unchanged", "refused", "on_hold", "superseded", "failed", "previewed"]
HoldState = Literal["open", "released", "discarded", "superseded"]


RecordKind = Literal["user", "section", "school"]
Role = Literal["student", "teacher", "staff", "contact"]
"""What a person is in a roster."""

PACKED = ".zst"
"""What is added to the name of a sealed file when it is compressed, once its delivery is closed."""


# ---------------------------------------------------------------- what arrives


@dataclass(frozen=True)
class District:
    """One customer: `id` is the name of its home, and of its first account."""

    id: str
    name: str
    created_at: datetime
    paused: bool = False


@dataclass(frozen=True)
class Account:
    """Who may log in to a district's home: `name` is what a client gives; `password_hash` is argon2id or empty; `keys` are OpenSSH public key lines."""

    name: str
    district: str
    created_at: datetime
    password_hash: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeliveredFile:
    """One sealed file: its name as sent, its size in bytes, its SHA-256 in hex, and whether it was sent for this delivery or lay there before.

    It is `crossed` where another session sent, at the same time, a night of which this file is none while others of the delivery are.

    The name of a file in a sub-folder of the home begins with the folder's: `customsections/sections.csv`. One that lies in an
    `archive` of the delivery is the `member` of that name there; it has no checksum of its own. One that was compressed since it was
    sealed lies in an `archive` without members; size and checksum stay those of the bytes that were sent. No such file is ever recorded.
    """

    name: str
    size: int
    sha256: str
    resent: bool = True
    archive: str = ""
    member: str = ""
    crossed: bool = False


@dataclass(frozen=True)
class Delivery:
    """A sealed set of files, a full snapshot: immutable, in `folder`. `signature` tells the state of the home it was sealed from.

    One of origin *preview* is told in full and never applied.
    """

    id: str
    district: str
    received_at: datetime
    folder: Path
    files: tuple[DeliveredFile, ...]
    origin: Literal["sftp", "folder", "preview"] = "sftp"
    signature: str = ""


# ---------------------------------------------------------------- what it says


@dataclass(frozen=True)
class ColumnShape:
    """What a column looks like from afar: its share of blank cells, how many different values it has, and its commonest form.

    A form has 9 for every digit and a for every letter: `9999`, `aa-999`. No cell can be read from it.

    Where only lines that changed were looked at since: so many values `came` that may be new, and so many `went` that may be gone.
    """

    blank: float = 0.0
    distinct: int = 0
    form: str = ""
    came: int = 0
    went: int = 0


@dataclass(frozen=True)
class FileShape:
    """The outward form of a file, kept to notice a change: its columns as compared, and whether its last line had a line end.

    `rows` counts its rows, `shapes` has what each column looks like, `measures` what else is worth comparing, by name. These two were seen
    when the whole file was read last; `changed` counts the lines that have changed since, and that alone were looked at.
    """

    columns: tuple[str, ...]
    terminated: bool = True
    rows: int = 0
    shapes: Mapping[str, ColumnShape] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    changed: int = 0


@dataclass(frozen=True)
class Rejections:
    """Every line of one file that was left out: `causes[n]` is the place in `labels` of the finding that rejected `lines[n]`.

    A row that follows the record it refers to has the label of that record's finding.
    """

    lines: npt.NDArray[np.int64]
    causes: npt.NDArray[np.int32]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Frames:
    """The files as text: table → DataFrame with lower-case columns, index = line number (the header is line 1).

    `unread` holds, per table, the keys of rows that could not be read into the frame (see `Verdict.seen`), each under its line;
    `rows` counts all rows of the file that hold anything; `shapes` and `faulty`, the lines of the unread rows, are by file name, as the
    contract spells it. `gone` has the shapes of optional files that were sent before and not tonight, by table.
    `aside` is what a format's own reading notes for its assembler, passed on as it is.
    """

    tables: Mapping[str, pd.DataFrame]
    findings: tuple[Finding, ...]
    unread: Mapping[str, pd.DataFrame]
    rows: Mapping[str, int]
    shapes: Mapping[str, FileShape]
    gone: Mapping[str, FileShape] = field(default_factory=dict)
    faulty: Mapping[str, Rejections] = field(default_factory=dict)
    aside: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What may be believed of the frames.

    `seen` has, per table, the keys of rejected rows ("seen but invalid"); a null in a key column stands for *any* value,
    so one row without a readable id speaks for every record of its table. `rejected` counts rejected rows per table,
    `rejections` names their lines, by file.
    """

    tables: Mapping[str, pd.DataFrame]
    findings: tuple[Finding, ...]
    seen: Mapping[str, pd.DataFrame]
    rows: Mapping[str, int]
    rejected: Mapping[str, int]
    rejections: Mapping[str, Rejections]
    refused: bool
    gone: Mapping[str, FileShape] = field(default_factory=dict)
    aside: Mapping[str, pd.DataFrame] = field(default_factory=dict)


# ---------------------------------------------------------------- what a district has


@dataclass(frozen=True)
class Entity:
    """One kind of record: where it is stored, what tells one from another, and what is compared.

    `fixed` are key columns whose value the entity itself gives (a student is a user whose role is student).
    `school` names the column that says which school a record belongs to, where it has one. An `incremental` entity is told in
    additions: that a record is absent from a delivery says nothing about it.
    """

    name: str
    table: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    fixed: Mapping[str, str] = field(default_factory=dict)
    school: str = ""
    incremental: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Key and values, in the order of every frame of this entity."""
        return self.key + self.values


_PERSON = ("school_id", "school_ids", "sis_school_id", "first_name", "middle_name", "last_name", "email", "username", "source", "ext")
_STUDENT = (
    "number", "state_id", "preferred_first_name", "preferred_middle_name", "preferred_last_name", "grade", "gender",
    "graduation_year", "dob", "race", "hispanic_latino", "home_language", "ell_status", "frl_status", "iep_status",
    "gifted_status", "section_504_status", "disability_status", "disability_type", "disability_code",
    "street", "city", "state", "zip", "unweighted_gpa", "weighted_gpa",
)  # fmt: skip

ENTITIES: Mapping[str, Entity] = {
    each.name: each
    for each in (
        Entity(
            "schools", "schools", ("school_id",),
            ("name", "number", "state_id", "low_grade", "high_grade", "principal", "principal_email", "address", "city", "state", "zip", "phone", "ext"),
            school="school_id",
        ),
        Entity("terms", "terms", ("term_id",), ("name", "start_date", "end_date")),
        Entity("courses", "courses", ("course_id",), ("name", "number", "description")),
        Entity("students", "users", ("sis_id",), _PERSON + _STUDENT, {"role": "student"}, "school_id"),
        Entity("teachers", "users", ("sis_id",), (*_PERSON, "number", "state_id", "title"), {"role": "teacher"}, "school_id"),
        Entity("staff", "users", ("sis_id",), (*_PERSON, "title", "department", "staff_role"), {"role": "staff"}, "school_id"),
        Entity(
            "sections", "sections", ("section_id",),
            (
                "school_id", "name", "sis_name", "number", "grade", "sis_grade", "subject", "sis_subject", "period", "course_id", "term_id",
                "course_name", "course_number", "term_name", "term_start", "term_end", "source", "ext",
            ),
            school="school_id",
        ),
        Entity("section_teachers", "section_teachers", ("section_id", "teacher_id"), ("position",)),
        Entity("enrollments", "enrollments", ("section_id", "student_id"), ("school_id", "source"), school="school_id"),
        Entity(
            "contacts", "contacts", ("student_id", "contact_id"),
            ("name", "type", "relationship", "phone", "phone_type", "other_phones", "email", "sis_id", "source"),
        ),
        Entity(
            "attendance", "attendance", ("attendance_id",),
            ("student_id", "date", "status", "type", "excuse_code", "section_id", "school_id"),
            incremental=True,
        ),
    )
}  # fmt: skip
"""Every entity, parents before children. In a frame every value is text and absence is the empty string; the store keeps absence as NULL.

`source` names the district's own side file that a record came from (*custom*, *preferred*, *admins*) and is blank for the main files;
`sis_…` columns hold what was sent where another column holds what was derived from it (contract 1.8).
"""

LONGEST_TEAM = 10
"""A section has as many teachers as Clever's sections.csv has columns for them."""

LEFT_BY_MOVING = ("section_id", *ENTITIES["enrollments"].values)
"""What the move of an enrollment tells of the place that it leaves, each under a name that begins with `from_`."""


@dataclass(frozen=True)
class Roster:
    """All records of one district: entity → DataFrame with `Entity.columns`, all text.

    A roster read from the store also has a boolean column `active`; a wanted one has none, all of it is active.
    """

    entities: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Assembled:
    """What a delivery describes: the wanted roster, and the keys seen in rejected rows, by entity (a null stands for any value).

    `covered` says which sources of an entity were delivered; records of any other source stay as they are. An entity that is not
    in it is covered whole.
    """

    roster: Roster
    seen: Mapping[str, pd.DataFrame]
    covered: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Derivations:
    """What is derived from the files as Clever does it (contract 1.8); switched off, what was sent stands.

    primary_school  the school where a person has most sections, in place of the one in his row
    schools         all schools of a person's sections, in place of the one in his row
    section_name    course, teacher's last name and period, in place of Name
    section_grade   the commonest grade of a section's students, in place of Grade
    subject         one of Clever's subjects, guessed from Subject, Name and Course_name, in place of Subject
    course          courses, from the sections that name them
    term            terms, from the sections that name them
    contact_merge   rows that mean the same person are one contact
    """

    primary_school: bool = True
    schools: bool = True
    section_name: bool = True
    section_grade: bool = True
    subject: bool = True
    course: bool = True
    term: bool = True
    contact_merge: bool = True


# ---------------------------------------------------------------- what would change


@dataclass(frozen=True)
class Counts:
    """What a run did, or would do, to one entity; `rows` and `rejected` count rows of files, the rest count records."""

    existing: int = 0
    rows: int = 0
    created: int = 0
    updated: int = 0
    moved: int = 0
    deactivated: int = 0
    reactivated: int = 0
    unchanged: int = 0
    rejected: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class ChangeSet:
    """All differences between the live roster and the wanted one.

    `changes`: entity → DataFrame with `Entity.columns` (the wanted values; of a deactivated record, its last) and
    `operation`, in key order; enrollments that moved have also what is `LEFT_BY_MOVING`.
    `before`: entity → DataFrame of the same length with the values held now, empty text where there was no record.
    """

    changes: Mapping[str, pd.DataFrame]
    before: Mapping[str, pd.DataFrame]
    existing: Mapping[str, int]
    unchanged: Mapping[str, int]
    findings: tuple[Finding, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.size

    @property
    def size(self) -> int:
        """How many changes there are."""
        return sum(len(frame) for frame in self.changes.values())


@dataclass(frozen=True)
class Limits:
    """How much may change without a person: a limit trips when more than `records` *and* more than the share are touched.

    Shares are fractions of the records that an entity has now, counted per district and per school. An `updated_share` above 1 never trips.
    """

    records: int = 10
    removed_share: float = 0.10
    updated_share: float = 0.75

    def trips(self, count: int, total: int, share: float) -> bool:
        """Whether so many of so many are more than `records`, and more than the share."""
        return count > self.records and count > share * total


_NIGHTS: Mapping[str, str] = {
    "headers": "when columns that were sent before are missing",
    "crossed": "of which two sessions sent different files at once",
}
"""Kind of a hold's reason → the night on which no removal is believed."""


@dataclass(frozen=True)
class HoldReason:
    """One tripped limit: of `total` records of the entity (in `school`, or in the district where that is empty) `count` would change.

    `evidence` says what speaks for changed ids, in numbers and without names.
    """

    entity: str
    school: str
    kind: Literal["removed", "rekeyed", "updated", "headers", "crossed"]
    count: int
    total: int
    evidence: str = ""

    @property
    def sentence(self) -> str:
        """The reason as a person would say it."""
        where = f"school {self.school}" if self.school else "the district"
        what = self.entity.replace("_", " ")
        if self.kind in _NIGHTS:
            return f"{self.count:,} of {self.total:,} {what} would be removed on a night {_NIGHTS[self.kind]}"
        share = f"{self.count:,} of {self.total:,} {what} of {where} ({self.count / max(self.total, 1):.0%})"
        evidence = f" ({self.evidence})" if self.evidence else ""
        return {
            "removed": f"{share} would be removed",
            "rekeyed": f"{share} would be removed while about as many new ones appear: their ids seem to have changed{evidence}",
            "updated": f"{share} would be updated at once",
        }[self.kind]


@dataclass(frozen=True)
class Hold:
    """A part of a change set that waits for a person. `digest` belongs to exactly that part; `scope` says what waits, entity → records."""

    reasons: tuple[HoldReason, ...]
    scope: Mapping[str, int]
    digest: str


@dataclass(frozen=True)
class Details:
    """What a report only counts, in full; none of it is known any more once the run's process has ended.

    By file, as the contract spells it: how many `rows` it has, how many of them were `left_out`, and those rows as they were sent
    (`rejected`, the first of them only, with what is wrong appended). `done` is what is applied, `waiting` what a hold keeps back.
    `left_alone` has the keys of records that a revert did not touch, by entity. Where all of it is as in another run, that is `same_as`,
    and nothing else is told.
    """

    rows: Mapping[str, int]
    left_out: Mapping[str, int]
    rejected: Mapping[str, pa.Table]
    done: ChangeSet | None
    waiting: ChangeSet | None
    findings: tuple[Finding, ...]
    left_alone: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    same_as: int | None = None


# ---------------------------------------------------------------- what was done


@dataclass(frozen=True)
class Preview:
    """What a run of a preview would have come to: its outcome, and the hold that it would have opened."""

    outcome: Outcome
    hold: Hold | None = None


@dataclass(frozen=True)
class LeftAlone:
    """Records of one entity that a revert did not touch, as they have changed since: how many, and the ids of the first of them.

    The ids of a record that joins two others, as an enrollment, are both of theirs with a slash between them.
    """

    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One entry of the change log: of a record, named by its `key`, the values that differ before and after; None where there was no record before."""

    run: int
    sequence: int
    entity: str
    key: Mapping[str, str]
    operation: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class SyncRun:
    """One attempt to bring a district to what a delivery says, as the ledger knows it.

    A run that `reverts` another one undoes what that one did to the roster, and names the same delivery; `left_alone` says what it did not touch.
    """

    id: int
    district: str
    delivery: str
    state: Literal["pending", "running", "closed"]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    attempts: int = 0
    approved_digest: str = ""
    counts: Mapping[str, Counts] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    preview: Preview | None = None
    reverts: int | None = None
    left_alone: Mapping[str, LeftAlone] = field(default_factory=dict)


@dataclass(frozen=True)
class HoldRecord:
    """A hold as the ledger keeps it."""

    id: int
    run: int
    district: str
    state: HoldState
    created_at: datetime
    hold: Hold
    decided_by: str = ""
    decided_at: datetime | None = None


@dataclass(frozen=True)
class Cause:
    """Findings with one root: how many `rows` of each file and how many records of each entity are left out because of it."""

    finding: Finding
    rows: Mapping[str, int]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SyncReport:
    """A run told to people: everything a page, a mail or a terminal shows. Of a `preview` the outcome is what would have been."""

    district: str
    district_name: str
    run: int | None
    delivery: str
    outcome: Outcome
    verdict: str
    received_at: datetime | None
    finished_at: datetime | None
    files: tuple[DeliveredFile, ...]
    counts: Mapping[str, Counts]
    causes: tuple[Cause, ...]
    findings: tuple[Finding, ...]
    hold: Hold | None
    hold_state: str
    seconds: Mapping[str, float]
    history: tuple[SyncRun, ...] = ()
    error: str = ""
    preview: bool = False
    hold_number: int | None = None
    reverts: int | None = None
    left_alone: Mapping[str, LeftAlone] = field(default_factory=dict)
