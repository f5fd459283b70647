"""The SFTP server: a door, a porter who knows everyone that is in, and one acceptor or several that serve them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import hostkeys
from sftp_ingest.intake.acceptor import Acceptor
from sftp_ingest.intake.audit import Audit
from sftp_ingest.intake.crew import Crew
from sftp_ingest.intake.door import Door
from sftp_ingest.intake.keys import check_authorities
from sftp_ingest.intake.leftovers import remove_cut, tidy_parts
from sftp_ingest.intake.porter import Guest, Lookup, Porter

HOST_KEYS_SECONDS = 2.0
TIDY_SECONDS = 3600
COUNTS_SECONDS = 5.0

log = structlog.get_logger()


async def listen(config: Config, lookup: Lookup, on_activity: Callable[[str], None], prepare: Callable[[], None]) -> Listener:
    """A server that accepts log-ins at `config.server`. Raises ConfigError where it cannot.

    `on_activity` is called in the event loop with the district's id whenever a session begins, ends, or touches a file;
    `prepare` first of all in every process beside this one, which has to set up its own log.
    """
    listener = Listener(config, lookup, on_activity, prepare)
    await listener.start()
    return listener


class Listener:
    """The open port, and everyone who came in by it."""

    def __init__(self, config: Config, lookup: Lookup, on_activity: Callable[[str], None], prepare: Callable[[], None]) -> None:
        self._config = config
        self._audit = Audit(config)
        self._porter = Porter(config.server, lookup, on_activity, self._audit.refuse)
        self.acceptor = Acceptor(config, self._porter, self._audit) if config.server.acceptors == 1 else Crew(config, self._porter, prepare)
        self._door = Door(config.server, self._porter, self.acceptor.take)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._door.port

    @property
    def guests(self) -> Mapping[int, Guest]:
        """Everyone who is connected."""
        return self._porter.guests

    async def start(self) -> None:
        """Tidies away the parts of a server that was killed, then opens the port. Raises ConfigError."""
        check_authorities(self._config.server.user_authorities)
        seen = hostkeys.signature(self._config)
        hostkeys.read_host_keys(self._config)
        self._config.homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        tidy_parts(self._config.homes)
        self._audit.start()
        await self._door.open()
        try:
            await self.acceptor.start()
        except ConfigError:
            await self.drain(0)
            raise
        self._door.let_in()
        self._tasks = [asyncio.create_task(each) for each in (self._follow_host_keys(seen), self._tidy(), self._count())]

    async def drain(self, grace: float) -> None:
        """Accepts nobody from now on, waits until no upload is open or `grace` seconds have passed, then ends all sessions."""
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._door.close()
        await self.acceptor.drain(grace)
        self._porter.close()
        await asyncio.to_thread(self._audit.close)

    async def _follow_host_keys(self, seen: object) -> None:
        """Has those keys served that lie in their files, also when that changes."""
        while True:
            await asyncio.sleep(HOST_KEYS_SECONDS)
            if (now := hostkeys.signature(self._config)) == seen:
                continue
            seen = now
            try:
                hostkeys.read_host_keys(self._config)
                await self.acceptor.renew()
                log.info("host_keys_changed", fingerprints=list(hostkeys.fingerprints(self._config).values()))
            except (ConfigError, OSError) as fault:  # the keys that were read before are as good as they were
                log.error("host_keys_unreadable", fault=str(fault))

    async def _tidy(self) -> None:
        """Keeps nothing of an upload that nobody will go on with."""
        while True:
            for chore in (partial(remove_cut, self._config.homes), self._audit.forget):
                try:
                    await asyncio.to_thread(chore)
                except OSError as fault:  # the next time may do better
                    log.error("tidying_failed", fault=fault.strerror)
            await asyncio.sleep(TIDY_SECONDS)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNTS_SECONDS)
            self._audit.write_counts()
