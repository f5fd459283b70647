"""What a client may do on a connection before it speaks SFTP: little, with strong algorithms, and no faster than it takes the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from copy import copy
from typing import Any, cast

import asyncssh
from asyncssh.constants import MSG_IGNORE
from asyncssh.logging import SSHLogger
from asyncssh.packet import SSHPacketLogger

from sftp_ingest.intake import greeting

# The hybrid is safe also from whoever keeps what he hears until he has a quantum computer; many clients, such as curl, have yet to learn it.
POST_QUANTUM = ("mlkem768x25519-sha256",)
KEY_EXCHANGES = (*POST_QUANTUM, "curve25519-sha256", "curve25519-sha256@libssh.org")
CIPHERS = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
QUICKEST = tuple(each.encode() for each in CIPHERS if "-gcm@" in each)
"""AES-GCM costs a third less than ChaCha20 here. The client's order decides (RFC 4253, 7.1), and OpenSSH's begins with ChaCha20: so a client that knows
any of these is offered nothing else."""
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
OLDER_MACS = ("hmac-sha2-256", "hmac-sha2-512")
"""All that libssh2 before 1.11 knows, and with it the curl of Debian 12 and PHP's ssh2; sound, but ssh-audit warns of them."""
SIGNATURES = (
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-ed25519",
    "ssh-ed448",
    "ecdsa-sha2-nistp521",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp256",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
KEY_TRIES = 20
"""So many keys may a client offer on one connection; of those in its agent any may be the right one."""
GREETING_SECONDS = 1.0
"""So long a client may take to say what it knows, before it hears what we offer; clients need not wait for one another, and hardly any does."""
UNSENT_BYTES = 1 << 20
"""A client that leaves this much of what it asked for unread is asked to read before it may ask for more."""
PIECE_BYTES = 64 << 10
"""So much of what came in is given to asyncssh at one go: with each packet that it takes, it copies twice what is behind it."""

KEEPALIVE_SECONDS = 30
"""A client that says nothing is asked whether it is still there, at first after one and a half of this or twice as long, and then each time after this;
who leaves three questions unanswered is gone."""


class Quiet(SSHPacketLogger):
    """Tells of no packet, where asyncssh has some words of each ready, though nobody listens."""

    def log_sent_packet(self, *_: object, **__: object) -> None:
        """Nothing."""

    def log_received_packet(self, *_: object, **__: object) -> None:
        """Nothing."""


class Sparing(SSHLogger):
    """Makes words ready only where somebody listens."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """As asyncssh does it, which has what it might say of each request ready at once."""
        if self.isEnabledFor(level):
            super().log(level, msg, *args, **kwargs)


class Connection(Quiet, asyncssh.SSHServerConnection):
    """A guest's connection from the address `peer`, which nothing is read from while its client does not read.

    `on_proof` is called, and awaited, when a key or a password was good, before the client hears of it.
    """

    on_proof: Callable[[], Awaitable[None]]

    def __init__(self, options: asyncssh.SSHServerConnectionOptions, guest: int, peer: str) -> None:
        options = copy(options)
        self._offered = list(options.encryption_algs)
        options.encryption_algs = self._offered
        self._sparing = Sparing(context=f"guest={guest}")
        super().__init__(asyncio.get_running_loop(), options)
        self._greeting: bytes | None = b""
        self._heard = self._loop.time()
        self._asked = False  # whether it is still there
        self.guest = guest
        self.peer = peer
        self.host_key_algorithm = ""
        self._refused = 0

    @property
    def logger(self) -> SSHLogger:
        """What asyncssh says of the connection, and of what is spoken on it."""
        return self._sparing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Someone is at the door."""
        self._wire = cast(asyncio.Transport, transport)
        self.taken = asyncio.Event()
        self.taken.set()
        self._wire.set_write_buffer_limits(UNSENT_BYTES)
        self._patience = self._loop.call_later(GREETING_SECONDS, self._hear)
        super().connection_made(transport)
        self._listen()

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        """What the client says first is kept until it has said what it knows: asyncssh, once it has the client's version, tells what we offer."""
        self._heard = self._loop.time()
        if self._greeting is None:
            for at in range(0, len(data), PIECE_BYTES):
                super().data_received(data[at : at + PIECE_BYTES], datatype)
            return
        self._greeting += data
        known: Sequence[bytes] | None = ()
        with suppress(ValueError):  # asyncssh says what is wrong with it
            known = greeting.ciphers(self._greeting)
        if known is not None:
            self._offered[:] = [each for each in QUICKEST if each in known] or self._offered
            self._hear()

    def pause_writing(self) -> None:
        """The client leaves much unread."""
        self.taken.clear()
        self._wire.pause_reading()

    def resume_writing(self) -> None:
        """The client has taken what it was sent."""
        self.taken.set()
        self._wire.resume_reading()

    def connection_lost(self, exc: Exception | None = None) -> None:
        """Nobody need wait any more."""
        self.taken.set()
        self._patience.cancel()
        self._listening.cancel()
        super().connection_lost(exc)

    def choose_server_host_key(self, peer_host_key_algs: Sequence[bytes]) -> bool:
        """As asyncssh does it; what the key signs with is noted at once, for with the next client it may be something else."""
        chosen = super().choose_server_host_key(peer_host_key_algs)
        if key := self.get_server_host_key():
            self.host_key_algorithm = key.get_algorithm()
        return chosen

    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        """As asyncssh does it, without the empty packet that it puts before every other: that hides the chaining of CBC, which is not offered here."""
        if pkttype != MSG_IGNORE:
            super().send_packet(pkttype, *args, handler=handler)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """As asyncssh does it, without the signatures that rest on SHA-1, and not for ever. Raises PermissionDenied."""
        sound = not signature.startswith((b"\0\0\0\7ssh-rsa", b"\0\0\0\7ssh-dss"))
        if sound and await super().validate_public_key(username, key_data, msg, signature):
            return True
        self._refused += 1
        if self._refused >= KEY_TRIES:
            raise asyncssh.PermissionDenied("Too many keys")
        return False

    async def send_userauth_success(self) -> None:
        """As asyncssh does it, once that was awaited; a client who asks to be let in by another name meanwhile has this cancelled."""
        await self.on_proof()
        await super().send_userauth_success()

    def _listen(self) -> None:
        """Has asyncssh ask only where nothing is heard: it sets its clock anew with all that comes in, which takes a twentieth of a large upload's time."""
        silent = self._loop.time() - self._heard >= KEEPALIVE_SECONDS / 2
        if silent != self._asked:
            self._asked = silent
            self.set_keepalive(KEEPALIVE_SECONDS if silent else 0)
        self._listening = self._loop.call_later(KEEPALIVE_SECONDS / 2, self._listen)

    def _hear(self) -> None:
        self._patience.cancel()
        said, self._greeting = self._greeting, None
        super().data_received(said or b"")
