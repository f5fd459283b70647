"""Who may log in: public keys and passwords, checked off the event loop."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

import asyncssh
import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sftp_ingest.errors import ConfigError
from sftp_ingest.model import District

log = structlog.get_logger()


def hash_password(text: str) -> str:
    """The argon2id hash to keep in place of the password."""
    return PasswordHasher().hash(text)


def check_key(line: str) -> None:
    """Nothing, where the line is an OpenSSH public key that can log in. Raises ConfigError otherwise."""
    try:
        asyncssh.import_public_key(line)
    except asyncssh.KeyImportError as fault:
        raise ConfigError("this is not an OpenSSH public key") from fault


class Passwords:
    """Checks passwords in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="password")  # 64 MiB each: more at once is a way to fell us
        self._nobody = hash_password(secrets.token_hex())

    async def verified(self, password_hash: str, password: str) -> bool:
        """Whether the password is the one hashed; an empty hash takes as long as any other, and is never met."""
        met = await asyncio.get_running_loop().run_in_executor(self._threads, _matches, password_hash or self._nobody, password)
        return met and bool(password_hash)

    def close(self) -> None:
        """Checks no more."""
        self._threads.shutdown(wait=False)


def keys_of(district: District) -> list[asyncssh.SSHKey]:
    """The public keys that let the district in."""
    keys = []
    for line in district.keys:
        try:
            keys.append(asyncssh.import_public_key(line))
        except asyncssh.KeyImportError:
            log.warning("key_unreadable", district=district.id)
    return keys


def _matches(password_hash: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
