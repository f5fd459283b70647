"""An acceptor in a process of its own, beside the daemon: `python -m sftp_ingest.intake.apart`, as `Crew` starts it; it ends when the daemon does."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import sys
from contextlib import suppress

import structlog

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake.acceptor import Acceptor
from sftp_ingest.intake.audit import Audit
from sftp_ingest.intake.tally import Tally
from sftp_ingest.intake.wire import ALIVE, DRAIN, LONGEST_LINE, FarPorter, heard

ALIVE_SECONDS = 1.0

log = structlog.get_logger()


def main() -> None:
    """Serves until it is told to drain; its input says how. It heeds no signal: who stops the daemon leaves it to the daemon to stop this."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    config, prepare = pickle.load(sys.stdin.buffer)  # noqa: S301 -- it is the daemon that wrote it
    prepare()
    wire, doorway, tally = (int(each) for each in sys.argv[1:])
    asyncio.run(_serve(config, socket.socket(fileno=wire), socket.socket(fileno=doorway), Tally(tally)))


async def _serve(config: Config, wire: socket.socket, doorway: socket.socket, tally: Tally) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=wire, limit=LONGEST_LINE)
    await _Apart(config, reader, writer, doorway, tally).live()


class _Apart:
    """The acceptor, with its wire to the daemon and the doorway by which clients come from there."""

    def __init__(self, config: Config, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doorway: socket.socket, tally: Tally) -> None:
        self._reader = reader
        self._writer = writer
        self._doorway = doorway
        self._porter = FarPorter(writer, tally)
        self._audit = Audit(config)
        self._acceptor = Acceptor(config, self._porter, self._audit)
        self._grace: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._coming: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Serves whoever is handed over, and returns when that was forbidden and all have gone."""
        loop = asyncio.get_running_loop()
        await self._acceptor.start()
        self._doorway.setblocking(False)
        loop.add_reader(self._doorway, self._take)
        tasks = [asyncio.create_task(each) for each in (self._hear(), self._be_alive())]
        grace = await self._grace
        loop.remove_reader(self._doorway)
        self._doorway.close()
        await self._acceptor.drain(grace)
        await asyncio.to_thread(self._audit.close)
        for each in tasks:
            each.cancel()
        self._writer.close()
        await self._writer.wait_closed()

    def _take(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._doorway, 1024, 1)
        if not message:  # the daemon is gone, of which the wire tells as well
            asyncio.get_running_loop().remove_reader(self._doorway)
            return
        guest, peer = json.loads(message)
        if not descriptors:
            log.error("accept_failed", fault="no descriptor is left")
            self._porter.left(guest)
            return
        client = socket.socket(fileno=descriptors[0])
        client.setblocking(False)
        task = asyncio.create_task(self._acceptor.take(client, guest, peer))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    async def _hear(self) -> None:
        with suppress(OSError):  # we may have spoken to the daemon that was gone, before we heard that it is
            while line := await self._reader.readline():
                number, words = heard(line)
                if number:
                    self._porter.answer(number, *words)
                elif words[0] == DRAIN:
                    self._grace.set_result(words[1])
                else:
                    with suppress(ConfigError):  # the daemon, which reads them too, has told of it
                        await self._acceptor.renew()
        os._exit(1)  # nobody is there any more to say who may come in; uploads can be gone on with

    async def _be_alive(self) -> None:
        while True:
            self._porter.say(ALIVE)
            await asyncio.sleep(ALIVE_SECONDS)


if __name__ == "__main__":
    main()
