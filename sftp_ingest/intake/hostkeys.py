"""The private host keys by which districts know the server."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh

from sftp_ingest.errors import ConfigError


def make_host_key(path: Path) -> str:
    """Writes a new Ed25519 private key that only its owner can read, and returns its fingerprint. Raises ConfigError where `path` exists."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as fault:
        raise ConfigError(f"server.host_key: {path} exists; clients that know it would refuse another, so it is not replaced") from fault
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.export_private_key("openssh"))
    return key.get_fingerprint()
