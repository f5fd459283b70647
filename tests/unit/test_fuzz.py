"""Whatever a district's files become on their way, they are read without an exception, to the same answer twice, and the laws hold."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, given, settings

from sftp_ingest.model import ENTITIES, Roster
from sftp_ingest.planning import Plan, empty_roster
from tests.unit.districts import Files, Rows, applied, content, csv_of, everything_put_away, planned, small, zipped

TABLES = ("schools", "teachers", "students", "sections", "enrollments")
# as many examples as the profile says: `--hypothesis-profile=fuzz` takes thousands
FUZZ = settings(
    max_examples=settings().max_examples,
    deadline=timedelta(seconds=30),
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

CHANCE = st.integers(0, 2**32).map(random.Random)
"""A seed an example: a damage draws hundreds of times, which hypothesis need not follow, as nothing is shrunk."""

SECOND = 0.2
"""How many of the nights are planned a second time."""

NOW: Roster | None = None


def now() -> Roster:
    """What the good district has after its first night, made once."""
    global NOW
    if NOW is None:
        with tempfile.TemporaryDirectory() as folder:
            NOW = applied(empty_roster(), planned(Path(folder), small()))
    return NOW


def answered(files: Files, *, twice: bool, **raw: bytes | None) -> Plan:
    """The plan, of which nothing flows where the delivery is refused; it is the same the second time, when nothing of it lies in memory."""
    plans = []
    for again in range(2 if twice else 1):
        with tempfile.TemporaryDirectory() as folder, everything_put_away(Path(folder) / "away") if again else nullcontext():
            plans.append(planned(Path(folder) / "sent", files, now(), **raw))
    one, other = plans[0], plans[-1]
    assert one.findings == other.findings
    assert (one.outcome, one.counts, one.hold) == (other.outcome, other.counts, other.hold)
    assert changes(one) == changes(other)
    assert (one.flowing is None) == (one.outcome == "refused") == any(each.severity == "refuse" for each in one.findings)
    return one


def changes(plan: Plan) -> dict[str, list[dict[str, str]]]:
    return {} if plan.flowing is None else {name: frame.to_dict("records") for name, frame in plan.flowing.changes.items()}


# ---------------------------------------------------------------- damaged bytes

Damage = Callable[[bytes, random.Random], bytes]

BITS = [
    b"\0",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\t",
    b";",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xe9",
    b"\x81",
    b'""',
    b'","',
    b",,",
    "“".encode(),
    "”".encode(),
]


def span(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 1, 2, 5, 50, 500)))


def overwrite(data: bytes, chance: random.Random) -> bytes:
    start, stop = span(data, chance)
    return data[:start] + chance.randbytes(stop - start) + data[stop:]


def insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(BITS) * chance.choice((1, 1, 1, 2, 40)) + data[at:]


def delete(data: bytes, chance: random.Random) -> bytes:
    start, stop = span(data, chance)
    return data[:start] + data[stop:]


def double(data: bytes, chance: random.Random) -> bytes:
    start, stop = span(data, chance)
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[start:stop] + data[at:]


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def reencode(data: bytes, chance: random.Random) -> bytes:
    text = data.decode("utf-8", errors="replace")
    return text.encode(chance.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "latin-1")), errors="replace")


def exchange(data: bytes, chance: random.Random) -> bytes:
    """All of one mark become another, or every other one."""
    marks = [b"\n", b"\r\n", b"\r", b",", b";", b"\t", b'"', b'","', b"0", b"1"]
    old, new = chance.sample(marks, 2)
    return data.replace(old, new, chance.choice((-1, -1, 3)))


def quote_all(data: bytes, chance: random.Random) -> bytes:
    opening, closing = chance.choice((('"', '"'), ("“", "”")))
    return b"\n".join(b",".join(opening.encode() + cell + closing.encode() for cell in line.split(b",")) if line else line for line in data.split(b"\n"))


DAMAGES: list[Damage] = [overwrite, insert, delete, double, truncate, reencode, exchange, quote_all]


@FUZZ
@given(st.sampled_from(TABLES), st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=4), CHANCE)
def test_any_damage_to_the_bytes_of_a_file_has_an_answer(table: str, damages: list[Damage], chance: random.Random) -> None:
    files = small()
    data = csv_of(files[table])
    for damage in damages:
        data = damage(data, chance)
    answered(files, twice=chance.random() < SECOND, **{table: data})


@FUZZ
@given(st.sampled_from(TABLES), st.binary(max_size=300), st.booleans())
def test_random_bytes_have_an_answer(table: str, data: bytes, below_a_header: bool) -> None:
    files = small()
    header = csv_of(files[table]).split(b"\n")[0] + b"\n"
    answered(files, twice=below_a_header, **{table: header + data if below_a_header else data})


@FUZZ
@given(st.sampled_from(TABLES), st.sampled_from(["put", "replace", "delete"]), CHANCE)
def test_one_wrong_byte_in_a_row_that_is_then_rejected_removes_nobody(table: str, how: str, chance: random.Random) -> None:
    files = small()
    lines = csv_of(files[table]).split(b"\n")
    victim = chance.randrange(1, len(lines) - 1)
    row = lines[victim]
    at = chance.randrange(len(row))
    bit = b"" if how == "delete" else chance.choice((b",", b'"', b"\0", b"\x81", b"\n", b"x", b" ", chance.randbytes(1)))
    lines[victim] = row[:at] + bit + row[at + (how != "put") :]
    plan = answered(files, twice=False, **{table: b"\n".join(lines)})
    taken_for_another = {"id_duplicate", "rows_differ", "row_repeated"} & {each.code for each in plan.findings}
    if plan.counts[table].rejected and not taken_for_another:
        assert not [row for rows in changes(plan).values() for row in rows if row["operation"] == "deactivated"], (lines[victim], plan.findings)


@settings(FUZZ, max_examples=max(20, FUZZ.max_examples // 5))
@given(st.lists(st.sampled_from([overwrite, insert, delete, double, truncate]), max_size=3), CHANCE)
def test_any_damage_to_an_archive_has_an_answer(damages: list[Damage], chance: random.Random) -> None:
    data = zipped({f"{name}.csv": csv_of(rows) for name, rows in small().items()})
    for damage in damages:
        data = damage(data, chance)
    outcomes = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "night.zip").write_bytes(data)
            plan = planned(Path(folder), {}, now())
            outcomes.append((plan.outcome, plan.findings, changes(plan)))
    assert outcomes[0] == outcomes[1]
    assert damages or outcomes[0][0] == "unchanged"


# ---------------------------------------------------------------- districts taken apart

Mutation = Callable[[Files, random.Random], None]


def some_table(files: Files, chance: random.Random) -> Rows:
    return files[chance.choice([name for name in files if files[name]])]


def drop_row(files: Files, chance: random.Random) -> None:
    rows = some_table(files, chance)
    if len(rows) > 1:
        rows.pop(chance.randrange(len(rows)))


def double_row(files: Files, chance: random.Random) -> None:
    rows = some_table(files, chance)
    rows.insert(chance.randrange(len(rows) + 1), dict(chance.choice(rows)))


def swap_rows(files: Files, chance: random.Random) -> None:
    chance.shuffle(some_table(files, chance))


def drop_column(files: Files, chance: random.Random) -> None:
    rows = some_table(files, chance)
    column = chance.choice(list(rows[0]))
    if len(rows[0]) > 1:
        rows[:] = [{name: cell for name, cell in row.items() if name != column} for row in rows]


def rename_column(files: Files, chance: random.Random) -> None:
    rows = some_table(files, chance)
    column = chance.choice(list(rows[0]))
    new = chance.choice(
        [column.upper(), column.replace("_", " "), f" {column} ", f"ext.{column}", f'"{column}"', "", "Grade", "School_id", "Gender", "Surname"]
    )
    rows[:] = [{new if name == column else name: cell for name, cell in row.items()} for row in rows]


def swap_columns(files: Files, chance: random.Random) -> None:
    """The names of two columns change places, and the cells stay."""
    rows = some_table(files, chance)
    one, other = chance.choice(list(rows[0])), chance.choice(list(rows[0]))
    rows[:] = [row | {one: row.get(other, ""), other: row.get(one, "")} for row in rows]


def blank_cell(files: Files, chance: random.Random) -> None:
    row = chance.choice(some_table(files, chance))
    row[chance.choice(list(row))] = chance.choice(["", " ", "\n", '"', "NULL", "0", "1.00095E+08", "x" * 5000, "\u200b", "é", "=1+1", "“Tom”"])


def swap_cells(files: Files, chance: random.Random) -> None:
    rows = some_table(files, chance)
    one, other, column = chance.choice(rows), chance.choice(rows), chance.choice(list(rows[0]))
    one[column], other[column] = other.get(column, ""), one.get(column, "")


def swap_files(files: Files, chance: random.Random) -> None:
    one, other = chance.sample(sorted(files), 2)
    files[one], files[other] = files[other], files[one]


MUTATIONS: list[Mutation] = [
    drop_row, double_row, swap_rows, drop_column, rename_column, swap_columns, blank_cell, swap_cells, swap_files, blank_cell, drop_row,
]  # fmt: skip


@FUZZ
@given(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=4), CHANCE)
def test_any_district_taken_apart_has_an_answer_that_can_be_applied(mutations: list[Mutation], chance: random.Random) -> None:
    files = small()
    for mutation in mutations:
        mutation(files, chance)
    plan = answered(files, twice=chance.random() < SECOND)
    if plan.outcome != "successful":
        return
    then = applied(now(), plan)
    for name, entity in ENTITIES.items():
        assert not then.entities[name][list(entity.key)].duplicated().any(), name
    with tempfile.TemporaryDirectory() as folder:
        again = planned(Path(folder), files, then)
    assert content(applied(then, again)) == content(then)
