"""Whatever a student information system or Excel writes is read as it was meant, whatever nobody can mean is told, and neither takes long."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import assume, example, given, settings

from sftp_ingest.findings import Finding
from sftp_ingest.model import Frames
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster import contract, decoding, files, lines, loader
from tests.unit.districts import applied, content, csv_of, delivery_of, planned, small, student, written, zipped

HEADER = b"School_id,Student_id,Last_name,First_name,Grade\n"
ROWS = b"0011,0001,One,Ann,7\n0012,0002,Two,Ben,7\n"


def read(tmp_path: Path, data: bytes) -> tuple[list[list[str]], list[Finding]]:
    """The rows of a students.csv, and what is wrong with it alone."""
    frames = loaded(tmp_path, data)
    frame = frames.tables.get("students")
    rows = [] if frame is None else [[str(cell) for cell in row] for row in frame.itertuples(index=False)]
    return rows, [each for each in frames.findings if each.code != "file_missing"]


def loaded(tmp_path: Path, data: bytes) -> Frames:
    return loader.load(written(tmp_path, {}, students=data), contract.load())


def codes(found: list[Finding]) -> list[str]:
    return [each.code for each in found]


PLAIN = [["0011", "0001", "One", "Ann", "7"], ["0012", "0002", "Two", "Ben", "7"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_encoding_and_line_end_gives_the_same_rows(encoding: str, end: str, tmp_path: Path) -> None:
    text = (HEADER + ROWS).decode().replace("Ann", "Zoë").replace("\n", end)
    rows, found = read(tmp_path, text.encode(encoding))
    assert rows == [["0011", "0001", "One", "Zoë", "7"], PLAIN[1]]
    assert codes(found) == ([] if encoding.startswith("utf-8") else ["encoding_guessed"])


def test_of_the_line_where_a_file_breaks_off_only_that_is_told(tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER + b"0011,0009\n" + ROWS[:-6])
    assert rows == PLAIN[:1]
    assert [(each.code, each.lines) for each in found] == [("row_short", (2,)), ("file_cut", (4,))]


def test_a_mark_of_utf_8_within_the_file_is_a_cell_of_its_line(tmp_path: Path) -> None:
    mark = "\ufeff"
    assert read(tmp_path / "first", HEADER + mark.encode() + ROWS)[0] == [[f"{mark}0011", *PLAIN[0][1:]], PLAIN[1]]
    rows, found = read(tmp_path / "alone", HEADER + ROWS + mark.encode())
    assert (rows, codes(found)) == (PLAIN, ["file_cut"])
    rows, found = read(tmp_path / "only", HEADER + mark.encode() + b"\n")
    assert (rows, codes(found)) == ([], ["row_short"])


def test_utf_16_with_its_marks_of_either_order(tmp_path: Path) -> None:
    for order, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        assert read(tmp_path, mark + (HEADER + ROWS).decode().encode(order))[0] == PLAIN


def test_single_lines_of_windows_1252_among_utf_8(tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER + "0011,0001,One,Zoë,7\n".encode() + "0012,0002,Two,Renée,7\n".encode("cp1252"))
    assert [row[3] for row in rows] == ["Zoë", "Renée"]
    assert [(each.code, each.lines) for each in found] == [("encoding_guessed", (3,))]


def test_line_ends_may_be_mixed(tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER.replace(b"\n", b"\r") + ROWS.replace(b"\n", b"\r\n", 1))
    assert (rows, found) == (PLAIN, [])


@pytest.mark.parametrize("spelt", [b"School id,Student id,Last name", b"school-id,STUDENT-ID,Last_Name", b'"School_id","Student_id","Last_name"'])
def test_headers_in_any_of_their_spellings(spelt: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, HEADER.replace(b"School_id,Student_id,Last_name", spelt) + ROWS) == (PLAIN, [])


@pytest.mark.parametrize("above", [b"\n\n", b"\r\n \r\n", b",,,,\n", b"sep=,\n", b'"sep=,"\n', b"\nSEP=,\r\n"])
def test_lines_above_the_header_that_say_nothing_are_passed_over(above: bytes, tmp_path: Path) -> None:
    frames = loaded(tmp_path, above + HEADER + ROWS)
    assert list(frames.tables["students"].index) == [3 + above.count(b"\n") - 1, 3 + above.count(b"\n")]
    assert codes([each for each in frames.findings if each.code != "file_missing"]) == []


@pytest.mark.parametrize(("mark", "name"), [(b";", ";"), (b"\t", "tabs"), (b"|", "|")])
def test_another_separator_is_named(mark: bytes, name: str, tmp_path: Path) -> None:
    _, found = read(tmp_path, b"sep=" + mark + b"\n" + (HEADER + ROWS).replace(b",", mark))
    assert codes(found) == ["file_not_csv"]
    assert f"separated by {name}" in found[0].hint


@pytest.mark.parametrize("of_header", [0, 1, 3, 5_000])
@pytest.mark.parametrize("of_rows", [0, 1, 3])
def test_empty_columns_at_the_end_of_header_or_rows_change_nothing(of_header: int, of_rows: int, tmp_path: Path) -> None:
    data = HEADER.replace(b"\n", b"," * of_header + b"\n") + ROWS.replace(b"\n", b"," * of_rows + b"\n")
    rows, found = read(tmp_path, data)
    assert rows == PLAIN
    assert codes(found) == ["header_unnamed"] * (of_header > 0) + ["row_trailing_commas"] * (of_rows > of_header)


def test_quoted_rows_may_end_in_commas_too(tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER + b'"0011","0001","One, Jr.","Ann","7",,\n"0012","0002","Two","Ben","7","",""\n')
    assert rows == [["0011", "0001", "One, Jr.", "Ann", "7"], PLAIN[1]]
    assert [(each.code, each.lines) for each in found] == [("row_trailing_commas", (2, 3))]


def test_a_row_with_a_cell_too_many_before_a_blank_one_removes_nobody(tmp_path: Path) -> None:
    good = small()
    for row in good["students"]:
        row["Home_language"] = ""
    now = applied(empty_roster(), planned(tmp_path / "first", good))
    data = csv_of(good["students"]).split(b"\n")
    data[3] = b"x," + data[3]
    plan = planned(tmp_path / "second", good, now, students=b"\n".join(data))
    assert plan.counts["students"].deactivated == 0


def test_a_row_that_a_comma_in_a_name_made_longer_is_left_out_though_its_last_cell_is_blank(tmp_path: Path) -> None:
    with_blank = [[*row[:4], ""] for row in PLAIN]
    rows, found = read(tmp_path, HEADER + (ROWS + b"0011,0003,Three, Jr.,Cal,\n" + ROWS).replace(b",7\n", b",\n"))
    assert rows == with_blank * 2
    assert [(each.code, each.lines) for each in found] == [("row_long", (4,))]


def test_of_a_single_row_nobody_knows_whether_a_spreadsheet_made_it_wider(tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER + b"0011,0003,Three, Jr.,Cal,\n")
    assert rows == []
    assert [(each.code, each.lines) for each in found] == [("row_long", (2,))]


def test_rows_that_a_spreadsheet_made_wider_are_read_in_whatever_block_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 30)
    data = HEADER + (ROWS + b'0011,0003,"T "T" T",Cal,7\n' + ROWS).replace(b"\n", b",,\n") + b"0011,0004,Four, Jr.,Dan,,,\n" + b"0011,0005,Five,Eve,7\n"
    rows, found = read(tmp_path, data)
    assert [row[1] for row in rows] == ["0001", "0002", "0003", "0001", "0002", "0005"]
    assert [(each.code, each.lines) for each in found] == [("row_long", (7,)), ("quote_unescaped", (4,)), ("row_trailing_commas", (2, 3, 4, 5, 6))]


@pytest.mark.parametrize("damage", [b"00120002,Two,Ben,7", b"0012,00,02,Two,Ben,7", b"0012 0002 Two,Ben,7"])
def test_a_row_that_lost_its_id_to_a_comma_may_be_anybodys(damage: bytes, tmp_path: Path) -> None:
    files = small()
    now = applied(empty_roster(), planned(tmp_path / "first", files))
    rows = [f"{row['School_id']},{row['Student_id']},L,F,7".encode() for row in files["students"]]
    plan = planned(tmp_path / "second", files, now, students=HEADER + b"\n".join([rows[0], damage, *rows[2:]]) + b"\n")
    assert plan.counts["students"].rejected == 1
    assert plan.counts["students"].deactivated == 0


CELLS = {
    b'"Thomas "Tom" Ford"': 'Thomas "Tom" Ford',
    b'"Thomas ""Tom"" Ford"': 'Thomas "Tom" Ford',
    b'""Tom" Ford"': '"Tom" Ford',
    b'"Thomas "Tom""': 'Thomas "Tom"',
    b'"Ford, "Tom""': 'Ford, "Tom"',
    b'Thomas "Tom" Ford': 'Thomas "Tom" Ford',
    b'O"Neil': 'O"Neil',
    b' "Ford, Tom" ': "Ford, Tom",
    b'""': "",
    b'"""Tom"""': '"Tom"',
    b'"one\ntwo"': "one\ntwo",
    b'"one, ""1""\ntwo"': 'one, "1"\ntwo',
    "“Ford, Tom”".encode(): "Ford, Tom",
    "”Ford, Tom”".encode(): "Ford, Tom",
    "Thomas “Tom” Ford".encode(): "Thomas “Tom” Ford",
    '"Ford, “Tom”, Jr."'.encode(): "Ford, “Tom”, Jr.",
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_in_any_quotes_is_read_as_meant(cell: bytes, tmp_path: Path) -> None:
    rows, _ = read(tmp_path, HEADER + ROWS + b"0011,0003," + cell + b",Tom,7\n" + ROWS)
    assert rows == [*PLAIN, ["0011", "0003", CELLS[cell], "Tom", "7"], *PLAIN]


def test_only_rows_that_needed_a_guess_are_told(tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER + b'0011,0001,"Tom "T" F",A,7\n0011,2, "Ford" ,A,7\n' + "0011,3,“X”,A,7\n0011,4,A “X” B,A,7\n".encode())
    assert [(each.code, each.lines) for each in found] == [("quote_unescaped", (2,)), ("quote_smart", (4,))]
    assert [row[2] for row in rows] == ['Tom "T" F', "Ford", "X", "A “X” B"]


def test_two_stray_quotes_do_not_swallow_the_people_between(tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER + b'0011,8,"One,A,7\n' + ROWS + b'0011,9,Two",A,7\n')
    assert rows[:2] == PLAIN
    assert codes(found) == ["quote_open"]


LETTERS = st.sampled_from(["a", " ", ",", '"', '""', "\n", "é", "“", "”", "'"])


def by_line(records: lines.Records) -> list[tuple[int, dict[str, str]]]:
    """The rows in the order of the file."""
    return sorted(zip(records.lines.tolist(), records.table.to_pylist(), strict=True), key=lambda each: each[0])


def holds_a_row(cell: str) -> bool:
    """Whether a line within the cell is as a row of four cells would be: of such a one nobody can tell, and the people between stray quotes come first."""
    return any(line.count(",") == 3 and '"' not in line and line.replace(",", "").strip() for line in cell.split("\n")[1:-1])


@example([["", "", "\n,,,\n"]], 20)
@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.lists(LETTERS, max_size=6).map("".join), min_size=3, max_size=3), min_size=1, max_size=8), st.integers(20, 200))
def test_what_a_csv_writer_writes_is_read_back_whatever_the_size_of_a_block(cells: list[list[str]], block: int) -> None:
    """Rows as RFC 4180 has them, but for white space around a cell: the block's size, at which reading stops and goes on, changes nothing."""
    assume(not any(holds_a_row(cell) for row in cells for cell in row))
    data = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in ["x", *row]) + "\n" for row in cells).encode()
    whole, usual = lines.records(decoding.Text(data), 0, 2, "wabc", "wabc", key="a"), decoding.BLOCK
    decoding.BLOCK = block
    try:
        pieces = lines.records(decoding.Text(data), 0, 2, "wabc", "wabc", key="a")
    finally:
        decoding.BLOCK = usual
    assert by_line(pieces) == by_line(whole)
    assert [list(row.values())[1:] for _, row in by_line(whole)] == [[cell.strip() for cell in row] for row in cells]
    assert len(whole.faulty) == len(pieces.faulty) == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(LETTERS | st.just("\0"), max_size=12).map("".join), max_size=20), st.integers(20, 200))
def test_any_lines_are_read_alike_whatever_the_size_of_a_block(texts: list[str], block: int) -> None:
    data = "\n".join(texts).encode()
    whole, usual = lines.records(decoding.Text(data), 0, 2, "abc", "abc", key="b"), decoding.BLOCK
    decoding.BLOCK = block
    try:
        pieces = lines.records(decoding.Text(data), 0, 2, "abc", "abc", key="b")
    finally:
        decoding.BLOCK = usual
    assert by_line(pieces) == by_line(whole)
    for name in ("faulty", "faults", "unescaped", "smart", "blank", "trailing"):
        assert getattr(pieces, name).tolist() == getattr(whole, name).tolist(), name


def test_mended_rows_stand_where_they_were_sent(tmp_path: Path) -> None:
    frames = loaded(
        tmp_path, HEADER + b'0011,0001,One,Ann,7\n0012,0002,"Two "Too" T",Ben,7\n0011,0003,Three,Cy,7\n0011,0004," Four" ,Di,7\n0011,0005,Five,Ed,7\n'
    )
    frame = frames.tables["students"]
    assert frame.index.to_list() == [2, 3, 4, 5, 6]
    assert frame["student_id"].to_list() == ["0001", "0002", "0003", "0004", "0005"]
    assert frame["last_name"].to_list() == ["One", 'Two "Too" T', "Three", "Four", "Five"]


def test_a_file_whose_rows_mostly_cannot_be_read_is_no_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MANY_FAULTY", 10)
    rows, found = read(tmp_path, HEADER + ROWS * 5 + b"0011\n" * 11)
    assert rows == []
    assert [(each.code, each.hint) for each in found] == [("file_not_csv", "most of its first 21 rows cannot be read")]


def test_of_too_many_unreadable_rows_each_may_be_anybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MANY_FAULTY", 10)
    frames = loaded(tmp_path, HEADER + ROWS * 10 + b"0011\n" * 11)
    assert len(frames.tables["students"]) == 20
    assert frames.unread["students"]["student_id"].isna().to_list() == [True]
    assert [(each.code, each.count) for each in frames.findings if each.code == "row_short"] == [("row_short", 11)]


def test_a_row_of_thousands_of_cells_may_be_anybodys(tmp_path: Path) -> None:
    frames = loaded(tmp_path, HEADER + ROWS + b"x," * (lines.WIDEST + 1) + b"\n")
    assert frames.unread["students"]["student_id"].isna().to_list() == [True]
    assert [each.code for each in frames.findings if each.code.startswith("row_")] == ["row_long"]


# ---------------------------------------------------------------- ids that Excel rounded


@pytest.mark.parametrize("rounded", ["1.00095E+08", "1E+08", "1,00095E+08"])
def test_a_rounded_id_refuses_the_delivery_where_records_are_told_apart_by_it(rounded: str, tmp_path: Path) -> None:
    files = small()
    files["enrollments"][1]["Student_id"] = files["enrollments"][2]["Student_id"] = rounded
    plan = planned(tmp_path, files)
    assert [(each.file, each.column, each.count, each.lines) for each in plan.findings if each.code == "id_rounded"] == [
        ("enrollments.csv", "Student_id", 2, (3, 4))
    ]
    assert plan.outcome == "refused"


def test_a_rounded_id_by_which_nothing_is_told_apart_is_a_warning(tmp_path: Path) -> None:
    files = small()
    files["students"][0]["Contact_sis_id"] = "1.5E+10"
    plan = planned(tmp_path, files)
    assert [(each.column, each.severity) for each in plan.findings if each.code == "id_rounded"] == [("Contact_sis_id", "warn")]
    assert plan.outcome == "successful"


@pytest.mark.parametrize("honest", ["12E5", "4E+1", "E+08", "1E08", "12E+08", "1.E+08", "A1E+08", "1e+08"])
def test_honest_ids_with_an_e_are_ids(honest: str, tmp_path: Path) -> None:
    files = small()
    files["students"].append(student(9, Student_id=honest))
    assert "id_rounded" not in {each.code for each in planned(tmp_path, files).findings}


# ---------------------------------------------------------------- sizes


def test_cells_of_ten_megabytes_are_read(tmp_path: Path) -> None:
    long = b"x" * 10_000_000
    rows, found = read(tmp_path, HEADER + b'0011,0001,"' + long + b'",Ann,7\n0012,0002,' + long + b",Ben,7\n" + ROWS)
    assert [len(row[2]) for row in rows] == [10_000_000, 10_000_000, 3, 3]
    assert found == []


MONSTERS = {
    "a million columns": b",".join(b"c%d" % number for number in range(1_000_000)),
    "a million columns in a row": HEADER + ROWS + b"0011,0003" + b",x" * 1_000_000 + b"\n",
    "one line": b"x" * 50_000_000,
    "one line below the header": HEADER + b"x" * 50_000_000,
    "only quotes": b'"' * 10_000_000,
    "only quotes below the header": HEADER + b'"' * 10_000_000,
    "lines of quotes": HEADER + b'"""\n' * 200_000,
    "only commas": b"," * 10_000_000,
    "only line ends": b"\n" * 10_000_000,
    "line ends below the header": HEADER + b"\n" * 2_000_000,
    "lines of commas": HEADER + b",,,,\n" * 500_000,
    "quotes in quotes": HEADER + b'0011,1,"' + b'"a "b" ' * 200_000 + b'",Ann,7\n',
    "quotes that open again and again": HEADER + (b'0011,1,"a "b ,"c "d,Ann,7' + b',"' * 40 + b"\n") * 20_000,
    "a quote and many blanks": HEADER + b'0011,1,"' + b" " * 5_000_000 + b'"x,Ann,7\n',
    "inner quotes on every line": HEADER + b'0011,1,"Thomas "Tom" Ford",Ann,7\n' * 200_000,
    "every line too long": HEADER + b"0011,1,Ford,Ann,7,8\n" * 200_000,
    "every line of another encoding": HEADER + b"0011,1,F\xf6rd,Ann,7\n" * 200_000,
    "NUL everywhere": HEADER + b"0011,1,F\0rd,Ann,7\n" * 200_000,
    "a spreadsheet": b"PK\x03\x04" + bytes(1000),
    "gzip": b"\x1f\x8b\x08" + bytes(1000),
}


@pytest.mark.parametrize("monster", MONSTERS)
def test_a_monster_is_told_and_takes_no_more_than_a_few_times_its_size(monster: str, tmp_path: Path) -> None:
    delivery = written(tmp_path, {}, students=MONSTERS[monster])
    told = subprocess.run([sys.executable, "-c", MEASURE, str(delivery.folder)], capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stderr
    grown, findings = told.stdout.split("\n")[:2]
    assert findings
    # what is noted of a block of lines is bounded; beyond that a small multiple of the file
    assert int(grown) * 1024 < 450e6 + 4 * len(MONSTERS[monster])


MEASURE = """
import resource, sys
from pathlib import Path
from sftp_ingest.roster import contract, loader
from tests.unit.districts import delivery_of
delivery, rules = delivery_of(Path(sys.argv[1])), contract.load()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
frames = loader.load(delivery, rules)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(*(each.code for each in frames.findings if each.code != "file_missing"))
"""


# ---------------------------------------------------------------- archives


def members(prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{name}.csv": csv_of(rows) for name, rows in small().items()}


def from_archive(folder: Path, *archives: bytes, **raw: bytes | None) -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    for number, archive in enumerate(archives):
        (folder / f"night{number}.zip").write_bytes(archive)
    return planned(folder, {}, **raw)


def hints(plan: Plan) -> list[tuple[str, str]]:
    return [(each.code, each.hint) for each in plan.findings]


@pytest.mark.parametrize("prefix", ["", "export/", "Springfield Unified/", "export\\", "Exports/2026-11-30/"])
def test_the_files_of_an_archive_are_read_as_if_they_lay_loose(prefix: str, tmp_path: Path) -> None:
    loose = applied(empty_roster(), planned(tmp_path / "loose", small()))
    plan = from_archive(tmp_path / "packed", zipped(members(prefix) | {"__MACOSX/._students.csv": b"x", f"{prefix}.DS_Store": b"x"}))
    assert plan.findings == ()
    assert content(applied(empty_roster(), plan)) == content(loose)


def test_a_set_may_lie_in_several_archives_and_loose(tmp_path: Path) -> None:
    some = members()
    loose = some.pop("students.csv")
    one = {name: some.pop(name) for name in ("schools.csv", "teachers.csv")}
    assert from_archive(tmp_path, zipped(one), zipped(some), students=loose).findings == ()


def test_of_a_loose_and_a_packed_file_the_loose_one_counts(tmp_path: Path) -> None:
    plan = from_archive(tmp_path, zipped(members()), students=csv_of([student(1), student(2)]))
    assert plan.counts["students"].created == 2
    assert next((each.code, each.file) for each in plan.findings) == ("archive_twin", "students.csv")


def test_a_side_folder_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "night.zip").write_bytes(zipped({"customsections/sections.csv": b"x", "customsections/enrollments.csv": b"x"}))
    listed, _ = files.listed(delivery_of(tmp_path))
    assert [each.name for each in listed.files] == ["customsections/sections.csv", "customsections/enrollments.csv"]


def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    plan = from_archive(tmp_path, zipped(members() | {"more.zip": zipped(members())}))
    assert [(each.code, each.file) for each in plan.findings] == [("file_unknown", "more.zip")]


@pytest.mark.parametrize("name", ["../students.csv", "a/../../students.csv", "/etc/students.csv", "..\\students.csv", "C:\\students.csv"])
def test_a_name_that_leads_out_of_the_archive_refuses_it(name: str, tmp_path: Path) -> None:
    plan = from_archive(tmp_path, zipped(members() | {name: b"x"}))
    assert hints(plan) == [("archive_unreadable", "the name of a file in it leads out of it")]
    assert plan.outcome == "refused"


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path) -> None:
    assert hints(from_archive(tmp_path, zipped({f"{number}.csv": b"" for number in range(101)}))) == [("archive_too_large", "it holds more than 100 files")]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    plan = from_archive(tmp_path, zipped(members() | {"bomb.csv": bytes(50_000_000)}))
    assert hints(plan) == [("archive_too_large", "a file in it is more than 200 times as large as it is packed")]


def test_a_file_that_is_larger_than_its_archive_says_is_damaged(tmp_path: Path) -> None:
    data = zipped({"students.csv": HEADER + ROWS * 50_000})
    size = len(HEADER + ROWS * 50_000)
    lie = data.replace(struct.pack("<I", size), struct.pack("<I", 100))
    assert lie != data
    assert ("archive_unreadable", "the file is damaged in its archive") in hints(from_archive(tmp_path, lie))


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(members()))
    for at in range(len(data) - 4):
        if data[at : at + 4] == b"PK\x01\x02":
            data[at + 8] |= 1
    assert hints(from_archive(tmp_path, bytes(data))) == [("archive_unreadable", "it is encrypted")]


def test_an_archive_of_a_rare_kind_is_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("students.csv", HEADER)
    assert hints(from_archive(tmp_path, archive.getvalue())) == [("archive_unreadable", "it is compressed in a way that is not common to all .zip archives")]


def test_a_damaged_member_refuses_the_delivery(tmp_path: Path) -> None:
    data = bytearray(zipped(members()))
    at = bytes(data).index(b"students.csv") + 40
    data[at] ^= 0xFF
    plan = from_archive(tmp_path, bytes(data))
    assert ("archive_unreadable", "the file is damaged in its archive") in hints(plan)
    assert plan.outcome == "refused"


CHILD = "0012,0007,Dupont,Zelda,2014-03-05,12 Elm Street,zelda@example.org"
PERSONAL = "School_id,Student_id,Last_name,First_name,DOB,Student_street,Student_email"
OTHERS = "0011,0008,One,Ann,2014-03-06,3 Oak Street,ann@example.org\n0011,0009,Two,Ben,2014-03-07,5 Oak Street,ben@example.org\n"


def shows_the_child(found: list[Finding]) -> bool:
    return any(cell.lower() in repr(found).lower() for cell in CHILD.split(","))


@pytest.mark.parametrize("between", [",", "", " ", ",,"])
@pytest.mark.parametrize("below", [OTHERS, ""])
def test_a_header_that_goes_on_with_a_row_is_refused_and_shows_none_of_it(between: str, below: str, tmp_path: Path) -> None:
    rows, found = read(tmp_path, f"{PERSONAL}{between}{CHILD}\n{below}".encode())
    assert (rows, codes(found), found[0].lines) == ([], ["file_not_csv"], (1,))
    assert not shows_the_child(found)


def test_a_row_in_place_of_the_header_is_refused_though_one_cell_is_the_name_of_a_column(tmp_path: Path) -> None:
    _, found = read(tmp_path, f"{CHILD.replace('Dupont', 'Grade')}\n{OTHERS}".encode())
    assert codes(found) == ["file_not_csv"]
    assert not shows_the_child(found)


def test_a_file_of_extensions_whose_header_goes_on_with_a_row_is_refused(tmp_path: Path) -> None:
    extended = {"extensionfields/students_ext": b"Sis_id,Bus,Locker,0001,7,A12\n0002,8,B12\n0003,7,C12\n"}
    found = [each for each in planned(tmp_path, small(), **extended).findings if each.file == "extensionfields/students_ext.csv"]
    assert codes(found) == ["file_not_csv"]
    assert planned(tmp_path / "years", small(), **{"extensionfields/students_ext": b"Sis_id,2025,2026\n0002,8,B12\n"}).findings == ()


@pytest.mark.parametrize("cell", ["zelda@example.org", "2014-03-05", "0007", "12 Elm Street", "PO Box 7", "(555) 123-4567", "S100234", "Zelda"])
def test_an_unknown_column_whose_name_may_be_a_cell_is_told_by_its_number(cell: str, tmp_path: Path) -> None:
    rows, found = read(tmp_path, HEADER.replace(b"\n", f",{cell}\n".encode()) + ROWS.replace(b",7\n", b",7,Zelda\n"))
    assert rows == PLAIN
    assert [(each.code, each.column) for each in found] == [("header_unknown", "column 6")]


@pytest.mark.parametrize("name", ["Shoe_size", "Address2", "GPA 2026", "Contact 1", "E-mail"])
def test_any_other_unknown_column_is_told_by_its_name(name: str, tmp_path: Path) -> None:
    _, found = read(tmp_path, HEADER.replace(b"\n", f",{name}\n".encode()) + ROWS.replace(b",7\n", b",7,x\n"))
    assert [(each.code, each.column) for each in found] == [("header_unknown", name)]


def test_a_header_alone_with_a_column_too_many_holds_no_row(tmp_path: Path) -> None:
    assert codes(read(tmp_path, HEADER.replace(b"\n", b",Shoe_size\n"))[1]) == ["header_unknown", "file_without_rows"]
