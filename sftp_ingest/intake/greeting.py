"""What a client says before anything is encrypted: its version, and then the algorithms that it knows."""

from __future__ import annotations

from collections.abc import Sequence

from asyncssh.constants import MSG_KEXINIT
from asyncssh.packet import SSHPacket

LONGEST_LINE = 8192
LONGEST_PACKET = 35_000
"""No implementation need take in more at once (RFC 4253, 6.1)."""

_LISTS_BEFORE = 2
"""Of key exchanges and of host keys; those of ciphers, by which the client sends and is sent to, follow (RFC 4253, 7.1)."""


def ciphers(said: bytes) -> Sequence[bytes] | None:
    """The ciphers by which the client can send and be sent to, in its order; None where it has yet to say them.

    Raises ValueError where it says something else.
    """
    line = said.find(b"\n", 0, LONGEST_LINE) + 1
    if not line:
        if len(said) >= LONGEST_LINE:
            raise ValueError
        return None
    size = int.from_bytes(said[line : line + 4], "big")
    if size > LONGEST_PACKET:
        raise ValueError
    if len(said) < line + 4 + max(size, 1):
        return None
    packet = SSHPacket(said[line + 5 : line + 4 + size])  # behind its length, and that of its padding
    if packet.get_byte() != MSG_KEXINIT:
        raise ValueError
    packet.get_bytes(16)  # the cookie
    for _ in range(_LISTS_BEFORE):
        packet.get_namelist()
    sends, hears = packet.get_namelist(), packet.get_namelist()
    return [each for each in sends if each in hears]
