"""Files made small and read again; never more is read than was sealed, whatever a compressed file says of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sftp_ingest.errors import DeliveryError

_BLOCK = 1 << 20


def compress(path: Path, packed: Path) -> None:
    """Write the file compressed, for this user only, over what was there. Raises OSError where the disk says no."""
    import pyarrow as pa  # here and below, not above: the daemon imports this module, and only runs and the sweep's process need it

    descriptor = os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as sink, path.open("rb") as source, pa.CompressedOutputStream(pa.PythonFile(sink, mode="w"), "zstd") as stream:
        while block := source.read(_BLOCK):
            stream.write(block)


def blocks(packed: Path, size: int) -> Iterator[bytes]:
    """The `size` bytes that a compressed file holds, in pieces.

    Raises DeliveryError where it is damaged or holds more or less, OSError where it is gone.
    """
    with _opened(packed) as stream:
        while block := stream.read(min(_BLOCK, size + 1)):
            size -= len(block)
            if size < 0:
                break
            yield block
    if size:
        raise _other_size(packed)


@contextmanager
def _opened(packed: Path) -> Iterator[IO[bytes]]:
    import pyarrow as pa

    with packed.open("rb") as file:
        try:
            with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
                yield stream
        except (OSError, pa.ArrowException) as fault:
            raise DeliveryError(f"{packed.parent.name}/{packed.name} is damaged and cannot be decompressed") from fault


def _other_size(packed: Path) -> DeliveryError:
    return DeliveryError(f"{packed.parent.name}/{packed.name} is damaged: it does not hold as many bytes as were sealed")
