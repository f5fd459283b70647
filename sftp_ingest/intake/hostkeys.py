"""The private host keys by which districts know the server."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh
import structlog

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError

RSA_BITS = 4096

log = structlog.get_logger()


def make_host_key(path: Path) -> str:
    """Writes a new private key that only its owner can read, RSA where the file's name says so and else Ed25519, and returns its fingerprint.

    Raises ConfigError where `path` exists.
    """
    key = asyncssh.generate_private_key("ssh-rsa", key_size=RSA_BITS) if "rsa" in path.name else asyncssh.generate_private_key("ssh-ed25519")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as fault:
        raise ConfigError(f"server.host_key: {path} exists; clients that know it would refuse another, so it is not replaced") from fault
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.export_private_key("openssh"))
    return key.get_fingerprint()


def read_host_keys(config: Config) -> list[asyncssh.SSHKey]:
    """The keys to serve. Of those configured some may be absent, but not all. Raises ConfigError."""
    keys = []
    for path in config.host_keys:
        try:
            keys.append(asyncssh.read_private_key(path))
        except FileNotFoundError:
            log.warning("host_key_missing", path=str(path))
        except OSError as fault:
            raise ConfigError(f"server.host_key: {path} cannot be read: {fault.strerror}") from fault
        except asyncssh.KeyImportError as fault:
            raise ConfigError(f"server.host_key: {path} is not a private key; move it away, and `sftp-ingest init` makes another") from fault
    if not keys:
        raise ConfigError(f"server.host_key: there is no key at {config.host_keys[0]}; `sftp-ingest init` makes one")
    return keys
