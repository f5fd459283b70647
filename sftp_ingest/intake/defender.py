"""Who is not even listened to: addresses that guess, addresses with too many connections, and some of a crowd of strangers."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from time import monotonic

import structlog

from sftp_ingest.config import Server

HALF_LIFE_SECONDS = 600
"""In this time half of what an address has on its score is forgiven."""
FORGIVEN_SECONDS = 86_400
"""So long after its last ban an address's next one is a first one again."""
MOST_RECORDS = 20_000
"""More addresses are not remembered; who has most on his score is kept."""

Network = IPv4Network | IPv6Network

log = structlog.get_logger()


def plain_address(text: str) -> str:
    """An address as it is written in lists of networks: without a zone, and IPv4 where IPv6 only wraps it."""
    address = ip_address(text.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """The networks of a list, each such as 192.0.2.0/24, or one address. Raises ValueError."""
    return tuple(ip_network(each, strict=False) for each in texts)


def within(address: str, found: Sequence[Network]) -> bool:
    """Whether a plain address is in one of the networks."""
    return any(ip_address(address) in each for each in found)


@dataclass
class _Record:
    score: float = 0.0
    scored_at: float = 0.0
    bans: int = 0
    banned_until: float = 0.0


class Defender:
    """Keeps a score for every address (of IPv6, for every /64) and bans who passes `server.ban_score`, each time for twice as long.

    A wrong password is one point, and so is a connection that ends without a log-in. `refuse` is called with the reason
    of each refusal and with `ban` for each ban; `clock` counts seconds.
    """

    def __init__(self, server: Server, refuse: Callable[[str], None], clock: Callable[[], float] = monotonic) -> None:
        self._server = server
        self._refuse = refuse
        self._clock = clock
        self._trusted = networks((*server.trusted, *server.proxies))
        self._begin, self._share, self._full = (int(each) for each in server.startups.split(":"))
        self._records: dict[str, _Record] = {}
        self._connections: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self._told: dict[tuple[str, str], float] = {}

    def arrived(self, address: str) -> bool:
        """Whether a connection may come in; it is counted then, as a stranger's, until `left`."""
        reason = self._objection(address)
        if reason:
            self._refuse(reason)
            self._tell(address, reason)
            return False
        self._connections[address] += 1
        self._strangers[address] += 1
        return True

    def known(self, address: str) -> None:
        """A stranger has logged in."""
        _less(self._strangers, address)

    def left(self, address: str, *, stranger: bool) -> None:
        """A connection is gone."""
        _less(self._connections, address)
        if stranger:
            _less(self._strangers, address)

    def offended(self, address: str, points: float = 1) -> None:
        """Puts points on the address's score, and bans it where that is enough."""
        if within(address, self._trusted):
            return
        now = self._clock()
        record = self._records.setdefault(_source(address), _Record(scored_at=now))
        record.score = self._score(record, now) + points
        record.scored_at = now
        if round(record.score) >= self._server.ban_score and record.banned_until <= now:
            if now - record.banned_until > FORGIVEN_SECONDS:
                record.bans = 0
            seconds = min(self._server.ban_seconds * 2**record.bans, self._server.ban_most_seconds)
            record.bans = min(record.bans + 1, 30)
            record.banned_until = now + seconds
            record.score = self._server.ban_score / 2
            self._refuse("ban")
            log.warning("address_banned", peer=address, seconds=round(seconds), bans=record.bans)
        if len(self._records) > MOST_RECORDS:
            self._forget(now)

    def banned(self, address: str) -> bool:
        """Whether the address is banned now."""
        record = self._records.get(_source(address))
        return record is not None and record.banned_until > self._clock()

    def _objection(self, address: str) -> str:
        if self.banned(address):
            return "banned"
        if self._connections[address] >= self._server.sessions_per_address and not within(address, self._trusted):
            return "sessions_per_address"
        strangers = self._strangers.total()
        if strangers >= self._full:
            return "startups"
        if strangers >= self._begin:  # the more there are the likelier, as OpenSSH's MaxStartups does it
            chance = self._share + (100 - self._share) * (strangers - self._begin) / (self._full - self._begin)
            if secrets.randbelow(100) < chance:
                return "startups"
        return ""

    def _score(self, record: _Record, now: float) -> float:
        return float(record.score * 0.5 ** ((now - record.scored_at) / HALF_LIFE_SECONDS))

    def _forget(self, now: float) -> None:
        kept = sorted(self._records.items(), key=lambda each: (each[1].banned_until, self._score(each[1], now)), reverse=True)
        self._records = dict(kept[: MOST_RECORDS // 2])

    def _tell(self, address: str, reason: str) -> None:
        """Logs the first refusal of an address, and then one a minute."""
        now = self._clock()
        if now - self._told.get((_source(address), reason), -60.0) >= 60:
            if len(self._told) > MOST_RECORDS:
                self._told.clear()
            self._told[_source(address), reason] = now
            log.warning("connection_refused", peer=address, reason=reason)


def _less(counted: Counter[str], address: str) -> None:
    counted[address] -= 1
    if counted[address] <= 0:
        del counted[address]


def _source(address: str) -> str:
    """What is scored: an address of IPv4, a network of IPv6, of which one machine has more addresses than we can count."""
    return address if ":" not in address else str(ip_network(f"{address}/64", strict=False))
