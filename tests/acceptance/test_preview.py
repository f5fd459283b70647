"""What a district uploads to `preview/` is told in full and never applied."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.acceptance.conftest import Home, eventually
from tests.unit.districts import Files, csv_of, small


def upload(home: Home, district: str, folder: str, files: Files) -> None:
    """As a district's own script does it: make the folder, put the files."""

    async def act() -> None:
        async with home.connect(district) as connection, connection.start_sftp_client() as client:
            if folder:
                await client.mkdir(folder)
            for name, rows in files.items():
                async with client.open(f"{folder}/{name}.csv", "wb") as file:
                    await file.write(csv_of(rows))

    asyncio.run(act())


def latest(home: Home, district: str, name: str) -> dict[str, object]:
    """A report in JSON, once it is there."""
    path = Path("reports") / name
    eventually(lambda: (home.home_of(district) / path).exists(), f"{path} of {district}")
    told: dict[str, object] = json.loads(home.fetch(str(path), district))
    return told


def test_a_preview_says_what_would_change_and_changes_nothing(house: Home) -> None:
    house.add("careful")
    upload(house, "careful", "", small())
    assert house.wait_for_runs(1, "careful").outcome == "successful"
    before = house.roster("careful")

    files = small()
    del files["students"][1], files["enrollments"][1]
    files["students"][0]["Grade"] = "8"
    upload(house, "careful", "preview", files)
    told = latest(house, "careful", "latest-preview.json")

    assert (told["outcome"], told["preview"]) == ("successful", True)
    assert str(told["verdict"]).startswith("Preview: would be applied: 1 student updated, 1 deactivated")
    assert house.roster("careful") == before
    assert [run.outcome for run in house.runs("careful")] == ["successful", "previewed"]
    assert latest(house, "careful", "latest.json")["run"] == house.runs("careful")[0].id
    assert house.json("districts", "show", "careful")["state"] == "ok"


def test_a_preview_that_would_be_held_opens_no_hold_and_the_same_files_sent_for_good_do(house: Home) -> None:
    house.add("shrinking")
    upload(house, "shrinking", "", small(40))
    assert house.wait_for_runs(1, "shrinking").outcome == "successful"

    fewer = small(40)
    fewer["students"], fewer["enrollments"] = fewer["students"][:20], fewer["enrollments"][:20]
    upload(house, "shrinking", "preview", fewer)
    told = latest(house, "shrinking", "latest-preview.json")
    assert told["outcome"] == "on_hold"
    assert house.json("holds", "list", "--district", "shrinking") == []

    upload(house, "shrinking", "", fewer)
    assert house.wait_for_runs(3, "shrinking").outcome == "on_hold"
    assert len(house.json("holds", "list", "--district", "shrinking")) == 1


def test_a_refused_preview_leaves_the_district_as_it_stands(house: Home) -> None:
    house.add("trying")
    files = small()
    del files["sections"]
    upload(house, "trying", "preview", files)
    told = latest(house, "trying", "latest-preview.json")
    assert told["outcome"] == "refused"
    assert house.json("districts", "show", "trying")["state"] == "new"


def test_a_paused_district_may_still_preview(house: Home) -> None:
    house.add("summer")
    house.command("districts", "pause", "summer")
    upload(house, "summer", "", small())
    upload(house, "summer", "preview", small())
    assert latest(house, "summer", "latest-preview.json")["outcome"] == "successful"
    assert [run.outcome for run in house.runs("summer")] == ["previewed"]
