"""Scores and bans over hours and days, on a clock that the test sets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sftp_ingest.config import Server
from sftp_ingest.intake.defender import FORGIVEN_SECONDS, HALF_LIFE_SECONDS, MOST_RECORDS, Defender, plain_address

GUESSER = "192.0.2.7"


class Clock:
    """A clock that stands still until it is set."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def defended(**settings: object) -> tuple[Defender, Clock]:
    clock = Clock()
    return Defender(replace(Server(), ban_score=4, ban_seconds=60, ban_most_seconds=600, **settings), lambda _: None, clock), clock


def offend(defender: Defender, times: int, address: str = GUESSER) -> None:
    for _ in range(times):
        defender.offended(address)


def test_bans_grow_up_to_the_most_and_begin_anew_after_a_quiet_day() -> None:
    defender, clock = defended()
    lengths = []
    for _ in range(6):
        offend(defender, 4)
        start = clock.now
        while defender.banned(GUESSER):
            clock.now += 10
        lengths.append(clock.now - start)
    assert lengths == [60, 120, 240, 480, 600, 600]
    clock.now += FORGIVEN_SECONDS + 1
    offend(defender, 4)
    clock.now += 61
    assert not defender.banned(GUESSER)


def test_what_happens_now_and_then_is_forgiven() -> None:
    defender, clock = defended()
    for _ in range(100):
        offend(defender, 1)
        clock.now += HALF_LIFE_SECONDS
    assert not defender.banned(GUESSER)
    offend(defender, 3)
    assert defender.banned(GUESSER)


def test_others_are_not_banned_with_the_guesser() -> None:
    defender, _ = defended()
    offend(defender, 4)
    assert not defender.arrived(GUESSER)
    assert defender.arrived("192.0.2.8")


def test_a_network_of_ipv6_is_scored_as_one() -> None:
    defender, _ = defended()
    for last in range(4):
        offend(defender, 1, f"2001:db8:0:1::{last}")
    assert defender.banned("2001:db8:0:1:ffff::1")
    assert not defender.banned("2001:db8:0:2::1")


@pytest.mark.parametrize(
    ("text", "plain"), [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("fe80::1%eth0", "fe80::1"), ("2001:DB8::1", "2001:db8::1")]
)
def test_an_address_has_one_spelling(text: str, plain: str) -> None:
    assert plain_address(text) == plain


def test_the_memory_for_guessers_is_bounded_and_the_banned_are_what_it_keeps() -> None:
    defender, _ = defended()
    offend(defender, 4)
    for number in range(MOST_RECORDS + 1):
        defender.offended(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert defender.banned(GUESSER)
    assert len(defender._records) <= MOST_RECORDS


def test_strangers_are_dropped_the_likelier_the_more_they_are() -> None:
    defender, _ = defended(startups="10:50:30", sessions_per_address=1000)
    let_in = [defender.arrived(f"10.0.0.{number % 250}") for number in range(1000)]
    assert all(let_in[:10])
    assert sum(let_in) == 30
    for number in range(1000):
        if let_in[number]:
            defender.known(f"10.0.0.{number % 250}")
    assert defender.arrived("10.0.1.1")


def test_nothing_is_kept_of_connections_that_are_gone() -> None:
    defender, _ = defended()
    for known in (True, False):
        assert defender.arrived(GUESSER)
        if known:
            defender.known(GUESSER)
        defender.left(GUESSER, stranger=not known)
    assert defender._connections == defender._strangers == {}
