"""The command line as an operator and a district's own staff meet it: what it prints, what it leaves alone, how it ends."""

from __future__ import annotations

import codecs
import csv
import json
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import asyncssh
import pytest

from sftp_ingest.config import FILE_NAME
from tests.acceptance.conftest import Home, eventually, run_command, run_program
from tests.unit.districts import csv_of, ruled, small, student

COMMANDS = (
    "", "init", "serve", "check", "sync", "report", "sample",
    "districts", "districts add", "districts list", "districts show", "districts pause", "districts resume", "districts set-password",
    "districts add-key", "districts remove-key", "districts remove-password", "accounts", "accounts add", "accounts list", "accounts remove", "sessions",
    "districts rotate-password", "districts export", "host-keys", "host-keys list", "host-keys prepare", "host-keys switch", "host-keys retire",
    "runs", "runs list", "runs show", "runs revert", "why", "holds", "holds list", "holds show", "holds release", "holds discard",
    "config", "config check", "database", "database upgrade",
)  # fmt: skip
COUNTS = {"rows", "created", "updated", "moved", "deactivated", "reactivated", "unchanged", "rejected"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home without a daemon; every test brings districts of its own."""
    folder = tmp_path_factory.mktemp("operator")
    made = Home.make(folder, f"sqlite:///{folder / 'sftp-ingest.db'}")
    yield made
    made.close()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder with nothing wrong."""
    return folder_of(tmp_path / "good", small())


def folder_of(folder: Path, files: dict[str, list[dict[str, str]]]) -> Path:
    """The tables as CSV files."""
    folder.mkdir()
    for name, rows in files.items():
        (folder / f"{name}.csv").write_bytes(csv_of(rows))
    return folder


# ---------------------------------------------------------------- init, config, database


def test_init_a_second_time_keeps_what_is_there(tmp_path: Path) -> None:
    assert run_command("init", "house", cwd=tmp_path).returncode == 0
    house = tmp_path / "house"
    kept = {path: path.read_bytes() for path in (house / FILE_NAME, house / "host_key")}
    assert run_command("districts", "add", "springfield", "--config", "house/sftp-ingest.toml", cwd=tmp_path).returncode == 0

    again = run_command("init", "house", "--port", "9", cwd=tmp_path)
    assert again.returncode == 0
    assert {path: path.read_bytes() for path in kept} == kept
    listed = run_command("districts", "list", "--config", "house/sftp-ingest.toml", "--json", cwd=tmp_path)
    assert [each["id"] for each in json.loads(listed.stdout)] == ["springfield"]
    assert (house / "host_key").stat().st_mode & 0o077 == 0
    assert (house / "data").stat().st_mode & 0o077 == 0


def test_a_house_may_have_any_name_and_its_database_lies_in_it(tmp_path: Path) -> None:
    house = tmp_path / "100%41 #1?mode=memory"
    assert run_command("init", str(house), cwd=tmp_path).returncode == 0
    assert run_command("districts", "add", "springfield", cwd=house).returncode == 0
    assert stat.S_IMODE((house / "sftp-ingest.db").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [house.name]


def test_a_database_that_is_not_there_is_named_and_not_made(tmp_path: Path) -> None:
    assert run_command("init", cwd=tmp_path).returncode == 0
    config = tmp_path / FILE_NAME
    config.write_text(config.read_text(encoding="utf-8").replace("sqlite:///sftp-ingest.db", "sqlite:///none.db"), encoding="utf-8")
    for arguments in (("districts", "list"), ("serve",)):
        done = run_command(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (
            3,
            f"sftp-ingest: there is no database at {tmp_path}/none.db; `sftp-ingest database upgrade` makes an empty one\n",
        )
    assert not (tmp_path / "none.db").exists()


def test_a_full_disk_is_called_full_also_by_who_only_reads(home: Home) -> None:
    command = ["prlimit", "--fsize=4096", sys.executable, "-m", "sftp_ingest", "runs", "list"]  # too small for what SQLite's readers share
    done = subprocess.run(command, cwd=home.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "sftp-ingest: the disk of the database is full (SQLITE_IOERR_SHMSIZE)\n")


def test_nothing_is_put_into_a_data_folder_that_is_not_there(tmp_path: Path, good: Path) -> None:
    assert run_command("init", cwd=tmp_path).returncode == 0
    assert run_command("districts", "add", "springfield", cwd=tmp_path).returncode == 0
    (tmp_path / "data").rename(tmp_path / "moved")
    for arguments in (("sync", "springfield", str(good)), ("districts", "add", "shelbyville")):
        done = run_command(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (2, f"sftp-ingest: data: there is no folder {tmp_path}/data; `sftp-ingest init` makes it\n")
    assert not (tmp_path / "data").exists()
    assert [each["id"] for each in json.loads(run_command("districts", "list", "--json", cwd=tmp_path).stdout)] == ["springfield"]


def test_a_key_that_expires_and_another_password_are_given_without_a_restart(home: Home, tmp_path: Path) -> None:
    home.command("districts", "add", "shelbyville")
    path = tmp_path / "key.pub"
    path.write_bytes(asyncssh.generate_private_key("ssh-ed25519", comment="sync").export_public_key())
    home.command("districts", "add-key", "shelbyville", str(path), "--expires", "2037-01-31")
    told = home.json("districts", "rotate-password", "shelbyville")
    assert len(told["password"]) >= 20
    assert home.json("districts", "rotate-password", "shelbyville")["password"] != told["password"]
    shown = home.json("districts", "show", "shelbyville")
    [told] = shown["keys"]
    sentence, fingerprint = told.rsplit(" ", 1)
    assert (sentence, shown["password"], shown["networks"]) == ("ssh-ed25519 sync until 2037-01-31 00:00Z", True, [])
    home.command("districts", "remove-key", "shelbyville", "SHA256:nobodys", code=2)
    home.command("districts", "remove-key", "shelbyville", fingerprint)
    assert home.json("districts", "show", "shelbyville")["keys"] == []


def test_config_check_tells_what_the_configuration_comes_to(home: Home) -> None:
    told = home.json("config", "check")
    assert told["config"] == str(home.folder / FILE_NAME)
    assert told["listen"] == "127.0.0.1:0"
    assert told["database"].startswith("sqlite")
    assert "own_settings" not in told
    assert str(home.folder / "data") in home.command("config", "check")


def test_config_check_tells_which_host_keys_are_there_and_which_are_missing(tmp_path: Path) -> None:
    assert run_command("init", cwd=tmp_path).returncode == 0
    there, other = (str(tmp_path / name) for name in ("host_key", "host_key_rsa"))
    told = run_command("config", "check", cwd=tmp_path).stdout.splitlines()
    assert (f"host key     {there}, {other}" in told, "missing" in str(told)) == (True, False)
    Path(other).unlink()
    done = run_command("config", "check", cwd=tmp_path)
    assert done.returncode == 0
    assert {f"host key     {there}", f"missing key  {other} (`sftp-ingest init` makes it; the daemon does without)"} <= set(done.stdout.splitlines())
    told = json.loads(run_command("config", "check", "--json", cwd=tmp_path).stdout)
    assert (told["host_key"], told["missing_key"]) == ([there], [other])
    Path(there).unlink()
    done = run_command("config", "check", cwd=tmp_path)
    assert (done.returncode, {"host key     none", f"missing key  {there}, {other}"} <= set(done.stdout.splitlines())) == (2, True)


def test_config_check_tells_all_that_serve_would_refuse_one_line_each(tmp_path: Path) -> None:
    assert run_command("init", cwd=tmp_path).returncode == 0
    config = tmp_path / FILE_NAME
    config.write_text(config.read_text(encoding="utf-8") + '\n[districts.springfield]\nformat = "clever"\n', encoding="utf-8")
    assert "\nown settings springfield\n" in run_command("config", "check", cwd=tmp_path).stdout

    for path in (tmp_path / "host_key", tmp_path / "host_key_rsa", tmp_path / "data", tmp_path / "sftp-ingest.db"):
        path.rename(path.with_name(f"aside-{path.name}"))
    (tmp_path / "sftp-ingest.db").touch()
    lines = [
        f"server.host_key: there is no key at {tmp_path}/host_key; `sftp-ingest init` makes one",
        f"data: there is no folder {tmp_path}/data; `sftp-ingest init` makes it",
        "the database has no tables yet; run `sftp-ingest database upgrade`",
    ]
    done = run_command("config", "check", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (2, [f"sftp-ingest: {line}" for line in lines])
    asked = run_command("config", "check", "--json", cwd=tmp_path)
    assert (asked.returncode, json.loads(asked.stdout)["faults"]) == (2, lines)
    for line, path in zip(lines, ("host_key", "data", "sftp-ingest.db"), strict=True):
        served = run_command("serve", cwd=tmp_path)
        assert (served.returncode, served.stderr) == (3 if "tables" in line else 2, f"sftp-ingest: {line}\n")
        (tmp_path / f"aside-{path}").rename(tmp_path / path)
    assert run_command("config", "check", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("[server]\nprot = 22", "server.prot"),
        ("[server]\nport = 65536", "server.port"),
        ("[server]\nhost_key = []", "server.host_key"),
        ('[server]\nstartups = "50:101:200"', "server.startups"),
        ('[server]\ntrusted = ["everywhere"]', "server.trusted"),
        ('[districts.x]\nnetworks = ["10.0.0.0/33"]', "districts.x.networks"),
        ("[defaults]\nstrict = 1", "defaults.strict"),
        ("[defaults]\nsettle_seconds = nan", "defaults.settle_seconds must be a number that is finite"),
        (f"[defaults]\nsettle_seconds = 1{400 * '0'}", "defaults.settle_seconds must be a number that is finite"),
        ("[server]\nban_seconds = inf", "server.ban_seconds must be a number that is finite"),
        ("[defaults]\nsettle_seconds = 86_401", "defaults.settle_seconds must not be above 86400"),
        ("[server]\nidle_seconds = 1e300", "server.idle_seconds must not be above 31622400"),
        ("[defaults]\nkeep_nights = 0", "defaults.keep_nights must not be below 1"),
        ("[server]\nacceptors = 0", "server.acceptors must not be below 1"),
        ("[districts.x]\nkeep_changes_nights = 1.5", "districts.x.keep_changes_nights must be a whole number"),
        ("[defaults.limits]\nremoved_share = 10", "defaults.limits.removed_share"),
        ('[districts.x]\ncontract = "nowhere"', "districts.x.contract"),
        ('[defaults]\nkeep_sensitive = ["shoe_size"]', "defaults.keep_sensitive: keep_sensitive names shoe_size, which is no sensitive column"),
        ("[districts.x]\nlimits = 3", "districts.x.limits"),
        ("[x", "TOML"),
    ],
)
def test_a_wrong_configuration_ends_with_2_and_names_the_key(tmp_path: Path, line: str, key: str) -> None:
    (tmp_path / FILE_NAME).write_text(line, encoding="utf-8")
    done = run_command("config", "check", cwd=tmp_path)
    assert done.returncode == 2
    assert key in done.stderr
    assert "Traceback" not in done.stderr


def test_init_with_a_wrong_argument_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (("file",), ("file/house",), ("house", "--port", "65536"), ("house", "--database-url", "nonsense")):
        done = run_command("init", *arguments, cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), arguments
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_the_machine_refuses_is_told_in_a_sentence_with_its_path(tmp_path: Path, good: Path) -> None:
    for arguments in (("init", "/proc/house"), ("check", str(good), "--html", "/proc/page.html")):
        done = run_command(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (3, 1)
        assert done.stderr.startswith(f"sftp-ingest: {arguments[-1]}: ")


def test_a_wrong_line_of_a_key_file_is_named(home: Home) -> None:
    (home.folder / "keys.pub").write_text("# ours\n\nssh-ed25519 nonsense\n", encoding="utf-8")
    home.add("lincoln")
    done = run_command("districts", "add-key", "lincoln", "keys.pub", cwd=home.folder)
    assert (done.returncode, done.stderr) == (2, "sftp-ingest: keys.pub, line 3: this is not an OpenSSH public key\n")


def test_a_key_may_be_as_puttygen_or_notepad_saved_it_and_a_private_one_is_sent_back(home: Home) -> None:
    home.add("puttyville")
    key = asyncssh.generate_private_key("ssh-rsa", comment="the SIS", key_size=2048)
    files = {
        "putty.pub": key.export_public_key("rfc4716").replace(b"\n", b"\r\n"),
        "notepad.pub": codecs.BOM_UTF8 + key.export_public_key().replace(b"\n", b"\r\n"),
        "id_rsa": key.export_private_key("openssh"),
        "manifold.ppk": b"PuTTY-User-Key-File-3: ssh-rsa\r\n",
    }
    for name, content in files.items():
        (home.folder / name).write_bytes(content)
    for name in ("putty.pub", "notepad.pub"):
        home.command("districts", "add-key", "puttyville", name)
        assert key.get_fingerprint() in home.command("districts", "show", "puttyville")
        home.command("districts", "remove-key", "puttyville", key.get_fingerprint())
    for name in ("id_rsa", "manifold.ppk"):
        done = run_command("districts", "add-key", "puttyville", name, cwd=home.folder)
        assert (done.returncode, "private key" in done.stderr, done.stderr.count("\n")) == (2, True, 1)


def test_without_a_configuration_the_command_says_how_to_make_one(tmp_path: Path) -> None:
    for arguments in (("serve",), ("runs",), ("districts", "list", "--config", "nowhere.toml")):
        done = run_command(*arguments, cwd=tmp_path)
        assert (done.returncode, "init" in done.stderr) == (2, True)


def test_database_upgrade_changes_nothing_the_second_time(home: Home) -> None:
    before = home.json("districts", "list")
    home.command("database", "upgrade")
    home.command("database", "upgrade")
    assert home.json("districts", "list") == before


# ---------------------------------------------------------------- check


def test_check_needs_no_configuration_and_ends_with_0_on_good_files(tmp_path: Path, good: Path) -> None:
    done = run_command("check", str(good), "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["outcome"] == "successful"
    assert told["hold"] is None
    assert told["counts"]["students"].items() >= {"rows": 6, "created": 6, "rejected": 0}.items()
    assert all(set(counts) >= COUNTS for counts in told["counts"].values())
    assert set(told["seconds"]) >= {"load", "validate", "compare"}
    assert list(tmp_path.iterdir()) == [good]


def test_check_writes_what_is_to_be_mended_for_this_user_only(tmp_path: Path) -> None:
    files = small()
    files["students"][1]["Last_name"] = ""
    done = run_command("check", str(folder_of(tmp_path / "bad", files)), "--fix-it", "mend", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = {path.name: path for path in (tmp_path / "mend").iterdir()}
    assert {"README.txt", "errors.csv", "rejected-students.csv", "students-created.csv"} <= set(written)
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.values()} == {0o600}
    with written["rejected-students.csv"].open(encoding="utf-8-sig", newline="") as file:
        assert [(row["Student_id"], row["finding"]) for row in csv.DictReader(file)] == [("0002", "value_missing")]


def test_check_ends_with_1_on_bad_files_and_says_what_to_do(tmp_path: Path, good: Path) -> None:
    (good / "teachers.csv").unlink()
    done = run_command("check", str(good), "--json", "--html", "bad.html", cwd=tmp_path)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["outcome"] == "refused"
    (missing,) = [each for each in told["findings"] if each["code"] == "file_missing"]
    assert (missing["file"], missing["count"], missing["severity"]) == ("teachers.csv", 1, "refuse")
    assert missing["advice"]
    assert "teachers.csv" in (tmp_path / "bad.html").read_text(encoding="utf-8")
    spoken = run_command("check", str(good), cwd=tmp_path)
    assert spoken.returncode == 1
    assert "teachers.csv" in spoken.stdout


def test_check_points_to_the_lines_of_rows_that_would_be_left_out(tmp_path: Path) -> None:
    files = small()
    files["students"] += [student(7, School_id="0099"), student(8, School_id="0099")]
    told = json.loads(run_command("check", str(folder_of(tmp_path / "some", files)), "--json", cwd=tmp_path).stdout)
    (unknown,) = [each for each in told["findings"] if each["code"] == "school_unknown"]
    assert (unknown["file"], unknown["count"], unknown["lines"]) == ("students.csv", 2, [8, 9])
    assert told["counts"]["students"]["rejected"] == 2


def test_check_against_a_district_adds_what_would_change_and_changes_nothing(home: Home, tmp_path: Path, good: Path) -> None:
    home.add("against")
    home.json("sync", "against", str(good))
    before = home.roster("against")
    more = folder_of(tmp_path / "more", small(7))
    told = home.json("check", str(more), "--against", "against")
    assert told["counts"]["students"].items() >= {"existing": 6, "created": 1, "unchanged": 6}.items()
    assert home.roster("against") == before
    assert len(home.runs("against")) == 1


RULES = '[[fields]]\nname = "Student_id"\nheaders = ["Stu_ID"]\n[[checks]]\nname = "Ids have four digits"\ncolumn = "Stu_ID"\npattern = "[0-9]{4}"\n'


def test_check_under_a_contract_says_what_the_contract_changes(tmp_path: Path) -> None:
    files = small()
    files["students"].append(student(7, Student_id="7"))
    files["students"] = [{("Stu_ID" if name == "Student_id" else name): value for name, value in row.items()} for row in files["students"]]
    folder, rules = folder_of(tmp_path / "night", files), ruled(tmp_path / "rules", students=RULES)
    assert run_command("check", str(folder), cwd=tmp_path).returncode == 1
    done = run_command("check", str(folder), "--contract", "rules", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["outcome"] == told["after"]["outcome"] == "successful"
    assert (told["before"]["outcome"], told["before"]["rejected"], told["before"]["findings"]["header_missing"]) == ("refused", 0, 1)
    assert (told["after"]["rows"], told["after"]["rejected"], told["after"]["findings"]) == (21, 0, {"check_failed": 1})
    spoken = run_command("check", str(folder), "--contract", str(rules), cwd=tmp_path)
    assert re.search(r"outcome +refused +successful", spoken.stdout)
    assert re.search(r"check_failed +0 +1", spoken.stdout)
    assert re.search(r"header_missing +1 +0", spoken.stdout)
    assert "Ids have four digits" in spoken.stdout


@pytest.mark.parametrize("toml", ["fields = 3", "[[fields", '[[fields]]\nname = "Student_id"\nconstraints = { pattern = "(?=a" }'])
def test_a_wrong_contract_ends_with_2_and_one_sentence(toml: str, tmp_path: Path, good: Path) -> None:
    ruled(tmp_path / "rules", students=toml)
    done = run_command("check", str(good), "--contract", "rules", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "rules/students.toml" in done.stderr


def test_a_districts_own_wrong_rules_fail_its_run_alone(tmp_path: Path, good: Path) -> None:
    home = Home.make(tmp_path / "home", f"sqlite:///{tmp_path / 'rules.db'}", "ruled", "plain")
    ruled(home.folder / "contracts" / "ruled", students=RULES)
    config = home.folder / FILE_NAME
    config.write_text(config.read_text(encoding="utf-8") + '\n[districts.ruled]\ncontract = "contracts/ruled"\n', encoding="utf-8")
    home.command("config", "check")
    assert home.json("sync", "ruled", str(good))["outcome"] == "successful"
    ruled(home.folder / "contracts" / "ruled", student=RULES)
    failed = home.command("sync", "ruled", str(good), code=3)
    assert "ruled/student.toml" in failed
    assert "clever has no table student; students may be meant" in " ".join(failed.split())
    assert home.json("sync", "plain", str(good))["outcome"] == "successful"
    home.command("sync", "ruled", str(good), "--dry-run", code=2)
    home.command("config", "check", code=2)
    home.close()


# ---------------------------------------------------------------- sync, runs, report, holds


def test_a_dry_run_changes_nothing_at_all(home: Home, good: Path) -> None:
    home.add("dry")
    told = home.json("sync", "dry", str(good), "--dry-run")
    assert (told["outcome"], told["run"], told["counts"]["students"]["created"]) == ("successful", None, 6)
    assert home.runs("dry") == []
    assert home.sealed("dry") == []
    assert not any(home.roster("dry").values())


def test_sync_applies_once_and_then_finds_nothing_to_do(home: Home, good: Path) -> None:
    home.add("twice")
    first, second = home.json("sync", "twice", str(good)), home.json("sync", "twice", str(good))
    assert (first["outcome"], second["outcome"]) == ("successful", "unchanged")
    assert all(set(counts) >= COUNTS for counts in first["counts"].values())

    listed = home.json("runs", "list", "--district", "twice")
    assert [each["outcome"] for each in listed] == ["unchanged", "successful"]
    assert len(home.json("runs", "list", "--district", "twice", "--limit", "1")) == 1
    shown = home.json("runs", "show", str(first["run"]))
    assert {key: shown[key] for key in ("run", "outcome", "counts", "findings", "hold")} == {
        key: first[key] for key in ("run", "outcome", "counts", "findings", "hold")
    }
    assert "twice" in home.command("runs")


def test_a_disk_without_room_for_details_does_not_cost_the_night(home: Home, good: Path) -> None:
    home.add("full")
    (home.folder / "data" / "reports" / "full").parent.mkdir(parents=True, exist_ok=True)
    (home.folder / "data" / "reports" / "full").touch()  # no folder can be made there
    told = home.json("sync", "full", str(good))
    assert (told["outcome"], told["counts"]["students"]["created"]) == ("successful", 6)
    receipt = json.loads((home.home_of("full") / "reports" / "latest-receipt.json").read_text(encoding="utf-8"))
    assert (receipt["run"], receipt["outcome"], receipt["details"]) == (told["run"], "successful", None)


def test_the_html_report_is_one_file_that_asks_nothing_of_the_network(home: Home, good: Path) -> None:
    home.add("page")
    run = home.json("sync", "page", str(good))["run"]
    home.command("report", str(run), "--html", "page.html")
    page = (home.folder / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href|action)\s*=\s*["']?\s*(https?:)?//|url\(\s*["']?(https?:)?//|@import""", page, re.IGNORECASE)
    assert "<script src" not in page
    assert home.json("report", str(run))["outcome"] == "successful"
    assert home.command("report", str(run)).strip()


def test_a_sync_that_is_held_ends_with_1(home: Home, tmp_path: Path) -> None:
    home.add("held")
    home.json("sync", "held", str(folder_of(tmp_path / "many", small(60))))
    fewer = small(30)
    told = home.json("sync", "held", str(folder_of(tmp_path / "few", fewer)), code=1)
    assert told["outcome"] == "on_hold"
    assert set(told["hold"]) >= {"reasons", "scope", "digest"}
    (hold,) = home.json("holds", "list", "--district", "held")
    assert home.json("holds", "discard", str(hold["hold"])) == {"hold": hold["hold"], "state": "discarded"}
    home.command("holds", "discard", str(hold["hold"]), code=2)


def test_the_list_of_runs_says_why_nothing_was_done_and_what_still_waits(home: Home, tmp_path: Path) -> None:
    home.command("districts", "add", "ogdenville")
    home.json("sync", "ogdenville", str(folder_of(tmp_path / "first", small(100))))
    waits = home.json("sync", "ogdenville", str(folder_of(tmp_path / "fewer", small(40))), code=1)
    refused = small(100)
    del refused["sections"]
    home.json("sync", "ogdenville", str(folder_of(tmp_path / "refused", refused)), code=1)
    told = home.command("runs", "list", "--district", "ogdenville").splitlines()
    assert "sections.csv is missing" in told[-3]
    assert re.search("on_hold .* waiting", told[-2])
    report = home.command("report", str(waits["run"]))
    assert report.startswith("On hold: ")
    assert not [line for line in report.splitlines() if line != line.rstrip() and len(line) > 150], "no line is filled up with blanks"

    home.json("sync", "ogdenville", str(folder_of(tmp_path / "again", small(101))))
    told = home.command("runs", "list", "--district", "ogdenville").splitlines()
    assert "on_hold" in told[-2]
    assert "waiting" not in told[-2], "a newer delivery has taken its place"
    assert home.command("report", str(waits["run"])).startswith("Was on hold: ")


# ---------------------------------------------------------------- districts


def test_a_district_whose_home_cannot_be_made_is_not_added(home: Home) -> None:
    (home.folder / "data" / "homes" / "walled").write_text("a file in its place", encoding="utf-8")
    done = run_command("districts", "add", "walled", "--generate-password", cwd=home.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sftp-ingest: data: the home {home.folder}/data/homes/walled cannot be made (File exists); the district was not added\n"
    assert "walled" not in home.command("districts", "list")


def test_a_districts_life_on_the_command_line(home: Home) -> None:
    added = home.json("districts", "add", "lifelong", "--name", "Lifelong Learning", "--generate-password")
    assert len(added["password"]) >= 16
    shown = home.json("districts", "show", "lifelong")
    assert (shown["name"], shown["state"], shown["password"], shown["keys"]) == ("Lifelong Learning", "new", True, [])
    assert added["password"] not in json.dumps(shown)

    home.command("districts", "add-key", "lifelong", "district_key.pub")
    home.command("districts", "pause", "lifelong")
    shown = home.json("districts", "show", "lifelong")
    assert (shown["state"], len(shown["keys"])) == ("paused", 1)
    home.command("districts", "resume", "lifelong")
    home.command("districts", "set-password", "lifelong", "--password-stdin", text="correct horse battery staple\n")
    assert {each["id"]: each["state"] for each in home.json("districts", "list")}["lifelong"] == "new"
    assert "Lifelong" in home.command("districts")
    home.command("districts", "add", "lifelong", code=2)


def test_further_accounts_of_a_district_are_added_changed_listed_and_removed(home: Home) -> None:
    home.command("districts", "add", "manifold", "--generate-password")
    added = home.json("accounts", "add", "manifold", "manifold-sis", "--key", "district_key.pub", "--generate-password")
    assert (added["account"], added["district"], added["keys"], len(added["password"]) >= 16) == ("manifold-sis", "manifold", 1, True)
    assert "nobody can log in with it yet" in home.command("accounts", "add", "manifold", "manifold-spare")

    own, further = (home.json("districts", "show", "manifold", *of) for of in ((), ("--account", "manifold-sis")))
    assert own["accounts"] == ["manifold", "manifold-sis", "manifold-spare"]
    assert [(each["account"], len(each["keys"]), each["password"]) for each in (own, further)] == [("manifold", 0, True), ("manifold-sis", 1, True)]
    fingerprint = further["keys"][0].rsplit(" ", 1)[1]
    home.command("districts", "remove-key", "manifold", fingerprint, code=2)
    home.command("districts", "remove-key", "manifold", fingerprint, "--account", "manifold-sis")
    home.command("districts", "remove-password", "manifold", "--account", "manifold-sis")
    assert len(home.json("districts", "rotate-password", "manifold", "--account", "manifold-spare")["password"]) >= 20
    home.command("districts", "add-key", "manifold", "district_key.pub", "--account", "manifold-spare")
    told = {each["account"]: (len(each["keys"]), each["password"]) for each in home.json("accounts", "list", "manifold")}
    assert told == {"manifold": (0, True), "manifold-sis": (0, False), "manifold-spare": (1, True)}
    assert "manifold-spare" in home.command("accounts")

    for wrong in (
        ("accounts", "add", "nobody", "new-one"),
        ("accounts", "add", "manifold", "manifold"),
        ("accounts", "add", "manifold", "manifold-sis"),
        ("accounts", "add", "manifold", "../x"),
        ("accounts", "list", "nobody"),
        ("accounts", "remove", "manifold"),
        ("accounts", "remove", "nobody"),
        ("districts", "add", "manifold-sis"),
        ("districts", "show", "manifold", "--account", "nobody"),
        ("districts", "rotate-password", "nobody", "--account", "manifold-sis"),
    ):
        home.command(*wrong, code=2)
    assert not home.home_of("manifold-sis").exists()
    home.command("accounts", "remove", "manifold-sis")
    assert home.json("districts", "show", "manifold")["accounts"] == ["manifold", "manifold-spare"]
    certificate = home.json("districts", "erase", "manifold", "--yes")
    assert [certificate["rows"][each] for each in ("accounts", "keys", "passwords")] == [2, 1, 2]
    assert "manifold" not in home.command("accounts")


def test_an_unknown_district_ends_with_2_and_is_named(home: Home, good: Path) -> None:
    for arguments in (
        ("districts", "show", "nobody"),
        ("districts", "pause", "nobody"),
        ("districts", "resume", "nobody"),
        ("districts", "set-password", "nobody", "--generate-password"),
        ("districts", "add-key", "nobody", "district_key.pub"),
        ("sync", "nobody", str(good)),
        ("check", str(good), "--against", "nobody"),
        ("users", "erase", "nobody", "1", "--yes"),
    ):
        done = run_command(*arguments, cwd=home.folder)
        assert (done.returncode, "nobody" in done.stderr, "Traceback" in done.stderr) == (2, True, False), (arguments, done.stderr)


def test_what_is_shown_to_people_has_their_words_and_json_has_the_values(home: Home, tmp_path: Path) -> None:
    home.command("districts", "add", "wordy", "--key", "district_key.pub", "--name", "Wordy " * 60)
    [line] = [line for line in home.command("districts", "list").splitlines() if "wordy" in line]
    assert line.rstrip().endswith(("Wordy " * 60).rstrip())

    home.command("sync", "wordy", str(folder_of(tmp_path / "one", small(40))))
    files = small(40)
    files["students"], files["enrollments"] = files["students"][20:], [row for row in files["enrollments"] if row["Student_id"] > "0020"]
    home.command("sync", "wordy", str(folder_of(tmp_path / "two", files)), code=1)
    told = home.json("districts", "show", "wordy")
    shown = home.command("districts", "show", "wordy").splitlines()
    moment = f"{told['last_delivery'][:16].replace('T', ' ')}Z"
    assert {f"last_delivery       {moment}", "password            no", "settle_seconds      0.5", "overdue_hours       26"} <= set(shown)
    assert (told["password"], told["overdue_hours"], told["overdue_since"]) == (False, 26.0, None)

    held = home.json("holds", "show", str(told["open_hold"]))
    assert datetime.fromisoformat(held["since"]).tzinfo is not None
    assert f"since        {held['since'][:16].replace('T', ' ')}Z" in home.command("holds", "show", str(told["open_hold"])).splitlines()


def test_the_readmes_start_runs_word_for_word(tmp_path: Path) -> None:
    start = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").partition("\n## Start\n")[2].partition("\n## ")[0]
    here = tmp_path / "ingest"
    here.mkdir()
    done = []
    for line in "".join(re.findall(r"```sh\n(.*?)```", start, re.DOTALL)).splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["sftp>", "lcd"]:
            assert list((here / words[2]).glob("*.csv"))
        if words[:1] == ["sftp-ingest"] and words[1] != "serve":
            ended = run_command(*words[1:], cwd=here)
            assert ended.returncode in (0, 1), (line, ended.stderr)
            assert ended.returncode == 0 or words[1] == "check", line  # which shows faults
            done.append(words[1])
    assert done == ["init", "districts", "sample", "check", "sync", "sync", "runs", "report"]
    assert (here / "report.html").exists()


# ---------------------------------------------------------------- sample, serve, help, hostile arguments


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):  # by two Pythons, each of which orders its sets in its own way
        made = run_program("sample", folder, "--students", "50", "--nights", "2", "--seed", "5", "--faults", "--json", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)[1]["story"]["faults"] > 0
    one, two = ({path.relative_to(root): path.read_bytes() for path in root.rglob("*.csv")} for root in (tmp_path / "one", tmp_path / "two"))
    assert one == two
    assert len(one) == 12


def test_no_district_is_made_up_where_another_lies(tmp_path: Path) -> None:
    assert run_command("sample", "nights", "--students", "20", cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    again = run_command("sample", "nights", "--students", "20", "--format", "oneroster", cwd=tmp_path)
    assert (again.returncode, "nights/night-1 holds files already" in again.stderr) == (2, True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} == before


def test_what_there_is_nothing_of_is_told_in_a_sentence(tmp_path: Path) -> None:
    assert run_command("init", cwd=tmp_path).returncode == 0
    told = {command: run_command(command, "list", cwd=tmp_path).stdout for command in ("districts", "runs", "holds")}
    assert told == {
        "districts": "there is no district yet; `sftp-ingest districts add ID` makes one\n", "runs": "there is no run yet\n", "holds": "nothing waits\n"
    }  # fmt: skip
    assert run_command("districts", "list", "--json", cwd=tmp_path).stdout == "[]\n"
    assert run_command("sessions", cwd=tmp_path).stdout == "nobody came\nnot let in: nobody\n"


def test_a_district_is_exported_and_synced_again_without_a_change(home: Home, good: Path, tmp_path: Path) -> None:
    home.add("exported")
    home.command("districts", "export", "exported", str(tmp_path / "out"), code=2)
    home.command("sync", "exported", str(good))
    told = home.json("districts", "export", "exported", str(tmp_path / "out"))
    assert {each["name"]: each["rows"] for each in told["files"]}["enrollments.csv"] == 7
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    assert home.json("sync", "exported", str(tmp_path / "out"))["outcome"] == "unchanged"
    home.command("districts", "export", "exported", str(tmp_path / "out"), code=2)
    home.command("districts", "export", "exported", str(tmp_path / "out"), "--force")
    home.command("districts", "export", "exported", str(tmp_path / "roster"), "--format", "oneroster", "--oneroster-version", "1.2")
    assert {"manifest.csv", "users.csv", "roles.csv"} <= {path.name for path in (tmp_path / "roster").iterdir()}


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_daemon_cleanly(home: Home, by: signal.Signals) -> None:
    home.serve()
    assert home.stop(by) == 0
    assert home.log.splitlines()[-1].find('"stopped"') > 0


def test_the_log_names_the_folder_where_a_district_has_no_home(home: Home, good: Path) -> None:
    home.add("homeless")
    home.serve()
    homes = home.folder / "data" / "homes"
    homes.rename(home.folder / "moved")
    with pytest.raises(asyncssh.Error):
        home.push(good, "homeless")
    (home.folder / "moved").rename(homes)
    assert [(each["district"], each["folder"]) for each in home.events("home_unavailable")] == [("homeless", str(homes / "homeless"))]
    assert home.stop() == 0


def test_a_hangup_ends_no_daemon_and_the_log_says_what_reads_the_configuration_anew(home: Home) -> None:
    home.serve()
    home.send(signal.SIGHUP)
    (told,) = eventually(lambda: home.events("hangup_ignored"), "the daemon speaks of the hangup")
    assert told["advice"] == "the configuration is read when the daemon begins: restart it; host keys are read anew by themselves"
    assert home.stop() == 0


def test_every_command_explains_itself(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        for command, done in zip(COMMANDS, pool.map(lambda command: run_command(*command.split(), "--help", cwd=tmp_path), COMMANDS), strict=True):
            assert (done.returncode, "Usage" in done.stdout) == (0, True), command
    assert "Usage" in run_program("--help", cwd=tmp_path).stdout


def test_hostile_arguments_get_a_sentence_and_never_a_traceback(home: Home, tmp_path: Path, good: Path) -> None:
    (tmp_path / "empty").mkdir()
    home.add("target")
    hostile = (
        ("check", str(tmp_path / "nowhere")),
        ("check", str(good / "students.csv")),
        ("check", str(tmp_path / "empty")),
        ("check", str(good), "--contract", str(tmp_path / "nowhere")),
        ("check", str(good), "--contract", str(good / "students.csv")),
        ("check", str(good), "--contract", str(tmp_path / "empty")),
        ("check", str(good), "--html", str(tmp_path / "no" / "such" / "page.html")),
        ("check", str(good), "--fix-it", str(good)),
        ("check", str(good), "--fix-it", str(good / "students.csv")),
        ("check", str(good), "--fix-it", str(tmp_path / "no" / "such" / "folder")),
        ("sync", "target", str(tmp_path / "nowhere")),
        ("sync", "target", str(good / "students.csv")),
        ("sync", "target", str(tmp_path / "empty")),
        ("sync", "../target", str(good)),
        ("districts", "add", "../escape"),
        ("districts", "add", ""),
        ("districts", "add", "-rf"),
        ("districts", "add", "a b\n"),
        ("districts", "add", "keyless", "--key", "nowhere.pub"),
        ("districts", "add", "notakey", "--key", FILE_NAME),
        ("runs", "show", "-1"),
        ("runs", "show", "99999"),
        ("runs", "show", "99999999999999999999"),
        ("runs", "list", "--limit", "-1"),
        ("runs", "revert", "99999"),
        ("runs", "revert", "99999", "--dry-run"),
        ("runs", "revert", "one"),
        ("why", "nobody", "user", "1"),
        ("why", "target", "user", "1"),
        ("why", "target", "pupil", "1"),
        ("why", "target", "section", "\x1b[31m"),
        ("report", "99999"),
        ("report", "one"),
        ("holds", "show", "99999"),
        ("holds", "release", "-5"),
        ("holds", "discard", "99999"),
        ("holds", "list", "--state", "imaginary"),
        ("sample", str(tmp_path / "sample"), "--students", "-5"),
        ("sample", str(tmp_path / "sample"), "--nights", "0"),
        ("sample", str(good / "students.csv")),
        ("sample", str(tmp_path / "sample"), "--fault-share", "2"),
        ("sample", str(tmp_path / "sample"), "--wrong-column", "Shoe_size"),
        ("sample", str(tmp_path / "sample"), "--format", "oneroster", "--faults"),
        ("districts", "export", "nobody", str(tmp_path / "out")),
        ("districts", "export", "target", str(tmp_path / "out")),
        ("districts", "export", "target", str(tmp_path / "out"), "--format", "xlsx"),
        ("no-such-command",),
    )
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(hostile, pool.map(lambda arguments: run_command(*arguments, cwd=home.folder), hostile), strict=True))
    wrong = [f"{arguments}: {done.returncode} {done.stderr[-200:]}" for arguments, done in ended.items() if done.returncode != 2 or "Traceback" in done.stderr]
    assert not wrong, "\n".join(wrong)
    assert not (home.folder / "data" / "escape").exists()
    assert not (home.folder / "data" / "homes" / "..escape").exists()


def test_what_init_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    run_command("init", "home", cwd=tmp_path)
    open_to_others = [str(path) for path in sorted((tmp_path / "home").rglob("*")) if path.stat().st_mode & 0o077]
    assert open_to_others == []
