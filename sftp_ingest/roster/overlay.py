"""A district's own rules, laid over a format's: columns under other names, further demands, its words for the format's, checks of its own.

A folder of TOML files named as the format's tables, each with only what differs; the README's "A district's own rules" has an example.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from sftp_ingest.errors import ContractError
from sftp_ingest.findings import Severity
from sftp_ingest.roster import contract, values
from sftp_ingest.roster.contract import TYPES, Check, Contract, Digest, Field, Table, check_pattern, normalised, toml_of
from sftp_ingest.roster.values import DATES

FIELD_KEYS = ("name", "to", "type", "headers", "constraints", "values", "sensitive", "drop")
CONSTRAINTS = ("required", "unique", "pattern", "enum", "minLength", "maxLength")
CHECK_KEYS = ("name", "column", "pattern", "enum", "minimum", "maximum", "unique", "compare", "severity", "advice")
SEVERITIES: Mapping[str, Severity] = {"warn": "warn", "reject": "reject"}
ORDERED = ("date", "grade")
"""Types whose values have an order of their own; all others are compared as numbers."""

_COMPARISON = re.compile(r"\s*(.+?)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*")
_EXT = re.compile(r"ext\.[^.\s]+")  # contract 1.7: exactly one period, no spaces

T = TypeVar("T", str, bool, int)


def rules(format: str, folder: str, keep_sensitive: Collection[str]) -> Contract:
    """The contract by which a district's deliveries of a format are judged: the format's, under its own folder's, with the columns that it keeps.

    Raises ContractError as `laid_over` and `keeping` do.
    """
    return keeping(laid_over(contract.load(format), folder), keep_sensitive)


def keeping(own: Contract, keep_sensitive: Collection[str]) -> Contract:
    """The contract of a district that stores only these of its sensitive columns.

    Raises ContractError where one of them is no such column, and as `contract.keeping` does.
    """
    known = dict.fromkeys(each.column.lower() for table in own.tables.values() for each in table.fields if each.sensitive)
    for name in keep_sensitive:
        if name not in known:
            raise ContractError(f"keep_sensitive names {name}, which is no sensitive column{_known(name, known)}")
    return contract.keeping(own, keep_sensitive)


def laid_over(contract: Contract, folder: str) -> Contract:
    """The contract under the rules of a district's own folder, which its digest then covers; unchanged where `folder` is empty.

    Raises ContractError, naming the file and the key, where the folder is none or says what cannot be.
    """
    if not folder:
        return contract
    path = Path(folder)
    if not path.is_dir():
        raise ContractError(f"there is no folder of the district's own rules at {path}")
    files = sorted(path.glob("*.toml"))
    if not files:
        raise ContractError(f"the folder of the district's own rules at {path} holds no .toml file")
    digest = hashlib.sha256(contract.digest.encode())
    tables = dict(contract.tables)
    for file in files:
        where = f"{path.name}/{file.name}"
        if file.stem not in tables:
            raise ContractError(f"{where}: {contract.format} has no table {file.stem}{_known(file.stem, tables)}")
        digest.update(file.name.encode())
        tables[file.stem] = _table(tables[file.stem], file, where, digest)
    return replace(contract, tables=tables, digest=digest.hexdigest())


def _table(table: Table, file: Path, where: str, digest: Digest) -> Table:
    told = toml_of(file, digest)
    _refuse_unknown(told, ("fields", "checks"), where)
    fields = dict(table.columns)
    checks: list[Check] = []
    told_of: set[str] = set()
    for entry in _entries(told, "fields", where):
        made, more = _field(table, entry, where)
        if made.column in told_of:
            raise ContractError(f"{where}: {made.name} has two entries under fields")
        told_of.add(made.column)
        fields[made.column] = made
        checks += more
    made_table = replace(table, fields=tuple(fields.values()))
    _refuse_claimed_headers(made_table, where)
    checks += [_check(made_table, entry, where) for entry in _entries(told, "checks", where)]
    names = [each.name for each in checks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ContractError(f"{where}: two checks have the name {twice}")
    return replace(made_table, checks=tuple(checks))


# ---------------------------------------------------------------- fields


def _field(table: Table, entry: Mapping[str, Any], where: str) -> tuple[Field, list[Check]]:
    """A column under the district's rules, and the check that a `unique` comes to."""
    name = _one(entry, "name", str, "", f"{where}: fields")
    if not name.strip():
        raise ContractError(f"{where}: an entry under fields has no name")
    where = f"{where}: {name}"
    _refuse_unknown(entry, FIELD_KEYS, where)
    field = _named(table, entry, name, where)
    headers = tuple(dict.fromkeys([*field.headers, *(normalised(each) for each in _texts(entry, "headers", where))]))
    if "" in headers:
        raise ContractError(f"{where}: headers holds a blank")
    if field.drop and set(entry) - {"name", "headers"}:
        raise ContractError(f"{where}: this column is never read, so that only headers can be said of it")
    constraints = _mapping(entry, "constraints", where)
    _refuse_unknown(constraints, CONSTRAINTS, f"{where}: constraints")
    field = _demanding(table, replace(field, headers=headers), constraints, where)
    field = replace(field, values=_values(entry, field.type, where), sensitive=_one(entry, "sensitive", bool, field.sensitive, where))
    if table.columns.get(field.column, field).sensitive and not field.sensitive:
        raise ContractError(f"{where}: sensitive cannot be taken away; keep_sensitive in the configuration names what is kept")
    if _one(entry, "drop", bool, field.drop, where) and not field.drop:
        if field.column in table.key or field.required:
            raise ContractError(f"{where}: drop cannot be said of a key or a required column")
        field = replace(field, drop=True)
    unique = _one(constraints, "unique", bool, False, f"{where}: constraints")
    return field, [Check(f"{field.name} is unique", field.column, unique=True)] if unique and table.key != (field.column,) else []


def _named(table: Table, entry: Mapping[str, Any], name: str, where: str) -> Field:
    """The format's column of this name, or a new ext. column, which may have a header of another name."""
    to = _one(entry, "to", str, "", where)
    type = _one(entry, "type", str, "", where)
    known = table.columns.get(normalised(name))
    if known is not None:
        if to or type:
            raise ContractError(f"{where}: {'to' if to else 'type'} cannot be said of a column of the format")
        return known
    column = normalised(to or name)
    if not column.startswith("ext."):
        if to:
            raise ContractError(f"{where}: to must be ext. and a name, as ext.lunch_number")
        raise ContractError(f'{where} is no column of {table.file}; a new one needs to = "ext.…"{_known(normalised(name), table.columns)}')
    if not table.ext:
        raise ContractError(f"{where}: {table.file} takes no ext. columns")
    if not _EXT.fullmatch(column):
        raise ContractError(f"{where}: the name of an ext. column holds no space and no further period")
    if type and type not in TYPES:
        raise ContractError(f"{where}: the type {type} is unknown{_known(type, TYPES)}")
    header = normalised(name)
    return Field(name=column, type=type or "string", headers=() if header == column else (header,))


def _demanding(table: Table, field: Field, constraints: Mapping[str, Any], where: str) -> Field:
    """The column with the district's constraints in place of the format's."""
    where = f"{where}: constraints"
    if "required" in constraints:
        required = _one(constraints, "required", bool, False, where)
        if not required and field.column in table.key:
            raise ContractError(f"{where}: required cannot be false of a key, by which rows are told apart")
        field = replace(field, required=required, waived=field.required and not required, derive="")
    if "unique" in constraints and not _one(constraints, "unique", bool, False, where) and table.key == (field.column,):
        raise ContractError(f"{where}: unique cannot be false of a key, by which rows are told apart")
    pattern = _one(constraints, "pattern", str, field.pattern, where)
    check_pattern(pattern, f"{where}: pattern")
    least, most = _one(constraints, "minLength", int, 0, where), _one(constraints, "maxLength", int, 0, where)
    if least < 0 or most < 0 or (most and least > most):
        raise ContractError(f"{where}: minLength and maxLength must be whole numbers from 0, the lesser first")
    return replace(field, pattern=pattern, enum=_enum(constraints, where), min_length=least, max_length=most)


def _values(entry: Mapping[str, Any], type: str, where: str) -> tuple[tuple[str, str], ...]:
    """The district's words and what they stand for: a value of the column's type, or a blank."""
    told = _mapping(entry, "values", where)
    for sent, meant in told.items():
        if not isinstance(meant, str) or not sent.strip():
            raise ContractError(f'{where}: values must pair texts, as "Frosh" = "9", and cannot pair a blank')
        if meant.strip() and not values.understood(type, meant.strip()):
            raise ContractError(f"{where}: values: {sent} cannot stand for {meant}, which is no {type.replace('_', ' ')} that the format knows")
    return tuple((sent.strip(), meant.strip()) for sent, meant in told.items())


def _refuse_claimed_headers(table: Table, where: str) -> None:
    claimed: dict[str, Field] = dict(table.columns)
    for each in table.fields:
        for header in each.headers:
            if (owner := claimed.setdefault(header, each)) is not each:
                raise ContractError(f"{where}: {each.name}: the header {header} already means {owner.name}")


# ---------------------------------------------------------------- checks


def _check(table: Table, entry: Mapping[str, Any], where: str) -> Check:
    name = _one(entry, "name", str, "", f"{where}: checks")
    if not name.strip():
        raise ContractError(f"{where}: an entry under checks has no name")
    where = f"{where}: {name}"
    _refuse_unknown(entry, CHECK_KEYS, where)
    kinds = {"minimum" if key == "maximum" else key for key in entry if key in ("pattern", "enum", "minimum", "maximum", "unique", "compare")}
    if len(kinds) != 1:
        raise ContractError(f"{where}: a check has one of pattern, enum, minimum and maximum, unique or compare")
    severity = _one(entry, "severity", str, "warn", where)
    if severity not in SEVERITIES:
        raise ContractError(f"{where}: severity must be {' or '.join(SEVERITIES)}")
    check = Check(name.strip(), "", SEVERITIES[severity], _one(entry, "advice", str, "", where).strip())
    if "compare" in entry:
        return _comparing(table, check, entry, where)
    check = replace(check, column=_column(table, _one(entry, "column", str, "", where), f"{where}: column"))
    match kinds.pop():
        case "pattern":
            pattern = _one(entry, "pattern", str, "", where)
            check_pattern(pattern, f"{where}: pattern")
            return replace(check, pattern=pattern)
        case "enum":
            return replace(check, enum=_enum(entry, where))
        case "unique":
            if not _one(entry, "unique", bool, False, where):
                raise ContractError(f"{where}: unique can only be true")
            return replace(check, unique=True)
    return _bounded(table, check, entry, where)


def _comparing(table: Table, check: Check, entry: Mapping[str, Any], where: str) -> Check:
    told = _COMPARISON.fullmatch(_one(entry, "compare", str, "", where))
    if told is None:
        raise ContractError(f'{where}: compare must name two columns, as "Term_end >= Term_start"')
    if "column" in entry:
        raise ContractError(f"{where}: column cannot be said beside compare, which names its own")
    left, right = (_column(table, name, f"{where}: compare") for name in (told[1], told[3]))
    types = {_type(table, column) for column in (left, right)}
    if len(types) > 1 and types & set(ORDERED):
        raise ContractError(f"{where}: compare cannot set a {' beside a '.join(sorted(types))}")
    return replace(check, column=left, relation=told[2], other=right)


def _bounded(table: Table, check: Check, entry: Mapping[str, Any], where: str) -> Check:
    bounds: dict[str, float] = {}
    dated = _type(table, check.column) == "date"
    for key in ("minimum", "maximum"):
        if key not in entry:
            continue
        told = entry[key]
        if dated and type(told) is date:
            bounds[key] = float(f"{told:%Y%m%d}")
        elif not dated and type(told) in (int, float) and abs(told) < float("inf"):
            bounds[key] = float(told)
        else:
            raise ContractError(f"{where}: {key} must be a {'date, as 2026-08-17 without quotes' if dated else 'number'}")
    if len(bounds) == 2 and bounds["minimum"] > bounds["maximum"]:
        raise ContractError(f"{where}: minimum is above maximum")
    return replace(check, minimum=bounds.get("minimum"), maximum=bounds.get("maximum"))


def _column(table: Table, name: str, where: str) -> str:
    """The column that a check names, as the format or the district calls it."""
    column = table.column_of(name)
    known = table.columns.get(column)
    if known is not None and known.drop:
        raise ContractError(f"{where}: {name} is never read")
    if known is None and not (table.ext and _EXT.fullmatch(column)):
        raise ContractError(f"{where}: {name or 'nothing'} is no column of {table.file}{_known(column, table.columns)}")
    return column


def _type(table: Table, column: str) -> str:
    """The type by which the column's values are compared: a date is a date, whatever it is the date of."""
    type = table.columns[column].type if column in table.columns else "string"
    return "date" if type in DATES else type


# ---------------------------------------------------------------- what stands in the TOML


def _one(told: Mapping[str, Any], key: str, kind: type[T], absent: T, where: str) -> T:
    value = told.get(key, absent)
    if type(value) is not kind:
        raise ContractError(f"{where}: {key} must be {'text' if kind is str else 'true or false' if kind is bool else 'a whole number'}")
    return value


def _texts(told: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = told.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ContractError(f"{where}: {key} must be a list of texts")
    return tuple(value)


def _enum(told: Mapping[str, Any], where: str) -> tuple[str, ...]:
    allowed = _texts(told, "enum", where)
    if "enum" in told and not any(each.strip() for each in allowed):
        raise ContractError(f"{where}: enum allows nothing")
    return tuple(each.strip() for each in allowed)


def _mapping(told: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = told.get(key, {})
    if not isinstance(value, dict):
        raise ContractError(f"{where}: {key} must be a table, as {{ … = … }}")
    return value


def _entries(told: Mapping[str, Any], key: str, where: str) -> Iterable[Mapping[str, Any]]:
    value = told.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ContractError(f"{where}: {key} must be entries that begin with [[{key}]]")
    return value


def _refuse_unknown(told: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in told:
        if key not in known:
            raise ContractError(f"{where}: the key {key} is unknown{_known(key, known)}")


def _known(word: str, known: Collection[str]) -> str:
    """What might have been meant, and all that could have been."""
    alike = difflib.get_close_matches(word.lower(), {each.lower(): each for each in known}, 1)
    meant = next((each for each in known if alike and each.lower() == alike[0]), "")
    return f"{f'; {meant} may be meant' if meant else ''}; known are {', '.join(known)}"
