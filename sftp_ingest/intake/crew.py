"""The acceptors beside the daemon, where `server.acceptors` wants several: each a process, which has another in its place when it dies."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import structlog

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake.acceptor import CLOSING_SECONDS
from sftp_ingest.intake.leftovers import take_back_lost, tidy_parts
from sftp_ingest.intake.porter import Porter
from sftp_ingest.intake.wire import ALIVE, DRAIN, LONGEST_LINE, RENEW, answered, heard, said

ACCEPTOR = (sys.executable, "-P", "-m", "sftp_ingest.intake.apart")
BREATH_SECONDS = 0.5
WATCH_SECONDS = 10.0
WATCHES = 3
"""Who says nothing in all of these hangs, and is ended."""

log = structlog.get_logger()


@dataclass(eq=False)
class Member:
    """A process, the wire to it, and the door by which its guests are handed over."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    door: socket.socket
    guests: set[int] = field(default_factory=set)
    silent: int = 0

    def kill(self) -> None:
        """Ends it at once, if it lives."""
        with suppress(ProcessLookupError):
            self.process.kill()

    async def ended(self) -> int:
        """Its exit code, once it is no more; of one that is on its way out, shortly."""
        self.writer.close()
        self.door.close()
        try:
            return await asyncio.wait_for(self.process.wait(), CLOSING_SECONDS)
        except TimeoutError:
            self.kill()
            return await self.process.wait()


class Crew:
    """Hands every guest to the process that has the fewest. `prepare` is called first in each; it sets up its log."""

    def __init__(self, config: Config, porter: Porter, prepare: Callable[[], None]) -> None:
        self._config = config
        self._porter = porter
        self._letter = pickle.dumps((replace(config, database_url="", districts=dict(config.districts)), prepare))
        self.members: list[Member] = []
        self._keeping: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._grace: float | None = None

    async def start(self) -> None:
        """Returns when all are ready. Raises ConfigError where one cannot be; those that are go on until `drain`."""
        for _ in range(self._config.server.acceptors):
            self._keeping.append(asyncio.create_task(self._keep(await self._hired())))
        self._watching = asyncio.create_task(self._watch())

    async def take(self, client: socket.socket, guest: int, peer: str) -> None:
        """Has a guest of the porter's served, who comes from the address `peer`."""
        with client:
            for member in sorted(self.members, key=lambda each: len(each.guests)):
                with suppress(OSError):  # it is dying, or hangs: the next one may do
                    socket.send_fds(member.door, [json.dumps([guest, peer]).encode()], [client.fileno()])
                    member.guests.add(guest)
                    return
        log.warning("guest_not_served", peer=peer)
        self._porter.left(guest)

    async def renew(self) -> None:
        """Has all offer the host keys that lie in their files now."""
        for each in self.members:
            each.writer.write(said(0, RENEW))

    async def drain(self, grace: float) -> None:
        """As an acceptor's: all wait until no upload is open or `grace` seconds have passed, then end their sessions, and themselves."""
        self._grace = grace
        for each in self.members:
            each.writer.write(said(0, DRAIN, grace))
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=grace + 3 * CLOSING_SECONDS)
        for each in self.members:
            each.kill()
        if self._watching:
            self._watching.cancel()
        await asyncio.gather(*self._keeping, *self._answering, return_exceptions=True)

    async def _hired(self) -> Member:
        (wire, far_wire), (door, doorway) = socket.socketpair(), socket.socketpair(type=socket.SOCK_SEQPACKET)
        door.setblocking(False)
        theirs = (far_wire.fileno(), doorway.fileno(), self._porter.tally.descriptor)
        found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # what we import, it can import too
        with far_wire, doorway:
            try:
                process = await asyncio.create_subprocess_exec(*ACCEPTOR, *map(str, theirs), stdin=asyncio.subprocess.PIPE, pass_fds=theirs, env=found)
            except OSError as fault:
                wire.close()
                door.close()
                raise ConfigError(f"server.acceptors: an acceptor cannot be started: {fault.strerror}") from fault
        member = Member(process, *await asyncio.open_unix_connection(sock=wire, limit=LONGEST_LINE), door)
        box = cast(asyncio.StreamWriter, process.stdin)
        box.write(self._letter)
        box.close()
        if not await member.reader.readline():
            raise ConfigError(f"server.acceptors: an acceptor ended with {await member.ended()} before it served anybody")
        self.members.append(member)
        if self._grace is not None:
            member.writer.write(said(0, DRAIN, 0.0))
        return member

    async def _keep(self, member: Member | None) -> None:
        while member:
            await self._hear(member)
            await self._take_leave(member)
            member = await self._successor()

    async def _hear(self, member: Member) -> None:
        """Does what the acceptor asks for, until it is no more."""
        with suppress(ConnectionError):
            while (line := await member.reader.readline()).endswith(b"\n"):
                member.silent = 0
                number, (name, *arguments) = heard(line)
                if number:
                    answering = asyncio.create_task(self._answer(member, number, name, arguments))
                    self._answering.add(answering)
                    answering.add_done_callback(self._answering.discard)
                elif name != ALIVE:
                    getattr(self._porter, name)(*arguments)
                    if name == "left":
                        member.guests.discard(arguments[0])

    async def _answer(self, member: Member, number: int, name: str, arguments: list[Any]) -> None:
        member.writer.write(await answered(self._porter, number, name, arguments))

    async def _take_leave(self, member: Member) -> None:
        """Gives back what was counted for the acceptor's guests; where it did not end of its own accord, its uploads were cut off."""
        self.members.remove(member)
        code = await member.ended()
        for guest in member.guests:
            self._porter.left(guest)
        if code:
            log.error("acceptor_died", pid=member.process.pid, code=code, sessions=len(member.guests))
            try:
                await asyncio.to_thread(take_back_lost, self._config.homes)  # its answered files come to the disk
                await asyncio.to_thread(tidy_parts, self._config.homes, member.process.pid)
            except OSError as fault:  # the next start tidies again
                log.error("parts_not_tidied", fault=fault.strerror)
            self._porter.measure_anew()

    async def _successor(self) -> Member | None:
        while self._grace is None:
            await asyncio.sleep(BREATH_SECONDS)
            try:
                return await self._hired()
            except ConfigError as fault:
                log.error("acceptor_not_started", fault=str(fault))
        return None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for each in self.members:
                each.silent += 1
                if each.silent > WATCHES:
                    log.error("acceptor_silent", pid=each.process.pid)
                    each.kill()
