"""The story of one record: every delivery, line, finding, hold, decision and change that touched it, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Engine

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError, DeliveryError
from sftp_ingest.findings import Finding
from sftp_ingest.model import ENTITIES, PACKED, Change, Delivery, HoldRecord, RecordKind, SyncRun
from sftp_ingest.report import archive
from sftp_ingest.roster import contract, files, formats, trace
from sftp_ingest.roster.contract import Contract
from sftp_ingest.store import changes, database, ledger

COLUMNS: Mapping[RecordKind, Mapping[str, str]] = {
    "user": {
        "students": "sis_id", "teachers": "sis_id", "staff": "sis_id",
        "section_teachers": "teacher_id", "enrollments": "student_id", "contacts": "student_id",
    },
    "section": {"sections": "section_id", "section_teachers": "section_id", "enrollments": "section_id"},
    "school": {"schools": "school_id"},
}  # fmt: skip
"""Kind of record → the entities that tell of it, and their column that has its id. All that happens in a school is not the school's story."""

OWN: Mapping[RecordKind, tuple[str, ...]] = {"user": ("students", "teachers", "staff"), "section": ("sections",), "school": ("schools",)}
"""Kind of record → the entities that it may be: a person may be student, teacher and member of staff at once."""

_ORDER = ("delivery", "finding", "run", "change", "hold", "decision")

What = Literal["delivery", "finding", "run", "change", "hold", "decision"]


@dataclass(frozen=True)
class Event:
    """One thing that happened to the record: `told` is a sentence without a cell of it, `facts` the same for programs.

    `values` has column → value before and after, of a change.
    """

    at: datetime
    what: What
    told: str
    facts: Mapping[str, Any]
    values: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Story:
    """All that is known of one record; `now` says which entities it is of, and whether it is active as each."""

    district: str
    kind: RecordKind
    id: str
    now: Mapping[str, bool]
    events: tuple[Event, ...]


def story(config: Config, engine: Engine, district: str, kind: RecordKind, identifier: str) -> Story:
    """The story of the record, oldest events first.

    Raises ConfigError where nothing is known of such a record, ContractError where the district's own rules are wrong, StoreError where
    the database does not answer.
    """
    if not identifier.strip():
        raise ConfigError("the id is blank; blank cells name nobody")
    runs = {run.id: run for run in ledger.runs(engine, district, limit=2**31 - 1)}
    with database.reading(engine) as connection:
        held = {entity: changes.records_with(connection, district, entity, column, identifier) for entity, column in COLUMNS[kind].items()}
        asked = [(entity, each.key) for entity, found in held.items() for each in found]
        asked += [(entity, (identifier,)) for entity in OWN[kind]]
        if kind == "section":  # who moved out of it has the entry under where he went
            students = sorted({each.key[1] for each in held["enrollments"]})
            asked += changes.enrollments_of(connection, district, students)
        entries = [each for each in changes.of_records(connection, district, dict.fromkeys(asked)) if _concerns(each, kind, identifier)]
        first = changes.baseline(connection, district)
    now = {entity: each.active for entity in OWN[kind] for each in held[entity]}
    began = {entity for entity in OWN[kind] for each in held[entity] if first is not None and each.first_seen_run == first}
    changed = {each.run for each in entries}
    events: list[Event] = []
    before = False
    for delivery in reversed(ledger.deliveries(engine, district)):
        of_it = [run for run in runs.values() if run.delivery == delivery.id]
        rules, places, lost = _places(config, delivery, kind, identifier)
        touched = [run for run in of_it if run.id in changed or (run.id == first and began) or _left_alone(run, kind, identifier)]
        preview = delivery.origin == "preview"
        if places or touched or (before and not lost and not preview):
            events.append(_delivered(delivery, places, lost))
        if places and rules:
            events += _findings(config, engine, delivery, of_it, places, rules)
        if places or touched:
            events += [_ran(run, kind, identifier) for run in of_it if run.state == "closed"]
        if not preview:
            before = bool(places) or (before and bool(lost))
    events += [_began(runs[first], entity) for entity in sorted(began) if first is not None]
    events += [_changed(each, runs[each.run], kind) for each in entries if each.run in runs]
    for hold in ledger.holds(engine, district):
        events += _held(config, hold, runs.get(hold.run), kind, identifier, now)
    if not events and not now:
        raise ConfigError(f"{district} has no {kind} {identifier}: neither its roster, nor its change log, nor a delivery that is kept tells of one")
    return Story(district, kind, identifier, now, tuple(sorted(events, key=lambda each: (each.at, _ORDER.index(each.what)))))


# ---------------------------------------------------------------- deliveries and what was found in them


def _places(config: Config, delivery: Delivery, kind: RecordKind, identifier: str) -> tuple[Contract | None, list[trace.Place], str]:
    """The rules by which the sealed files are read, where they tell of the record, and why neither can be known."""
    if not delivery.folder.is_dir():
        return None, [], "its files are no longer kept"
    try:
        listed, _ = files.listed(delivery)
        _, rules = formats.read_as(listed, config.settings(delivery.district))
        return rules, trace.places(listed, rules, OWN[kind], identifier, mentioned=kind != "school"), ""
    except (DeliveryError, OSError):
        return None, [], "its files are not what they were when they were sealed"


def _delivered(delivery: Delivery, places: Sequence[trace.Place], lost: str) -> Event:
    where = "; ".join(f"{_file(each)} {_lines(each.lines)}" for each in places)
    kind = "preview" if delivery.origin == "preview" else "delivery"
    told = f"{kind} {delivery.id}: {lost or where or 'in none of its files'}"
    files = [{"file": each.file, "archive": each.archive or None, "lines": list(each.lines)} for each in places]
    return Event(delivery.received_at, "delivery", told, {"delivery": delivery.id, "origin": delivery.origin, "files": files, "kept": not lost})


def _findings(config: Config, engine: Engine, delivery: Delivery, runs: Sequence[SyncRun], places: Sequence[trace.Place], rules: Contract) -> Iterator[Event]:
    """What was found in the record's lines; runs of one delivery find the same again, so each finding is told once."""
    told: set[str] = set()
    for run in sorted(runs, key=lambda each: each.id):
        if run.reverts is not None or run.state != "closed":
            continue
        moment = run.finished_at or run.created_at
        details = archive.place(config.reports, run.district, run.id)
        shown: set[tuple[str, int, str]] = set()
        for found in ledger.findings(engine, run.id):
            lines = _lines_of(found, places, rules)
            if not lines or found.label in told:
                continue
            told.add(found.label)
            shown |= {(found.file.lower(), line, found.code) for line in lines}
            more = f", among others ({found.count:,} in all)" if found.count > len(found.lines) else ""
            where = f"{found.file}{f', column {found.column}' if found.column else ''}, {_lines(lines)}{more}"
            facts = {
                "run": run.id, "delivery": delivery.id, "code": found.code, "severity": found.severity, "file": found.file, "column": found.column,
                "lines": list(lines), "count": found.count, "among_others": found.count > len(found.lines), "advice": found.advice,
            }  # fmt: skip
            yield Event(moment, "finding", f"run {run.id} found in it, {found.severity}: {found.title} ({found.code}; {where})", facts)
        for place in places:
            for line, code in archive.rejected_lines(details, place.file, place.lines).items():
                if not any(file == place.file.lower() and at == line for file, at, _ in shown) and f"{place.file}|{line}|{code}" not in told:
                    told.add(f"{place.file}|{line}|{code}")
                    facts = {"run": run.id, "delivery": delivery.id, "code": code, "severity": "reject", "file": place.file, "lines": [line]}
                    yield Event(moment, "finding", f"run {run.id} left out {place.file} line {line} ({code})", facts)


def _lines_of(found: Finding, places: Sequence[trace.Place], rules: Contract) -> tuple[int, ...]:
    """Those of the record's lines that the finding shows."""
    name = contract.in_home(found.file, rules).lower()
    return tuple(line for place in places if place.file.lower() == name for line in place.lines if line in found.lines)


# ---------------------------------------------------------------- runs and what they changed


def _ran(run: SyncRun, kind: RecordKind, identifier: str) -> Event:
    reverts = f", which reverts run {run.reverts}" if run.reverts is not None else ""
    alone = _left_alone(run, kind, identifier)
    left = f"; it left alone {', '.join(alone)}, as changed since" if alone else ""
    by = ", as a person had approved" if run.approved_digest else ""
    facts = {
        "run": run.id,
        "delivery": run.delivery,
        "outcome": run.outcome,
        "reverts": run.reverts,
        "approved": bool(run.approved_digest),
        "left_alone": alone,
    }
    return Event(run.finished_at or run.created_at, "run", f"run {run.id}{reverts}: {run.outcome}{by}{left}", facts)


def _left_alone(run: SyncRun, kind: RecordKind, identifier: str) -> list[str]:
    """The entities as which a revert left the record alone, as far as its ids are kept."""
    found = []
    for entity, alone in run.left_alone.items():
        if (column := COLUMNS[kind].get(entity)) is None:
            continue
        place = ENTITIES[entity].key.index(column)
        if any(each == identifier if len(ENTITIES[entity].key) == 1 else each.split("/")[place : place + 1] == [identifier] for each in alone.ids):
            found.append(entity)
    return found


def _began(run: SyncRun, entity: str) -> Event:
    facts = {"run": run.id, "entity": entity, "operation": "baseline"}
    return Event(run.finished_at or run.created_at, "change", f"run {run.id}: came with the first roster, as one of the {entity}", facts)


def _concerns(change: Change, kind: RecordKind, identifier: str) -> bool:
    column = COLUMNS[kind].get(change.entity)
    return column is not None and identifier in (change.key.get(column), (change.before or {}).get(column))


def _changed(change: Change, run: SyncRun, kind: RecordKind) -> Event:
    before, after = change.before or {}, change.after or {}
    values = {name: (before.get(name), after.get(name)) for name in dict.fromkeys((*before, *after)) if name != "active"}
    own = change.entity in OWN[kind]
    named = "" if own else f" ({', '.join(f'{name} {value}' for name, value in change.key.items())})"
    moved = f" from section {before['section_id']}" if change.entity == "enrollments" and change.operation == "moved" else ""
    columns = f": {', '.join(values)}" if values and change.operation != "created" else ""
    told = f"run {run.id}: {_one(change.entity)}{named} {change.operation}{moved}{columns}"
    facts = {"run": run.id, "entity": change.entity, "key": dict(change.key), "operation": change.operation, "columns": list(values)}
    return Event(run.finished_at or run.created_at, "change", told, facts, values)


# ---------------------------------------------------------------- holds


def _held(config: Config, hold: HoldRecord, run: SyncRun | None, kind: RecordKind, identifier: str, now: Mapping[str, bool]) -> Iterator[Event]:
    """The hold where a part of it is about the record, and what a person decided."""
    if run is None:
        return
    details = archive.place(config.reports, hold.district, hold.run)
    scope = {entity: column for entity, column in COLUMNS[kind].items() if hold.hold.scope.get(entity)}
    if archive.contents(details) is not None:
        waits = [(entity, each) for entity, column in scope.items() for each in archive.waiting(details, entity, column, identifier)]
        told = ", ".join(f"{_one(entity)} would be {operation}" for entity, operation in dict.fromkeys(waits))
        certain = True
    else:
        waits = [(entity, "") for entity in scope if entity in now]
        told = ", ".join(f"it may be among the {hold.hold.scope[entity]:,} {entity} that wait; the details are no longer kept" for entity, _ in waits)
        certain = False
    if not waits:
        return
    facts = {"hold": hold.id, "run": hold.run, "state": hold.state, "certain": certain, "waiting": [{"entity": a, "operation": b or None} for a, b in waits]}
    yield Event(hold.created_at, "hold", f"hold {hold.id} of run {hold.run}: {told}", facts)
    if hold.decided_at is not None:
        by = f" by {hold.decided_by}" if hold.decided_by else ""
        yield Event(hold.decided_at, "decision", f"hold {hold.id} {hold.state}{by}", {"hold": hold.id, "state": hold.state, "by": hold.decided_by or None})


# ---------------------------------------------------------------- words


def as_json(story: Story, *, values: bool) -> dict[str, Any]:
    """The story as one object of plain JSON values; what columns held only with `values`."""
    return {
        "district": story.district,
        "kind": story.kind,
        "id": story.id,
        "now": {entity: "active" if active else "inactive" for entity, active in story.now.items()},
        "events": [
            {
                "at": each.at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                "what": each.what,
                "told": each.told,
                **each.facts,
                **({"values": {name: {"before": old, "after": new} for name, (old, new) in each.values.items()}} if values and each.values else {}),
            }
            for each in story.events
        ],
    }


def _one(entity: str) -> str:
    return entity.replace("_", " ").removesuffix("s")


def _file(place: trace.Place) -> str:
    return f"{place.file} in {place.archive}" if place.archive not in ("", f"{place.file}{PACKED}") else place.file


def _lines(lines: Sequence[int]) -> str:
    """At most twenty line numbers."""
    told = ", ".join(str(line) for line in lines[:20])
    return f"{'line' if len(lines) == 1 else 'lines'} {told}{f' and {len(lines) - 20:,} more' if len(lines) > 20 else ''}"
