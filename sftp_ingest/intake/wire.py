"""What the daemon and the acceptors beside it say to each other: lines of JSON, each a question's number and the question, its answer, or an order.

A number of 0 asks for no answer.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import datetime
from itertools import count
from typing import Any

from sftp_ingest.errors import IngestError
from sftp_ingest.intake.porter import Porter
from sftp_ingest.intake.tally import Tally
from sftp_ingest.model import Account

LONGEST_LINE = 8 << 20
"""More than a password or an account's keys take, of which clients choose the first."""
ALIVE = "alive"
"""Said by an acceptor once it is ready, and from then on every few seconds."""
DRAIN, RENEW = "drain", "renew"
"""Orders to an acceptor: what `Acceptor` has by these names."""


def said(number: int, *words: object) -> bytes:
    """A line."""
    return json.dumps([number, *words], default=str).encode() + b"\n"


def heard(line: bytes) -> tuple[int, list[Any]]:
    """What a line says: its number, and its words."""
    number, *words = json.loads(line)
    return number, words


async def answered(porter: Porter, number: int, name: str, arguments: list[Any]) -> bytes:
    """The porter's answer to a question of a `FarPorter`, as a line for it."""
    try:
        answer = await getattr(porter, name)(*arguments)
    except IngestError as fault:
        return said(number, None, str(fault))
    return said(number, asdict(answer) if isinstance(answer, Account) else answer, "")


class FarPorter:
    """The porter as an acceptor in a process of its own has him: for each of his words that sessions use there is one here."""

    def __init__(self, writer: asyncio.StreamWriter, tally: Tally) -> None:
        self.tally = tally
        self._writer = writer
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    async def account(self, name: str) -> Account | None:
        """As the porter's. Raises IngestError."""
        found = await self._ask("account", name)
        return found and Account(**{**found, "created_at": datetime.fromisoformat(found["created_at"]), "keys": tuple(found["keys"])})

    async def verified(self, password_hash: str, password: str, peer: str) -> bool:
        """As the porter's."""
        return bool(await self._ask("verified", password_hash, password, peer))

    async def offended(self, peer: str) -> bool:
        """As the porter's."""
        return bool(await self._ask("offended", peer))

    async def admitted(self, number: int, district: str) -> int | None:
        """As the porter's."""
        row: int | None = await self._ask("admitted", number, district)
        return row

    def left(self, number: int, offending: bool = False) -> None:
        """As the porter's."""
        self.say("left", number, offending)

    def refused(self, reason: str) -> None:
        """As the porter's."""
        self.say("refused", reason)

    def active(self, district: str) -> None:
        """As the porter's."""
        self.say("active", district)

    def say(self, *words: object) -> None:
        """Says what needs no answer."""
        self._writer.write(said(0, *words))

    def answer(self, number: int, answer: Any, fault: str) -> None:
        """Gives an answer to who asked, unless he is gone meanwhile."""
        asked = self._asked.pop(number)
        if asked.done():
            return
        if fault:
            asked.set_exception(IngestError(fault))
        else:
            asked.set_result(answer)

    async def _ask(self, *words: object) -> Any:
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        self._writer.write(said(number, *words))
        return await self._asked[number]
