"""Public keys that let an account in: OpenSSH's lines with their options, certificates of an authority, security keys, keys that expire."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import lru_cache

import asyncssh
import structlog
from cryptography.hazmat.primitives.asymmetric.dsa import DSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sftp_ingest.errors import ConfigError
from sftp_ingest.model import Account

EXPIRY = "expiry-time"
OPTIONS = frozenset({EXPIRY, "from", "cert-authority", "principals", "no-touch-required", "restrict"})
"""What a line may say of its key; nothing else has a meaning here. (`no-pty` and its like are allowed too: nothing of the kind is granted anyway.)"""
LEAST_RSA_BITS = 2048

_SSH2 = re.compile(r"---- BEGIN SSH2 PUBLIC KEY ----.*?---- END SSH2 PUBLIC KEY ----", re.DOTALL)
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|PuTTY-User-Key-File-")
_OPTION = re.compile(r'(?P<name>[A-Za-z0-9@.-]+)(?:="(?P<value>(?:[^"\\]|\\.)*)")?(?P<end>,|[ \t]+)')

log = structlog.get_logger()


class Admission(asyncssh.SSHAuthorizedKeys):
    """What opens the door to those who give one name; where the name is nobody's, a key that nobody has, for the same work takes the same time.

    `proven` is called with the key's fingerprint, or with nothing, whenever a key was compared; its signature is asyncssh's to check.
    """

    def __init__(self, account: Account | None, authorities: Sequence[str], address: str, proven: Callable[[str], None]) -> None:
        super().__init__()
        lines = account.keys if account else ()
        self._lines = (*(lines or (_nobodys_key(),)), *(f'cert-authority,principals="{account.name if account else "/"}" {each}' for each in authorities))
        self._address = address
        self._proven = proven

    def validate(
        self, key: asyncssh.SSHKey, client_host: str, client_addr: str, cert_principals: Sequence[str] | None = None, ca: bool = False
    ) -> Mapping[str, object] | None:
        """The options of the line that has this key, or this certificate's authority, and has not expired; else None."""
        if ca and not cert_principals:  # signed for everybody, or by mistake
            return None
        now = datetime.now(UTC)
        for line in self._lines:
            held = _held(line)
            options = held.validate(key, self._address, self._address, cert_principals, ca) if held else None
            if options is not None and not _expired(line, now):
                self._proven(key.get_fingerprint())
                return options
        self._proven("")
        return None


def key_lines(data: bytes) -> list[tuple[int, str]]:
    """The lines of a file that hold a key, each with its number; a key as PuTTYgen saves it (RFC 4716) becomes a line of OpenSSH's. Raises ConfigError."""
    try:
        text = data.decode("utf-8-sig")  # Notepad puts a mark before it
    except UnicodeDecodeError as fault:
        raise ConfigError("this is not text in UTF-8") from fault
    if _PRIVATE.search(text):
        raise ConfigError("this is a private key, which nobody but its owner should have; the public one is wanted")
    lines = enumerate(_SSH2.sub(_of_openssh, text).splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip() and not line.lstrip().startswith("#")]


def check_key(line: str) -> None:
    """Nothing, where the line is an OpenSSH public key that can log in, with options or without. Raises ConfigError otherwise."""
    options, text = parts(line)
    try:
        key = asyncssh.import_public_key(text)
    except asyncssh.KeyImportError as fault:
        raise ConfigError("this is not an OpenSSH public key") from fault
    if isinstance(key.pyca_key, DSAPublicKey) or (isinstance(key.pyca_key, RSAPublicKey) and key.pyca_key.key_size < LEAST_RSA_BITS):
        raise ConfigError(f"this key is too weak: Ed25519, ECDSA, a security key, or RSA of at least {LEAST_RSA_BITS} bits")
    for name in options:
        if name not in OPTIONS and not name.startswith("no-"):
            raise ConfigError(f"the option {name} has no meaning here; known: {', '.join(sorted(OPTIONS))}")
    if EXPIRY in options:
        moment(options[EXPIRY])
    if _held(line) is None:
        raise ConfigError("this is not an OpenSSH public key")


def check_authorities(lines: Sequence[str]) -> None:
    """Nothing, where every line is the public key of an authority. Raises ConfigError otherwise."""
    for line in lines:
        if parts(line)[0]:
            raise ConfigError("server.user_authorities: a key there has no options")
        try:
            check_key(line)
        except ConfigError as fault:
            raise ConfigError(f"server.user_authorities: {fault}") from fault


def parts(line: str) -> tuple[dict[str, str], str]:
    """The options before a key, by name, and the key itself."""
    options: dict[str, str] = {}
    rest = line.strip()
    if re.match(r"(ssh-|ecdsa-|sk-)\S+[ \t]", rest):
        return options, rest
    while found := _OPTION.match(rest):
        options[found["name"]] = found["value"] or ""
        rest = rest[found.end() :]
        if found["end"] != ",":
            break
    return options, rest


def expiring(line: str, day: date) -> str:
    """The line of a key that lets nobody in from the beginning of that day, in UTC. Raises ConfigError where the line says when it expires already."""
    options, _ = parts(line)
    if EXPIRY in options:
        raise ConfigError(f"the key has an {EXPIRY} already")
    return f'{EXPIRY}="{day:%Y%m%d}Z"{"," if options else " "}{line.strip()}'


def moment(text: str) -> datetime:
    """When an `expiry-time` is: YYYYMMDD or YYYYMMDDHHMM[SS], in UTC with a Z after it, else in the machine's own time. Raises ConfigError."""
    digits = text.removesuffix("Z")
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits), "")
    try:
        found = datetime.strptime(digits, form)
    except ValueError as fault:
        raise ConfigError(f"{EXPIRY} must look as 20270131Z or 202701312359Z does") from fault
    return found.replace(tzinfo=UTC) if text.endswith("Z") else found.astimezone(UTC)


def told(line: str) -> str:
    """A key for people: its kind, its comment, and what its options say of when it expires."""
    options, text = parts(line)
    words = text.split(maxsplit=2)
    expiry = [f"until {moment(options[EXPIRY]):%Y-%m-%d %H:%M}Z"] if EXPIRY in options else []
    authority = ["authority"] if "cert-authority" in options else []
    return " ".join([*authority, *words[:1], *words[2:], *expiry])


def fingerprint(line: str) -> str:
    """By what a key is told from all others, as `ssh-keygen -l` writes it. Raises ConfigError where the line has none."""
    try:
        return str(asyncssh.import_public_key(parts(line)[1]).get_fingerprint())
    except asyncssh.KeyImportError as fault:
        raise ConfigError("this is not an OpenSSH public key") from fault


def _of_openssh(block: re.Match[str]) -> str:
    with suppress(asyncssh.KeyImportError):  # then the first of its lines is no key
        return asyncssh.import_public_key(block[0]).export_public_key().decode().strip() + "\n" * block[0].count("\n")
    return block[0]


@lru_cache(maxsize=1)
def _nobodys_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


@lru_cache(maxsize=4096)
def _held(line: str) -> asyncssh.SSHAuthorizedKeys | None:
    try:
        return asyncssh.import_authorized_keys(line)
    except ValueError:
        log.warning("key_unreadable")
        return None


def _expired(line: str, now: datetime) -> bool:
    expiry = parts(line)[0].get(EXPIRY)
    try:
        return expiry is not None and moment(expiry) <= now
    except ConfigError:
        return True
