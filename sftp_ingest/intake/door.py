"""The open port: who knocks is let in or not, and handed to who serves him."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import structlog

from sftp_ingest.config import Server
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake.defender import networks, plain_address, within
from sftp_ingest.intake.porter import Porter
from sftp_ingest.intake.proxy import real_address

BACKLOG = 128
BREATH_SECONDS = 0.5
FIRST_DESCRIPTOR = 3

Take = Callable[[socket.socket, int, str], Awaitable[None]]
"""Serves a client: his socket, which is no more the door's, his number with the porter, and his address."""

log = structlog.get_logger()


class Door:
    """The sockets that everybody comes in by."""

    def __init__(self, server: Server, porter: Porter, take: Take) -> None:
        self.port = 0
        self._server = server
        self._porter = porter
        self._take = take
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._proxies = networks(server.proxies)
        self._announced: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Has who comes wait outside. Raises ConfigError where the port cannot be opened."""
        self._sockets = await _open(self._server)
        self.port = self._sockets[0].getsockname()[1]

    def let_in(self) -> None:
        """Lets people in from now on."""
        self._tasks = [asyncio.create_task(self._accept(each)) for each in self._sockets]

    async def close(self) -> None:
        """Lets nobody in any more."""
        waiting = [*self._tasks, *self._announced]
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for door in self._sockets:
            door.close()

    async def _accept(self, door: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(door)
            except OSError as fault:  # no descriptor is left, and there will be one when somebody goes
                log.error("accept_failed", fault=fault.strerror)
                await asyncio.sleep(BREATH_SECONDS)
                continue
            peer = plain_address(address[0])
            if not within(peer, self._proxies):
                await self._receive(client, peer)
            elif len(self._announced) < BACKLOG:
                task = asyncio.create_task(self._receive_from_proxy(client, peer))
                self._announced.add(task)
                task.add_done_callback(self._announced.discard)
            else:
                client.close()

    async def _receive_from_proxy(self, client: socket.socket, proxy: str) -> None:
        try:
            async with asyncio.timeout(self._server.login_seconds):
                peer = await real_address(client)
        except (OSError, ValueError, TimeoutError) as fault:
            log.warning("proxy_unheard", peer=proxy, fault=str(fault) or "the header took longer than server.login_seconds")
            client.close()
            return
        await self._receive(client, plain_address(peer or proxy))

    async def _receive(self, client: socket.socket, peer: str) -> None:
        guest = self._porter.arrived(peer)
        if guest is None:
            client.close()
        else:
            await self._take(client, guest, peer)


async def _open(server: Server) -> list[socket.socket]:
    """The sockets that systemd opened for us, else a listening one for every address that the host stands for. Raises ConfigError."""
    opened = _inherited()
    if opened:
        return opened
    try:
        found = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            opened.append(socket.create_server(address, family=family, backlog=BACKLOG))
            opened[-1].setblocking(False)
    except OSError as fault:
        for each in opened:
            each.close()
        cause = str(fault.strerror).partition(" (while")[0]  # behind which Python tells the address once more
        raise ConfigError(f"server.host, server.port: {server.host} port {server.port} cannot be opened: {cause}") from fault
    return opened


def _inherited() -> list[socket.socket]:
    """What sd_listen_fds(3) describes; runs are not to inherit it in their turn."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    found = [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(int(os.environ.get("LISTEN_FDS", "0")))]
    for each in found:
        each.set_inheritable(False)
        each.setblocking(False)
    return found
