"""Who is in the house: everyone who came in by the door, whichever process serves them, and whether there is room for one more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from sftp_ingest.config import Server
from sftp_ingest.intake.defender import Defender
from sftp_ingest.intake.passwords import Passwords
from sftp_ingest.intake.room import forget_measure
from sftp_ingest.intake.tally import Tally
from sftp_ingest.model import Account

Lookup = Callable[[str], Account | None]
"""The account of a log-in name, or None; called in a thread, so it may block."""


@dataclass
class Guest:
    """A connection: from where, and in whose home it is; in nobody's, as long as it is a stranger's."""

    peer: str
    district: str = ""


class Porter:
    """Knows everyone who is connected, by a number, and decides what depends on others as well.

    `on_activity` is called in the event loop with the district's id whenever a session begins, ends, or touches a file; `refuse` with the
    reason whenever somebody is not let in.
    """

    def __init__(self, server: Server, lookup: Lookup, on_activity: Callable[[str], None], refuse: Callable[[str], None]) -> None:
        self.guests: dict[int, Guest] = {}
        self.tally = Tally(alone=server.acceptors == 1)
        self.active = on_activity
        self.refused = refuse
        self._server = server
        self._lookup = lookup
        self._defender = Defender(server, refuse)
        self._passwords = Passwords()
        self._numbers = count(1)
        self._rows: dict[str, int] = {}

    def arrived(self, peer: str) -> int | None:
        """The number of a new guest, or None where he may not come in."""
        if not self._defender.arrived(peer):
            return None
        number = next(self._numbers)
        self.guests[number] = Guest(peer)
        return number

    async def account(self, name: str) -> Account | None:
        """The account of a log-in name. Raises IngestError where it cannot be looked up."""
        return await asyncio.to_thread(self._lookup, name)

    async def verified(self, password_hash: str, password: str, peer: str) -> bool:
        """Whether the password is the one hashed, after as long a time as any other takes."""
        return await self._passwords.verified(password_hash, password, peer)

    async def offended(self, peer: str) -> bool:
        """Puts a point on the address's score; whether it is banned now."""
        self._defender.offended(peer)
        return self._defender.banned(peer)

    async def admitted(self, number: int, district: str) -> int | None:
        """Makes the guest one of the district's; the row of its home in the tally, or None where the district has too many sessions."""
        guest = self.guests.get(number)
        if guest is None:  # gone while this was asked
            return None
        if sum(each.district == district for each in self.guests.values() if each is not guest) >= self._server.sessions_per_district:
            self.refused("sessions_per_district")
            return None
        if not guest.district:
            self._defender.known(guest.peer)
        guest.district = district
        return self._rows.setdefault(district, len(self._rows))

    def left(self, number: int, offending: bool = False) -> None:
        """A guest is gone; `offending` is who never proved that a key is his, nor tried a password."""
        guest = self.guests.pop(number)
        self._defender.left(guest.peer, stranger=not guest.district)
        if offending:
            self._defender.offended(guest.peer)

    def measure_anew(self) -> None:
        """What homes hold may be other than was counted: a process died that counted too."""
        for row in self._rows.values():
            forget_measure(self.tally, row)

    def close(self) -> None:
        """Nobody comes any more."""
        self._passwords.close()
