"""The private host keys by which districts know the server, and how they are exchanged: the next are announced before they are used.

A client that follows announcements, as OpenSSH does (UpdateHostKeys), has the next key on record by the day it is used. The key `host_key` is in
use, `host_key.next` will be and `host_key.old` was: all are announced after every log-in, as long as their files are there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError

RSA_BITS = 4096
NEXT, OLD = ".next", ".old"


@dataclass(frozen=True)
class HostKeys:
    """The keys in use, in the order of the configuration, and those that are announced with them."""

    used: tuple[asyncssh.SSHKeyPair, ...]
    announced: tuple[asyncssh.SSHKeyPair, ...]


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
        os.fsync(file.fileno())
    return key.get_fingerprint()


def read_host_keys(config: Config) -> HostKeys:
    """The keys to serve. Of those configured some may be absent, but not all. Raises ConfigError."""
    used = tuple(pair for path in config.host_keys if (pair := _read(path)))
    if not used:
        raise ConfigError(f"server.host_key: there is no key at {config.host_keys[0]}; `sftp-ingest init` makes one")
    beside = [_beside(path, ending) for path in config.host_keys for ending in (NEXT, OLD)]
    return HostKeys(used, tuple(pair for path in beside if (pair := _read(path))))


def signature(config: Config) -> tuple[tuple[int, ...], ...]:
    """What tells one state of the files of `read_host_keys` from another, be it that they are not there or cannot be read."""
    return tuple(_state(each) for path in config.host_keys for each in (path, _beside(path, NEXT), _beside(path, OLD)))


def fingerprints(config: Config) -> dict[str, str]:
    """The fingerprint of every key that is there, by the path of its file. Raises ConfigError."""
    paths = [each for path in config.host_keys for each in (path, _beside(path, NEXT), _beside(path, OLD))]
    return {str(path): key.get_fingerprint() for path in paths if (key := _key(path))}


def prepare(config: Config) -> None:
    """Makes the next keys, to be announced from now on. Raises ConfigError where there are such keys already."""
    for path in config.host_keys:
        if path.exists():
            make_host_key(_beside(path, NEXT))


def switch(config: Config) -> None:
    """Takes the next keys into use; the old ones go on being announced. Raises ConfigError where there are no next ones, or still older ones."""
    following = [path for path in config.host_keys if _beside(path, NEXT).exists()]
    if not following:
        raise ConfigError("there are no next keys; `sftp-ingest host-keys prepare` makes them")
    for path in following:
        if _beside(path, OLD).exists():
            raise ConfigError(f"{_beside(path, OLD)} is still announced; `sftp-ingest host-keys retire` ends that")
    for path in following:
        path.rename(_beside(path, OLD))
        _beside(path, NEXT).rename(path)


def retire(config: Config) -> None:
    """Removes the old keys, for good. Raises ConfigError where there are none."""
    old = [_beside(path, OLD) for path in config.host_keys if _beside(path, OLD).exists()]
    if not old:
        raise ConfigError("there are no old keys")
    for path in old:
        path.unlink()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _state(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except OSError as fault:
        return (fault.errno or 0,)
    return facts.st_ino, facts.st_mtime_ns


def _read(path: Path) -> asyncssh.SSHKeyPair | None:
    key = _key(path)
    if key is None:
        return None
    [pair] = asyncssh.load_keypairs([key])
    if pair.get_algorithm() == "ssh-rsa":
        pair.host_key_algorithms = (b"rsa-sha2-512", b"rsa-sha2-256")  # it could also sign with SHA-1
        pair.set_sig_algorithm(b"rsa-sha2-512")
    return pair


def _key(path: Path) -> asyncssh.SSHKey | None:
    try:
        return asyncssh.read_private_key(path)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise ConfigError(f"server.host_key: {path} cannot be read: {fault.strerror}") from fault
    except asyncssh.KeyImportError as fault:
        raise ConfigError(f"server.host_key: {path} is not a private key; move it away, and `sftp-ingest init` makes another") from fault
