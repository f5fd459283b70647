"""A format's rules as data: the files under schemas/, read into frozen dataclasses."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

import sftp_ingest
from sftp_ingest.errors import ContractError
from sftp_ingest.findings import Severity

TYPES = (
    "string", "id", "email", "phone", "flag", "date", "birth_date", "grade", "gender", "race", "meal_status", "language", "disability", "disability_code",
    "contact_type", "relationship", "phone_type", "attendance", "attendance_type",
)  # fmt: skip
FORMAT = "format.toml"
"""Of a folder of contracts: its tables in the order of checking, what is referred to before what refers to it."""


class Digest(Protocol):
    """What a file's bytes are counted into."""

    def update(self, data: bytes, /) -> None:
        """Count them in."""


@dataclass(frozen=True)
class Field:
    """One column: `to` is the roster's column, `derive` the column that stands for it when it is absent, `aliases` are headers that real files misspell.

    `place` names the frame's column where that is not the header itself, as in files whose words are not the roster's.
    The rest is a district's own: `headers` are further ones that mean this column, as compared; `values` are pairs of a text and what it
    stands for; `enum` and the lengths say how cells look. A `waived` column is one that the format requires and the district need not send.
    """

    name: str
    type: str = "string"
    to: str = ""
    required: bool = False
    unique: bool = False
    pattern: str = ""
    sensitive: bool = False
    drop: bool = False
    derive: str = ""
    place: str = ""
    aliases: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    enum: tuple[str, ...] = ()
    min_length: int = 0
    max_length: int = 0
    waived: bool = False

    @property
    def column(self) -> str:
        """The frame's column: the header as compared, unless it has a place of its own."""
        return self.place or normalised(self.name)


@dataclass(frozen=True)
class Reference:
    """A column whose cells must name a record of another table; where `optional`, a wrong one clears the cell instead of rejecting the row."""

    column: str
    table: str
    optional: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prefix:
    """Headers that begin so are read under another beginning; where `read` is blank they are part of the format and are not read."""

    starts: str
    read: str = ""
    misspelt: bool = False


@dataclass(frozen=True)
class Check:
    """A district's own demand on the cells of `column`; blank cells always meet it.

    It is one of these: a `pattern` for the whole cell; an `enum` of what may stand there; a `minimum`, a `maximum` or both (a date is the
    number YYYYMMDD); `unique`, that no two records have one cell; or the `relation` (as `>=`) in which it must stand to the column `other`.
    """

    name: str
    column: str
    severity: Severity = "warn"
    advice: str = ""
    pattern: str = ""
    enum: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    unique: bool = False
    relation: str = ""
    other: str = ""


@dataclass(frozen=True)
class Table:
    """The rules of one file. Rows of one key may be `repeat`ed where only columns of that name, or beginning with it, differ.

    Several tables may hold the `records` of one kind: where two have the same key, the one of the lowest `rank` counts; `source` is what
    the roster keeps of where a record came from. A table that `extends` a kind holds no records of its own, only further columns.
    A table that `may_be_empty` says by a header alone that nobody is left in it; an `incremental` one says nothing of who is not in it.
    A table `of` another is drawn from that one's rows and has no file of its own; where the column `sorts` says to which table a row
    belongs, the rows that stay behind are rejected. A file of `pairs` has a name and a value a line, and no columns to speak of.
    """

    name: str
    file: str
    core: bool
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    references: tuple[Reference, ...] = ()
    repeat: str = ""
    ext: bool = True
    records: str = ""
    rank: int = 0
    source: str = ""
    extends: str = ""
    may_be_empty: bool = False
    incremental: bool = False
    deprecated: str = ""
    of: str = ""
    sorts: str = ""
    pairs: bool = False
    prefixes: tuple[Prefix, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def headings(self) -> Mapping[str, Field]:
        """Header as compared → field: the format's own, the misspelt ones, and those that a district uses."""
        return {normalised(name): each for each in self.fields for name in (*each.aliases, *each.headers, each.name)}

    @property
    def columns(self) -> Mapping[str, Field]:
        """The frame's column → field."""
        return {each.column: each for each in self.fields}

    def column_of(self, header: str) -> str:
        """The column that a header means: that of the field which is called so, else the header itself as compared."""
        name = normalised(header)
        meant = self.headings.get(name)
        return meant.column if meant is not None else name

    def repeats(self, column: str) -> bool:
        """Whether the column may differ between repeated rows of one record."""
        return bool(self.repeat) and column.startswith(self.repeat)


@dataclass(frozen=True)
class Contract:
    """A whole format, its tables in the order of checking, and the digest of the rules.

    Its files lie in the home itself or in one of `folders`; `unread` are files of the format that say nothing of a roster.
    """

    format: str
    tables: Mapping[str, Table]
    digest: str
    folders: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def of(self, records: str) -> tuple[Table, ...]:
        """The tables that hold records of a kind, those that count most first."""
        return tuple(sorted((table for table in self.tables.values() if table.records == records), key=lambda table: table.rank))


@lru_cache(4096)  # the contract's own are asked for thousands of times a night
def normalised(header: str) -> str:
    """A header as compared: without surrounding space, in lower case, with `_` for spaces and hyphens; what follows `ext.` is the district's own and stays.

    Clever's material spells headers `School_id`, `school_id` and `School id`.
    """
    text = header.strip().strip("\ufeff").strip()
    if text[:4].lower() == "ext.":
        return "ext." + text[4:].strip()
    return re.sub(r"[\s-]+", "_", text.lower())


def in_home(name: str, contract: Contract) -> str:
    """The name that a file in one of the format's folders would have in the home itself."""
    folder, _, rest = name.partition("/")
    return rest if rest and folder.lower() in contract.folders else name


@cache
def load(format: str = "clever") -> Contract:
    """The contract of a known format, read once. Raises ContractError where a file of it is missing or wrong."""
    folder = _schemas() / format
    digest = hashlib.sha256()
    whole = toml_of(folder / FORMAT, digest)
    prefixes = tuple(Prefix(**each) for each in whole.get("prefixes", ()))
    tables = {name: replace(_table(name, toml_of(folder / f"{name}.toml", digest), f"{format}/{name}.toml"), prefixes=prefixes) for name in whole["tables"]}
    kinds = {table.records for table in tables.values()}
    for table in tables.values():
        for kind in (*(each.table for each in table.references), *([table.extends] if table.extends else [])):
            if kind not in kinds:
                raise ContractError(f"{format}/{table.name}.toml names the unknown table {kind}")
    return Contract(format, tables, digest.hexdigest(), tuple(whole.get("folders", ())), tuple(whole.get("unread", ())))


def keeping(contract: Contract, sensitive: Collection[str]) -> Contract:
    """The contract of a district that stores only the sensitive columns named here; all others are dropped while reading (law 10).

    Raises ContractError where a rule of the district's own needs a column that is dropped: it would never be broken.
    """
    return replace(contract, tables={name: _keeping(table, sensitive) for name, table in contract.tables.items()})


def _keeping(table: Table, sensitive: Collection[str]) -> Table:
    fields = tuple(replace(each, drop=each.drop or (each.sensitive and each.column.lower() not in sensitive)) for each in table.fields)
    dropped = {each.column: each.name for each in fields if each.drop}
    ruled = [each.column for each in fields if each.required] + [column for check in table.checks for column in (check.column, check.other)]
    for column in ruled:
        if column in dropped:
            raise ContractError(f"{table.name}.toml: there is a rule for {dropped[column]}, which is not kept; keep_sensitive must name {column.lower()}")
    return replace(table, fields=fields)


def toml_of(path: Path, digest: Digest) -> dict[str, Any]:
    """What a file of a contract says; its bytes are counted into the digest. Raises ContractError where it cannot be read."""
    try:
        text = path.read_bytes()
        digest.update(text)
        return tomllib.loads(text.decode("utf-8"))
    except OSError as fault:
        raise ContractError(f"{path.parent.name}/{path.name} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise ContractError(f"{path.parent.name}/{path.name} is not text in UTF-8 (byte {fault.start + 1})") from fault
    except tomllib.TOMLDecodeError as fault:
        raise ContractError(f"{path.parent.name}/{path.name} is not TOML: {fault}") from fault


def check_pattern(pattern: str, where: str) -> None:
    """Raises ContractError where Arrow, which does the matching, takes the pattern for no regular expression; it knows no look-around."""
    try:
        pc.match_substring_regex(pa.array([""], pa.string()), pattern)
    except pa.ArrowInvalid as fault:
        raise ContractError(f"{where} is no regular expression: {fault}") from fault


def _schemas() -> Path:
    """The folder of contracts: inside the installed package, or beside it in a checkout."""
    package = Path(sftp_ingest.__file__).parent
    for folder in (package / "schemas", package.parent / "schemas"):
        if folder.is_dir():
            return folder
    raise ContractError(f"there is no folder of contracts beside {package}")


def _table(name: str, data: Mapping[str, Any], where: str) -> Table:
    try:
        fields = tuple(_field(each, where) for each in data["fields"])
        table = Table(
            name=name,
            file=data["file"],
            core=data["core"],
            key=tuple(data["primaryKey"]),
            fields=fields,
            references=tuple(
                Reference(each["fields"], each["reference"], each.get("optional", False), tuple(each.get("also", ()))) for each in data.get("foreignKeys", ())
            ),
            repeat=data.get("repeat", ""),
            ext=data.get("ext", True),
            records="" if "extends" in data else data.get("records", name),
            rank=data.get("rank", 0),
            source=data.get("source", ""),
            extends=data.get("extends", ""),
            may_be_empty=data.get("may_be_empty", False),
            incremental=data.get("incremental", False),
            deprecated=data.get("deprecated", ""),
            of=data.get("of", ""),
            sorts=data.get("sorts", ""),
            pairs=data.get("pairs", False),
        )
    except KeyError as fault:
        raise ContractError(f"{where}: the key {fault} is missing") from fault
    for each in fields:
        if each.unique and table.key != (each.column,):
            raise ContractError(f"{where}: {each.name} is unique, but not the primaryKey, by which rows are told apart")
    columns = {each.column for each in fields}
    for column in (*table.key, *(each.column for each in table.references)):
        if column not in columns:
            raise ContractError(f"{where}: {column} is a key or a reference, but no field")
    return table


def _field(data: Mapping[str, Any], where: str) -> Field:
    constraints = data.get("constraints", {})
    keys = {"name", "type", "to", "constraints", "sensitive", "drop", "derive", "place", "aliases"}
    unknown = set(data) - keys | set(constraints) - {"required", "unique", "pattern"}
    if unknown:
        raise ContractError(f"{where}: {data.get('name')} has the unknown key {sorted(unknown)[0]}")
    field = Field(
        name=data["name"],
        type=data.get("type", "string"),
        to=data.get("to", ""),
        required=constraints.get("required", False),
        unique=constraints.get("unique", False),
        pattern=constraints.get("pattern", ""),
        sensitive=data.get("sensitive", False),
        drop=data.get("drop", False),
        derive=normalised(data.get("derive", "")),
        place=data.get("place", ""),
        aliases=tuple(data.get("aliases", ())),
    )
    if field.type not in TYPES:
        raise ContractError(f"{where}: {field.name} has the unknown type {field.type}; known are {', '.join(TYPES)}")
    check_pattern(field.pattern, f"{where}: the pattern of {field.name}")
    return field
