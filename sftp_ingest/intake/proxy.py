"""What a proxy says, before the client's first byte, of where the client comes from: the PROXY protocol, version 2."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}  # TCP over IPv4, TCP over IPv6


async def real_address(client: socket.socket) -> str:
    """The address of who is behind the proxy, or nothing where the proxy itself comes, to see whether we live. Raises ValueError where it does not say."""
    head = await _exactly(client, 16)
    if head.startswith(b"PROXY "):
        raise ValueError("a header of the PROXY protocol's version 1, not 2")
    if not head.startswith(SIGNATURE) or head[12] not in (0x20, 0x21):
        raise ValueError("no header of the PROXY protocol's version 2")
    rest = await _exactly(client, int.from_bytes(head[14:], "big"))
    if head[12] == 0x20:
        return ""
    size = _ADDRESS_BYTES.get(head[13], 0)
    if not size or len(rest) < 2 * size + 4:
        raise ValueError("no address of TCP")
    return str(ip_address(rest[:size]))


async def _exactly(client: socket.socket, size: int) -> bytes:
    """So many bytes, and none of those that follow: they are SSH's. Raises ValueError where the connection ends before."""
    found = b""
    while len(found) < size:
        more = await asyncio.get_running_loop().sock_recv(client, size - len(found))
        if not more:
            raise ValueError("the connection ended")
        found += more
    return found
