"""Files made small and read again, block by block; never more is read than was asked for, whatever a compressed file says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sftp_ingest.errors import DeliveryError

_BLOCK = 1 << 20


def compress(path: Path, packed: Path) -> None:
    """Write the file compressed, for this user only, over what was there. Raises OSError where the disk says no."""
    import pyarrow as pa  # here and below, not above: the daemon imports this module, and only the sweep's process compresses

    descriptor = os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as sink, path.open("rb") as source, pa.CompressedOutputStream(pa.PythonFile(sink, mode="w"), "zstd") as stream:
        while block := source.read(_BLOCK):
            stream.write(block)


def blocks(packed: Path, size: int) -> Iterator[bytes]:
    """What a compressed file of `size` bytes holds, in pieces. Raises DeliveryError where it is damaged or holds more or less, OSError where it is gone."""
    import pyarrow as pa

    with packed.open("rb") as file:
        try:
            with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
                while block := stream.read(min(_BLOCK, size + 1)):
                    size -= len(block)
                    if size < 0:
                        break
                    yield block
        except (OSError, pa.ArrowException) as fault:
            raise DeliveryError(f"{packed.parent.name}/{packed.name} is damaged and cannot be decompressed") from fault
    if size:
        raise DeliveryError(f"{packed.parent.name}/{packed.name} is damaged: it does not hold as many bytes as were sealed")
