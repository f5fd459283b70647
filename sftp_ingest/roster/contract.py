"""A format's rules as data: the files under schemas/, read into frozen dataclasses."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sftp_ingest
from sftp_ingest.errors import ContractError

TYPES = ("string", "id", "grade", "gender", "date", "flag", "email", "phone")
ORDER = ("schools", "teachers", "staff", "students", "sections", "enrollments")
"""The order of checking: what is referred to comes before what refers to it."""


@dataclass(frozen=True)
class Field:
    """One column: `column` is the header as compared, `to` the roster's column, `derive` the column that stands for it when it is absent."""

    name: str
    type: str = "string"
    to: str = ""
    required: bool = False
    unique: bool = False
    pattern: str = ""
    sensitive: bool = False
    drop: bool = False
    derive: str = ""

    @property
    def column(self) -> str:
        """The normalised header."""
        return normalised(self.name)


@dataclass(frozen=True)
class Reference:
    """A column whose cells must name a record of another table; where `optional`, a wrong one clears the cell instead of rejecting the row."""

    column: str
    table: str
    optional: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rules of one file. Rows of one key may be `repeat`ed where only columns of that name, or beginning with it, differ."""

    name: str
    file: str
    core: bool
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    references: tuple[Reference, ...] = ()
    repeat: str = ""
    ext: bool = True

    @property
    def columns(self) -> Mapping[str, Field]:
        """Normalised header → field."""
        return {each.column: each for each in self.fields}

    def repeats(self, column: str) -> bool:
        """Whether the column may differ between repeated rows of one record."""
        return bool(self.repeat) and column.startswith(self.repeat)


@dataclass(frozen=True)
class Contract:
    """A whole format, its tables in the order of checking, and the digest of the rules."""

    format: str
    tables: Mapping[str, Table]
    digest: str


def normalised(header: str) -> str:
    """A header as compared: without surrounding space, in lower case, with `_` for spaces and hyphens; what follows `ext.` is the district's own and stays.

    Clever's material spells headers `School_id`, `school_id` and `School id`.
    """
    text = header.strip().strip("\ufeff").strip()
    if text[:4].lower() == "ext.":
        return "ext." + text[4:].strip()
    return re.sub(r"[\s-]+", "_", text.lower())


def load(format: str = "clever") -> Contract:
    """The contract of a known format. Raises ContractError where a file of it is missing or wrong."""
    folder = _schemas() / format
    digest = hashlib.sha256()
    tables = {}
    for name in ORDER:
        path = folder / f"{name}.toml"
        try:
            text = path.read_bytes()
            tables[name] = _table(name, tomllib.loads(text.decode("utf-8")), path.name)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
            raise ContractError(f"{format}/{path.name} cannot be read: {fault}") from fault
        digest.update(text)
    for table in tables.values():
        for reference in table.references:
            if reference.table not in tables:
                raise ContractError(f"{format}/{table.name}.toml: foreignKeys names the unknown table {reference.table}")
    return Contract(format, tables, digest.hexdigest())


def keeping(contract: Contract, sensitive: Collection[str]) -> Contract:
    """The contract of a district that stores only the sensitive columns named here; all others are dropped while reading (law 10)."""
    tables = {
        name: replace(table, fields=tuple(replace(each, drop=each.drop or (each.sensitive and each.column not in sensitive)) for each in table.fields))
        for name, table in contract.tables.items()
    }
    return replace(contract, tables=tables)


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
    unknown = set(data) - {"name", "type", "to", "constraints", "sensitive", "drop", "derive"} | set(constraints) - {"required", "unique", "pattern"}
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
    )
    if field.type not in TYPES:
        raise ContractError(f"{where}: {field.name} has the unknown type {field.type}; known are {', '.join(TYPES)}")
    try:
        re.compile(field.pattern)
    except re.error as fault:
        raise ContractError(f"{where}: the pattern of {field.name} is no regular expression: {fault}") from fault
    return field
