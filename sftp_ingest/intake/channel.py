"""A channel on which SFTP is spoken, and nothing else: what a client asks for comes in, and the answers leave together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.constants import FXP_INIT
from asyncssh.sftp import SFTPServerHandler
from asyncssh.stream import SSHReader, SSHServerStreamSession, SSHWriter

from sftp_ingest.intake.connection import Connection, Quiet

SFTP_VERSION = 3
CHANNELS = 10
"""How many channels a client may have open on one connection, as OpenSSH's MaxSessions."""
WINDOW_BYTES = 2 << 20
PACKET_BYTES = 32 << 10
TURN_SECONDS = 0.02
"""So long the requests of one client are worked off that came at one go, before others have their turn."""


class Place(asyncssh.SFTPServer):
    """What a client sees."""

    def leave(self) -> None:
        """Gives up whatever is still open: nobody speaks here any more, however that came about."""


HomeOf = Callable[[SSHChannel[bytes]], Place]


class Channel(Quiet, asyncssh.SSHServerChannel[bytes]):
    """A channel that takes no environment variables, of which asyncssh would keep as many as it is sent, and nothing that only a terminal needs.

    Answers are kept until whoever gives them waits, and leave in one packet, where asyncssh has one for each.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, asyncio.get_running_loop(), False, False, False, 0, 0, None, "strict", WINDOW_BYTES, PACKET_BYTES)
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._soon: asyncio.Handle | None = None

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """Keeps it for `say`, unless there is a packet full of it."""
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes >= PACKET_BYTES:
            self.say()

    def say(self) -> None:
        """Lets go of what was kept."""
        if self._kept:
            said, self._kept, self._kept_bytes = b"".join(self._kept), [], 0
            if not self.is_closing():
                super().write(said)

    def say_soon(self) -> None:
        """Lets go of what was kept as soon as whoever speaks now has to wait, be it for the disk."""
        if self._kept and not self._soon:
            self._soon = asyncio.get_running_loop().call_soon(self._say_now)

    def exit(self, status: int) -> None:
        """Ends the channel with a status, when all is said."""
        self.say()
        super().exit(status)

    def close(self) -> None:
        """Ends the channel, when all is said."""
        self.say()
        super().close()

    def _say_now(self) -> None:
        self._soon = None
        self.say()

    def _process_env_request(self, packet: object) -> bool:
        return False

    def _process_signal_request(self, packet: object) -> bool:
        return False

    def _process_break_request(self, packet: object) -> bool:
        return False

    def _process_window_change_request(self, packet: object) -> bool:
        return False


class Requests:
    """What a client asks for, as asyncssh's SFTP reads it: as a stream of bytes, of which it has the next while the client takes the answers.

    It is what asyncssh's own reader is, for one kind of bytes and one who reads them. Before a client is waited for, the answers leave.
    """

    def __init__(self, chan: Channel, connection: Connection) -> None:
        self.logger = chan.logger
        self.get_extra_info = chan.get_extra_info
        self._chan = chan
        self._connection = connection
        self.taken = asyncio.Event()  # the client's window is open
        self.taken.set()
        self._pieces: deque[bytes] = deque()
        self._begin = 0  # in the first of them, behind what was read
        self._there = 0
        self._paused = False
        self._waiting: asyncio.Future[None] | None = None  # for more bytes, or the end
        self._ended = False
        self._fault: Exception | None = None
        self._read = 0
        self._loop = asyncio.get_running_loop()
        self._turn = self._loop.time()  # when it began

    def come(self, data: bytes) -> None:
        """More bytes; while many wait to be read, the channel keeps what follows, and its client stops."""
        self._pieces.append(data)
        self._there += len(data)
        self._wake()
        if self._there >= WINDOW_BYTES and not self._paused:
            self._paused = True
            self._chan.pause_reading()

    def end(self, fault: Exception | None = None) -> None:
        """No more will come; what has come is still read."""
        if not self._ended:
            self._ended, self._fault = True, fault
        self._wake()

    async def readexactly(self, size: int) -> bytes:
        """So many bytes, in the client's own time. Raises EOFError where no more will come, or what ended the connection; SFTPOpUnsupported for old SFTP."""
        if self._there < size:
            self._chan.say()
        else:
            self._chan.say_soon()
            if self._loop.time() - self._turn > TURN_SECONDS:
                await asyncio.sleep(0)
                self._turn = self._loop.time()
        for taken in (self.taken, self._connection.taken):
            if not taken.is_set():
                await taken.wait()
        while self._there < size:
            if self._ended:
                raise self._fault or EOFError
            self._waiting = self._loop.create_future()
            await self._waiting
            self._turn = self._loop.time()
        found = self._take(size)
        self._read += 1
        if self._read == 2 and found[:1] == bytes([FXP_INIT]) and int.from_bytes(found[1:5], "big") < SFTP_VERSION:
            raise asyncssh.SFTPOpUnsupported("No version of SFTP before 3 is spoken here")
        return found

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    def _take(self, size: int) -> bytes:
        taken = []
        self._there -= size
        while size:
            piece = memoryview(self._pieces[0])[self._begin : self._begin + size]
            taken.append(piece)
            size -= len(piece)
            self._begin += len(piece)
            if self._begin == len(self._pieces[0]):
                self._pieces.popleft()
                self._begin = 0
        if self._paused and self._there < WINDOW_BYTES:
            self._paused = False
            self._chan.resume_reading()
        return b"".join(taken)


class _Speech(Quiet, SFTPServerHandler):
    """SFTP as asyncssh speaks it, without its words about every packet."""


class Subsystem(asyncssh.SSHServerSession[bytes]):
    """SFTP and nothing else: neither shell nor command is accepted, and no request is read while the answers to others are not taken."""

    def __init__(self, connection: Connection, home_of: HomeOf, on_end: Callable[[bool], None]) -> None:
        self._connection = connection
        self._home_of = home_of
        self._on_end = on_end
        self._chan: Channel
        self._requests: Requests

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open."""
        self._chan = cast(Channel, chan)
        self._chan.set_encoding(None)
        self._requests = Requests(self._chan, self._connection)

    def subsystem_requested(self, subsystem: str) -> bool:
        """Whether it is SFTP."""
        return subsystem == "sftp"

    def session_started(self) -> None:
        """SFTP is spoken, until one side ends it."""
        self._connection.create_task(self._speak(), self._chan.logger)

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        """The client asks for something."""
        self._requests.come(data)

    def eof_received(self) -> bool:
        """The client asks for no more, and is still answered."""
        self._requests.end()
        return True

    def pause_writing(self) -> None:
        """The client's window is full."""
        self._requests.taken.clear()

    def resume_writing(self) -> None:
        """The client's window is open again."""
        self._requests.taken.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """What was received is still worked off, whether or not anybody hears the answers."""
        self._requests.taken.set()
        self._on_end(exc is None)
        self._requests.end(exc)

    async def _speak(self) -> None:
        """Whatever ends it, an error of asyncssh's or of ours too, nothing stays open."""
        home = self._home_of(self._chan)
        reader, writer = cast("SSHReader[bytes]", self._requests), SSHWriter[bytes](cast("SSHServerStreamSession[bytes]", self), self._chan)
        try:
            await _Speech(home, reader, writer, SFTP_VERSION).run()
        except EOFError:  # the client had nothing to say; its other channels go on
            self._chan.exit(0)
        finally:
            home.leave()
