"""What is kept and what is erased, as an operator sees it: the real daemon's sweep, the real commands, both databases."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path

import pytest

from sftp_ingest import sample
from tests.acceptance.conftest import Home, eventually, run_command

DISTRICT = "springfield"


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[sample.Night, ...]:
    """Two nights, the second with faults."""
    return sample.write(tmp_path_factory.mktemp("nights"), students=200, nights=2, seed=5, faults=True)


def members(path: Path) -> dict[str, bytes]:
    """What the zip holds, but for the page and the receipt, which tell their own time and name."""
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist() if name not in ("report.html", "receipt.json")}


def test_the_daemon_compresses_closed_deliveries_and_all_that_reads_them_reads_on(home: Home, nights: tuple[sample.Night, ...]) -> None:
    home.json("sync", DISTRICT, str(nights[0].folder))
    home.command("report", "1", "--zip", "before.zip")
    (sealed,) = home.sealed(DISTRICT)
    checked = home.json("check", str(sealed))
    sent = {path.name for path in sealed.glob("*.csv")}

    home.serve()
    kept = eventually(lambda: home.events("deliveries_kept"), "the sweep")
    assert (kept[0]["district"], kept[0]["packed"], kept[0]["pruned"]) == (DISTRICT, len(sent), 0)
    assert {path.name for path in sealed.iterdir()} == {f"{name}.zst" for name in sent} | {"delivery.json"}
    home.command("report", "1", "--zip", "after.zip")
    assert members(home.folder / "after.zip") == members(home.folder / "before.zip")
    again = home.json("check", str(sealed))
    assert (again["outcome"], again["counts"], again["findings"]) == (checked["outcome"], checked["counts"], checked["findings"])
    assert home.json("sync", DISTRICT, str(sealed))["outcome"] == "unchanged"
    assert home.stop() == 0
    assert home.events("retention_broke") == []


def test_a_held_delivery_is_released_days_later_as_if_nothing_had_been_kept(home: Home, nights: tuple[sample.Night, ...], tmp_path: Path) -> None:
    config = home.folder / "sftp-ingest.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("keep_nights = 14", "keep_nights = 1", 1), encoding="utf-8")
    home.json("sync", DISTRICT, str(nights[0].folder))
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for path in nights[0].folder.glob("*.csv"):
        lines = path.read_bytes().splitlines(keepends=True)
        (fewer / path.name).write_bytes(b"".join(lines[: len(lines) // 2] if path.name == "enrollments.csv" else lines))
    held = home.json("sync", DISTRICT, str(fewer), code=1)
    home.serve()
    eventually(lambda: home.events("deliveries_kept"), "the sweep")
    assert home.stop() == 0
    assert [bool(list(each.glob("*.zst"))) for each in home.sealed(DISTRICT)] == [True, False]
    assert home.json("holds", "release", str(held["hold"]["number"]))["outcome"] == "successful"


def test_a_district_is_erased_only_by_who_types_its_id_and_not_while_it_is_connected(home: Home, nights: tuple[sample.Night, ...]) -> None:
    home.add("shelbyville")
    home.json("sync", DISTRICT, str(nights[0].folder))
    home.json("sync", "shelbyville", str(nights[0].folder))
    refused = run_command("districts", "erase", DISTRICT, cwd=home.folder, text="shelbyville\n")
    assert (refused.returncode, "nothing was erased" in refused.stderr) == (2, True)
    home.serve()

    async def while_connected() -> None:
        async with home.connect(DISTRICT) as connection, connection.start_sftp_client() as client:
            await client.listdir(".")
            done = await asyncio.to_thread(run_command, "districts", "erase", DISTRICT, "--yes", cwd=home.folder)
            assert (done.returncode, f"{DISTRICT} is connected" in done.stderr) == (2, True)

    asyncio.run(while_connected())
    assert home.json("districts", "show", DISTRICT)["id"] == DISTRICT
    eventually(lambda: home.events("session_closed"), "the session to end")

    told = home.command("districts", "erase", DISTRICT, text=f"{DISTRICT}\n")
    assert "Certificate of erasure: district springfield" in told
    assert "rows of users" in told
    assert "backups" in told
    assert [each["id"] for each in home.json("districts", "list")] == ["shelbyville"]
    assert not any(home.roster(DISTRICT).values())
    assert not [path for path in (home.folder / "data").rglob("*") if DISTRICT in path.name]
    again = home.json("districts", "erase", DISTRICT, "--yes", code=2)
    assert not any((*again["rows"].values(), *again["files"].values()))
    assert home.command("districts", "erase", DISTRICT, "--yes", code=2).startswith("There was nothing to erase: district springfield"), "nobody may file that"
    home.push(nights[0].folder, "shelbyville")
    assert home.wait_for_runs(2, "shelbyville").outcome == "unchanged"
    assert home.stop() == 0
    assert "Traceback" not in home.log


def test_a_person_is_erased_and_the_certificate_names_nobody(home: Home, nights: tuple[sample.Night, ...]) -> None:
    home.json("sync", DISTRICT, str(nights[0].folder))
    student = next(row for row in home.records("users", DISTRICT) if row["role"] == "student")
    told = home.command("users", "erase", DISTRICT, student["sis_id"], "--yes")
    assert "rows of enrollments" in told
    assert "files of deliveries" in told
    assert student["last_name"] not in told
    assert not [row for row in home.records("users", DISTRICT, active=None) if row["role"] == "student" and row["sis_id"] == student["sis_id"]]
    assert not [row for row in home.records("enrollments", DISTRICT, active=None) if row["student_id"] == student["sis_id"]]
    assert home.sealed(DISTRICT) == []
    made = home.json("users", "erase", DISTRICT, student["sis_id"], "--role", "student", "--yes", code=2)
    assert not any((*made["rows"].values(), *made["files"].values()))
    assert home.command("users", "erase", DISTRICT, "nobody's", "--yes", code=2).startswith("There was nothing to erase: person")
    assert home.json("sync", DISTRICT, str(nights[0].folder))["counts"]["students"]["created"] == 1
