"""When two sessions that send at once have left a mixture of two nights: real sessions, and what the server has on record of them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from functools import partial

import asyncssh
import pytest
import structlog

from sftp_ingest.config import Config
from sftp_ingest.intake import crossing, inbox
from sftp_ingest.model import Delivery
from tests.integration.port import connecting, listening

ALWAYS = datetime.min.replace(tzinfo=UTC)

Step = tuple[str, str, str]
"""A session, the path that it sends to, and what it sends there; where that is no more than `->`, the path is renamed to what follows."""


def send(config: Config, *steps: Step) -> None:
    """Each step after the one before; every session stays until the end."""

    async def go() -> None:
        async with listening(config) as listener:
            clients: dict[str, asyncssh.SFTPClient] = {}
            for session, path, content in steps:
                if session not in clients:
                    clients[session] = await (await connecting(listener)).start_sftp_client()
                client = clients[session]
                if content.startswith("->"):
                    await client.posix_rename(path, content.removeprefix("->"))
                    continue
                if folder := path.rpartition("/")[0]:
                    await client.makedirs(folder, exist_ok=True)
                async with client.open(path, "wb") as file:
                    await file.write(content.encode())

    asyncio.run(go())


def seal(config: Config, since: datetime = ALWAYS, previous: Delivery | None = None) -> Delivery:
    home = config.homes / "springfield"
    crossed = partial(crossing.crossed, config.sessions, "springfield", since)
    delivery = inbox.seal(home, config.deliveries, "springfield", inbox.state(home), datetime.now(UTC), previous, "sftp", crossed)
    assert delivery is not None
    return delivery


def names(delivery: Delivery) -> set[str]:
    return {each.name for each in delivery.files if each.crossed}


def test_files_of_two_nights_that_were_sent_at_once_are_of_neither(crewed: Config) -> None:
    send(
        crewed,
        *[("one", "schools.csv", "same"), ("two", "schools.csv", "same")],
        *[("one", "students.csv", "monday"), ("two", "students.csv", "tuesday")],
        *[("two", "sections.csv", "tuesday's"), ("one", "sections.csv", "monday's")],
    )
    delivery = seal(crewed)
    assert names(delivery) == {"students.csv", "sections.csv"}, "both nights have the same schools"
    assert {each["name"]: each["crossed"] for each in json.loads((delivery.folder / inbox.RECORD).read_text())["files"]} == {
        "schools.csv": False,
        "students.csv": True,
        "sections.csv": True,
    }
    assert inbox.sealed(crewed.deliveries, "springfield") == [delivery]


def test_a_client_that_renames_what_it_has_sent_is_known_by_the_content(config: Config) -> None:
    sent = [(session, f"{name}.csv.filepart", f"{name} of {session}") for name in ("students", "sections") for session in ("one", "two")]
    renamed = [("two", "students.csv.filepart", "->students.csv"), ("two", "sections.csv.filepart", "->sections.csv")]
    send(config, *sent, *renamed)
    assert not names(seal(config)), "all of it is of the second"
    mixed = [*sent[:2], renamed[0], sent[3], sent[2], ("one", "sections.csv.filepart", "->sections.csv")]
    send(config, *mixed)
    assert names(seal(config)) == {"students.csv", "sections.csv"}


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [("one", "students.csv", "monday"), ("two", "students.csv", "tuesday"), ("one", "a.csv", "monday's"), ("two", "a.csv", "tuesday's")],
            id="one of them has the last word on every file",
        ),
        pytest.param(
            [("one", "students.csv", "s"), ("two", "sections.csv", "t"), ("one", "a.csv", "a"), ("two", "b.csv", "b")],
            id="one client has two connections",
        ),
        pytest.param(
            [("one", "students.csv", "s"), ("two", "customstudents/students.csv", "t"), ("one", "a.csv", "a"), ("two", "b.csv", "b")],
            id="one client has two connections and sends one name to two folders",
        ),
        pytest.param(
            [("one", "students.csv", "half"), ("one", "sections.csv", "s"), ("two", "students.csv", "corrected")],
            id="a file was corrected afterwards, with the first window still open",
        ),
        pytest.param(
            [
                *[("one", "students.csv", "monday"), ("two", "students.csv", "tuesday"), ("two", "sections.csv", "t"), ("one", "sections.csv", "m")],
                *[("three", "students.csv", "whole"), ("three", "sections.csv", "whole too")],
            ],
            id="a third session has sent it all again",
        ),
        pytest.param(
            [("one", "Anna.csv -", "monday"), ("two", "Anna.csv -", "tuesday"), ("one", "a.csv", "a"), ("two", "b.csv", "b")],
            id="a name that is not on record",
        ),
    ],
)
def test_nothing_is_crossed_where(config: Config, steps: list[Step]) -> None:
    send(config, *steps)
    assert not names(seal(config))


def test_what_was_crossed_is_so_until_it_is_sent_again(config: Config) -> None:
    send(config, *[(session, "students.csv", session) for session in ("one", "two")], ("two", "a.csv", "two's"), ("one", "a.csv", "one's"))
    first = seal(config)
    assert names(first) == {"students.csv", "a.csv"}
    send(config, ("three", "students.csv", "three"))
    second = seal(config, first.received_at, first)
    assert names(second) == {"a.csv"}
    assert {each.name: each.resent for each in second.files} == {"students.csv": True, "a.csv": False}
    send(config, ("three", "a.csv", "three's"))
    assert not names(seal(config, second.received_at, second))


def test_a_record_that_cannot_be_read_keeps_no_night_from_being_sealed(config: Config) -> None:
    send(config, ("one", "students.csv", "s"))
    [day] = (config.sessions / "springfield").glob("*.jsonl")
    day.unlink()
    day.mkdir()
    with structlog.testing.capture_logs() as logs:
        assert not names(seal(config))
    assert [(each["event"], each["log_level"]) for each in logs] == [("audit_failed", "error")]


def test_a_file_whose_checksum_is_not_on_record_crosses_nothing(config: Config) -> None:
    send(config, *[(session, "students.csv", "same") for session in ("one", "two")], ("two", "a.csv", "two's"), ("one", "b.csv", "one's"))
    [day] = (config.sessions / "springfield").glob("*.jsonl")
    lines = [json.loads(each) for each in day.read_text().splitlines()]
    next(each for each in lines if each["event"] == "file")["sha256"] = None
    day.write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert not names(seal(config))
