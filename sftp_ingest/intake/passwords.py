"""Passwords, checked off the event loop and one at a time for each address, so that nobody's guesses keep others waiting."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

CHECKS_AT_ONCE = 2
"""A check takes 64 MiB and a core: more at once is a way to fell us."""


def hash_password(text: str) -> str:
    """The argon2id hash to keep in place of the password."""
    return PasswordHasher().hash(text)


class Passwords:
    """Checks passwords in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(CHECKS_AT_ONCE, thread_name_prefix="password")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._nobody = hash_password(secrets.token_hex())

    async def verified(self, password_hash: str, password: str, address: str) -> bool:
        """Whether the password is the one hashed; an empty hash takes as long as any other, and is never met."""
        turn = self._turns.get(address) or asyncio.Lock()
        self._turns[address] = turn
        async with turn:
            met = await asyncio.get_running_loop().run_in_executor(self._threads, _matches, password_hash or self._nobody, password)
        return met and bool(password_hash)

    def close(self) -> None:
        """Checks no more."""
        self._threads.shutdown(wait=False)


def _matches(password_hash: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
