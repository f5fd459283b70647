"""Who gets in, with what, from where, and how many at once: keys of every kind, certificates, bans and limits, on a real listener."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sftp_ingest.config import Config, Settings
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import audit, hostkeys, keys, passwords, server
from sftp_ingest.model import Account
from tests.integration.port import (
    BIG,
    KEY,
    LOGGING,
    PASSWORD,
    SFTP,
    STRANGER,
    Districts,
    by_password,
    connecting,
    listening,
    needs_openssh,
    private_key,
    run_openssh,
    until,
)

AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")


def text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


class Token(asyncssh.SSHKeyPair):
    """A security key made of software: it signs as FIDO2 tokens do, with a counter and a flag that says whether it was touched."""

    def __init__(self, *, touched: bool = True) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._flags = bytes([1 if touched else 0])
        algorithm = b"sk-ssh-ed25519@openssh.com"
        public = text(algorithm) + text(self._key.public_key().public_bytes_raw()) + text(b"ssh:")
        super().__init__(algorithm, algorithm, (algorithm,), (algorithm,), public, None)

    @property
    def line(self) -> str:
        return f"{self.get_algorithm()} {base64.b64encode(self.public_data).decode()}"

    def sign(self, data: bytes) -> bytes:
        counter = (7).to_bytes(4, "big")
        signed = hashlib.sha256(b"ssh:").digest() + self._flags + counter + hashlib.sha256(data).digest()
        return text(self.algorithm) + text(self._key.sign(signed)) + self._flags + counter


def line_of(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


def with_keys(*lines: str) -> Districts:
    districts = Districts()
    districts.known["springfield"] = replace(districts.known["springfield"], keys=lines)
    return districts


def serving(config: Config, **server_settings: object) -> Config:
    return replace(config, server=replace(config.server, **server_settings))


async def gets_in(listener: server.Listener, key: object, username: str = "springfield") -> bool:
    try:
        async with await connecting(listener, username, client_keys=[key], preferred_auth="publickey") as connection, connection.start_sftp_client() as sftp:
            assert await sftp.realpath(".") == "/"
            return True
    except asyncssh.PermissionDenied as fault:
        assert fault.reason == f"Permission denied for user {username} on host 127.0.0.1"
        return False


def admitted(config: Config, districts: Districts, *attempts: object) -> list[bool]:
    """For each key, or key and user name, whether it opens a session."""

    async def go() -> list[bool]:
        async with listening(config, districts) as listener:
            return [await gets_in(listener, *(each if isinstance(each, list) else [each])) for each in attempts]

    return asyncio.run(go())


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ssh-ed448", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"])
def test_a_key_of_every_good_kind_opens_the_home(config: Config, algorithm: str) -> None:
    key = asyncssh.generate_private_key(algorithm)
    keys.check_key(line_of(key))
    assert admitted(config, with_keys(line_of(STRANGER), line_of(key)), key) == [True]


def test_a_security_key_opens_the_home_where_it_was_touched(config: Config) -> None:
    touched, untouched = Token(), Token(touched=False)
    keys.check_key(touched.line)
    assert admitted(config, with_keys(touched.line, untouched.line), touched, untouched, Token()) == [True, False, False]
    assert admitted(config, with_keys(f"no-touch-required {untouched.line}"), untouched) == [True]


def test_a_signature_that_rests_on_sha1_is_refused(config: Config) -> None:
    key = asyncssh.generate_private_key("ssh-rsa")

    async def go() -> None:
        async with listening(config, with_keys(line_of(key))) as listener:
            with pytest.raises(asyncssh.PermissionDenied):
                await connecting(listener, client_keys=[key], signature_algs=["ssh-rsa"], preferred_auth="publickey")
            assert await gets_in(listener, key)

    asyncio.run(go())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "students.csv",
        f'command="id" {line_of(KEY)}',
        f'environment="A=B" {line_of(KEY)}',
        f'expiry-time="soon" {line_of(KEY)}',
        f"unheard-of {line_of(KEY)}",
        line_of(asyncssh.generate_private_key("ssh-rsa", key_size=1024)),
        line_of(asyncssh.generate_private_key("ssh-dss")),
        line_of(KEY)[:40],
    ],
    ids=["empty", "no key", "command", "environment", "odd expiry", "odd option", "short RSA", "DSA", "cut"],
)
def test_a_line_that_cannot_be_kept_to_is_not_taken(line: str) -> None:
    with pytest.raises(ConfigError):
        keys.check_key(line)


def test_a_key_lets_in_until_it_expires(crewed: Config) -> None:
    today = datetime.now(UTC).date()
    tomorrow = keys.expiring(line_of(KEY), today + timedelta(days=1))
    over = keys.expiring(f"restrict {line_of(KEY)}", today)
    for each in (tomorrow, over):
        keys.check_key(each)
    assert admitted(crewed, with_keys(tomorrow), KEY) == [True]
    assert admitted(crewed, with_keys(over), KEY) == [False]
    assert admitted(crewed, with_keys(over, tomorrow), KEY) == [True]
    assert keys.told(tomorrow) == f"ssh-ed25519 until {today + timedelta(days=1)} 00:00Z"
    with pytest.raises(ConfigError):
        keys.expiring(tomorrow, today)


def test_a_line_that_became_unreadable_opens_nothing_and_hides_no_other(config: Config) -> None:
    assert admitted(config, with_keys("ssh-ed25519 AAAA broken", f'expiry-time="soon" {line_of(STRANGER)}', line_of(KEY)), KEY, STRANGER) == [True, False]


@pytest.mark.parametrize(("source", "expected"), [("127.0.0.0/8", True), ("192.0.2.0/24", False), ("!127.0.0.1,*", False)])
def test_a_key_may_be_bound_to_where_it_comes_from(config: Config, source: str, expected: bool) -> None:
    assert admitted(config, with_keys(f'from="{source}" {line_of(KEY)}'), KEY) == [expected]


# ---------------------------------------------------------------- accounts


FURTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")


def with_a_further_account() -> Districts:
    """Springfield has a further account, which has a key of its own and a password of its own."""
    districts = Districts()
    line = FURTHER_KEY.export_public_key().decode().strip()
    districts.known["springfield-sis"] = Account("springfield-sis", "springfield", datetime.now(UTC), passwords.hash_password("its own"), (line,))
    return districts


def test_every_account_opens_its_districts_home_by_its_own_key_alone(config: Config) -> None:
    attempts = [[FURTHER_KEY, "springfield-sis"], [KEY, "springfield"], [KEY, "springfield-sis"], [FURTHER_KEY, "springfield"], [FURTHER_KEY, "shelbyville"]]
    assert admitted(config, with_a_further_account(), *attempts) == [True, True, False, False, False]
    assert sorted(path.name for path in config.homes.iterdir()) == ["springfield"]


def test_a_certificate_opens_the_account_that_it_names(config: Config) -> None:
    trusting = serving(config, user_authorities=(line_of(AUTHORITY),))
    further, own = certificate(principals=["springfield-sis"]), certificate()
    attempts = [[further, "springfield-sis"], [further, "springfield"], [own, "springfield-sis"], [own, "springfield"]]
    districts = with_a_further_account()
    districts.known["springfield"] = replace(districts.known["springfield"], keys=())  # who has a certificate has its key as well
    assert admitted(trusting, districts, *attempts) == [True, False, False, True]


def test_what_one_account_sends_the_others_of_the_district_find_and_the_record_says_who_came(config: Config, home: Path) -> None:
    async def go() -> list[str]:
        async with listening(config, with_a_further_account()) as listener:
            with structlog.testing.capture_logs() as logs:
                how = by_password("its own")
                async with (
                    await connecting(listener, "springfield-sis", **how) as connection,
                    connection.start_sftp_client() as sftp,
                    sftp.open("students.csv", "wb") as file,
                ):
                    await file.write(BIG)
                async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                    assert (await sftp.stat("students.csv")).size == len(BIG)
                with pytest.raises(asyncssh.PermissionDenied):
                    await connecting(listener, "springfield-sis", **by_password(PASSWORD))
                await until(lambda: len(logs) == 6)
            return sorted(f"{each['event']} {each['account']} of {each['district']}" for each in logs)

    further = "springfield-sis of springfield"
    own = "springfield of springfield"
    events = (("file_received", further), ("login_refused", further), ("session_closed", own), ("session_closed", further))
    assert asyncio.run(go()) == sorted([*map(" ".join, events), f"session_opened {own}", f"session_opened {further}"])
    assert [each["account"] for each in audit.sessions(config.sessions, "springfield", datetime.now(UTC).date())] == ["springfield-sis", "springfield"]


def test_an_account_that_is_removed_or_loses_its_key_is_let_in_no_more(config: Config) -> None:
    async def go() -> None:
        districts = with_a_further_account()
        async with listening(config, districts) as listener:
            stays = await connecting(listener, "springfield-sis", client_keys=[FURTHER_KEY])
            districts.known["springfield-sis"] = replace(districts.known["springfield-sis"], keys=())
            assert not await gets_in(listener, FURTHER_KEY, "springfield-sis")
            (await connecting(listener, "springfield-sis", **by_password("its own"))).close()
            del districts.known["springfield-sis"]
            with pytest.raises(asyncssh.PermissionDenied):
                await connecting(listener, "springfield-sis", **by_password("its own"))
            async with stays.start_sftp_client() as sftp:
                assert await sftp.realpath(".") == "/"
            stays.close()

    asyncio.run(go())


def test_the_accounts_of_a_district_share_its_networks_and_its_sessions(crewed: Config) -> None:
    bound = replace(crewed, districts={"springfield": Settings(networks=("192.0.2.0/24",))})
    attempts = [[FURTHER_KEY, "springfield-sis"], [KEY, "springfield"]]
    assert admitted(bound, with_a_further_account(), *attempts) == [False, False]

    async def go() -> None:
        async with listening(serving(crewed, sessions_per_district=1), with_a_further_account()) as listener:
            first = await connecting(listener)
            second = await connecting(listener, "springfield-sis", client_keys=[FURTHER_KEY])
            await second.wait_closed()
            first.close()
            await until(lambda: not listener.guests)
            assert await gets_in(listener, FURTHER_KEY, "springfield-sis")

    asyncio.run(go())


# ---------------------------------------------------------------- certificates


def certificate(authority: asyncssh.SSHKey = AUTHORITY, **terms: object) -> tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]:
    return KEY, authority.generate_user_certificate(KEY, "a sync program", **{"principals": ["springfield"], **terms})


def test_a_certificate_opens_the_home_of_the_district_that_it_names(config: Config) -> None:
    trusting = serving(config, user_authorities=(line_of(AUTHORITY),))
    attempts = [
        certificate(),
        [certificate(), "shelbyville"],
        [certificate(principals=["springfield", "shelbyville"]), "shelbyville"],
        [certificate(), "nobody"],
        certificate(principals=[]),
        certificate(principals=["*"]),
        certificate(valid_before=int(datetime.now(UTC).timestamp()) - 60),
        certificate(valid_after=int(datetime.now(UTC).timestamp()) + 3600),
        certificate(source_address=["192.0.2.0/24"]),
        certificate(authority=STRANGER),
    ]
    assert admitted(trusting, with_keys(), *attempts) == [True, False, True, False, False, False, False, False, False, False]
    assert admitted(config, with_keys(), certificate()) == [False]


def test_a_host_certificate_is_no_users(config: Config) -> None:
    held = KEY, AUTHORITY.generate_host_certificate(KEY, "a host", principals=["springfield"])
    assert admitted(serving(config, user_authorities=(line_of(AUTHORITY),)), with_keys(), held) == [False]


def test_a_district_may_have_an_authority_of_its_own(config: Config) -> None:
    line = f"cert-authority {line_of(AUTHORITY)}"
    keys.check_key(line)
    assert admitted(config, with_keys(line), certificate(), [certificate(principals=["shelbyville"]), "springfield"], AUTHORITY) == [True, False, False]
    assert admitted(config, with_keys(line), [certificate(principals=["shelbyville"]), "shelbyville"], certificate(principals=[])) == [False, False]


def test_an_authority_that_is_no_key_stops_the_start(config: Config) -> None:
    async def go() -> None:
        with pytest.raises(ConfigError, match=r"^server\.user_authorities: "):
            await server.listen(serving(config, user_authorities=("nonsense",)), Districts().lookup, lambda _: None, LOGGING)

    asyncio.run(go())


# ---------------------------------------------------------------- from where


@pytest.mark.parametrize(
    ("networks", "expected"), [(("127.0.0.0/8",), True), (("192.0.2.0/24", "127.0.0.1"), True), (("192.0.2.0/24", "2001:db8::/32"), False)]
)
def test_a_district_logs_in_from_its_networks_only(config: Config, networks: tuple[str, ...], expected: bool) -> None:
    bound = replace(config, districts={"springfield": Settings(networks=networks)})

    async def go() -> None:
        async with listening(bound) as listener:
            with structlog.testing.capture_logs() as logs:
                assert await gets_in(listener, KEY) is expected
                try:
                    (await connecting(listener, **by_password(PASSWORD))).close()
                    assert expected
                except asyncssh.PermissionDenied:
                    assert not expected
                await until(lambda: len(logs) >= 2)
            assert expected or {each["reason"] for each in logs} == {"network"}

    asyncio.run(go())


# ---------------------------------------------------------------- how many, and who is banned


def test_who_guesses_is_banned_and_the_right_password_does_not_help(crewed: Config) -> None:
    async def go() -> None:
        async with listening(serving(crewed, ban_score=4)) as listener:
            with structlog.testing.capture_logs() as logs:
                for _ in range(4):
                    with pytest.raises(asyncssh.PermissionDenied):
                        await connecting(listener, **by_password("wrong"))
                for how in ({}, by_password(PASSWORD)):
                    with pytest.raises((asyncssh.ConnectionLost, OSError)):
                        await connecting(listener, **how)
            assert [each["event"] for each in logs if "ban" in each["event"] or each["event"] == "connection_refused"] == [
                "address_banned",
                "connection_refused",
            ]

    asyncio.run(go())


def test_a_trusted_network_is_never_banned(config: Config) -> None:
    async def go() -> None:
        async with listening(serving(config, ban_score=2, trusted=("127.0.0.0/8",))) as listener:
            for _ in range(4):
                with pytest.raises(asyncssh.PermissionDenied):
                    await connecting(listener, **by_password("wrong"))
            assert await gets_in(listener, KEY)

    asyncio.run(go())


def test_knocking_without_logging_in_counts_too(crewed: Config) -> None:
    async def go() -> None:
        async with listening(serving(crewed, ban_score=3)) as listener:
            for _ in range(3):
                _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                writer.close()
                await until(lambda: not listener.guests)
            with pytest.raises((asyncssh.ConnectionLost, OSError)):
                await connecting(listener)

    asyncio.run(go())


def test_a_district_has_only_so_many_sessions(config: Config) -> None:
    async def go() -> None:
        async with listening(serving(config, sessions_per_district=2)) as listener:
            first, second = await connecting(listener), await connecting(listener)
            with structlog.testing.capture_logs() as logs:
                third = await connecting(listener)
                await third.wait_closed()
            assert [each["reason"] for each in logs if each["event"] == "session_refused"] == ["sessions_per_district"]
            other = await connecting(listener, "shelbyville", **by_password(PASSWORD))
            first.close()
            await until(lambda: len(listener.guests) == 2)
            assert await gets_in(listener, KEY)
            for each in (second, other):
                each.close()

    asyncio.run(go())


def test_an_address_has_only_so_many_connections(crewed: Config) -> None:
    async def go() -> None:
        async with listening(serving(crewed, sessions_per_address=2)) as listener:
            first, second = await connecting(listener), await connecting(listener)
            with pytest.raises((asyncssh.ConnectionLost, OSError)):
                await connecting(listener)
            first.close()
            await until(lambda: len(listener.guests) == 1)
            assert await gets_in(listener, KEY)
            second.close()

    asyncio.run(go())


def test_a_crowd_of_strangers_is_not_let_in_and_harms_nobody_who_is(crewed: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(serving(crewed, startups="5:50:10")) as listener:
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                strangers = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(40)]
                greeted = await asyncio.gather(*(reader.read(3) for reader, _ in strangers))
                assert 5 <= sum(each == b"SSH" for each in greeted) <= 10
                async with sftp.open("students.csv", "wb") as file:
                    await file.write(BIG)
                for _, writer in strangers:
                    writer.close()
                await until(lambda: len(listener.guests) == 1)
            assert await gets_in(listener, KEY)
        assert (home / "students.csv").read_bytes() == BIG

    asyncio.run(go())


def test_a_flood_of_wrong_passwords_keeps_nobody_with_a_key_waiting_behind_it(config: Config) -> None:
    """All guesses of one address wait for each other, so a log-in in between is served before all of them are answered."""

    async def go() -> None:
        async with listening(serving(config, ban_score=1000)) as listener:

            async def guess() -> None:
                await connecting(listener, **by_password("wrong"))

            guesses = [asyncio.create_task(guess()) for _ in range(30)]
            await until(lambda: len(listener.guests) >= 10)
            assert await gets_in(listener, KEY)
            assert not all(each.done() for each in guesses)
            assert all(isinstance(each, asyncssh.PermissionDenied) for each in await asyncio.gather(*guesses, return_exceptions=True))

    asyncio.run(go())


# ---------------------------------------------------------------- the server's own keys


@needs_openssh
def test_host_keys_are_read_while_their_files_come_and_go(config: Config) -> None:
    key, following = config.host_keys[0], config.host_keys[0].with_name(f"{config.host_keys[0].name}{hostkeys.NEXT}")
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            os.link(key, following)
            following.unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert {len(hostkeys.signature(config)) for _ in range(20_000)} == {3 * len(config.host_keys)}
        assert {str(key) in hostkeys.fingerprints(config) for _ in range(200)} == {True}
    finally:
        over.set()
        thread.join()


def test_what_cannot_be_tidied_is_told_and_tidied_later(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TIDY_SECONDS", 0.05)
    old = config.sessions / "springfield" / "2020-01-31.jsonl"

    async def go() -> None:
        async with listening(config):
            old.mkdir(parents=True)
            await until(lambda: any(each["event"] == "tidying_failed" for each in logs))
            old.rmdir()
            old.write_text("")
            await until(lambda: not old.exists())

    with structlog.testing.capture_logs() as logs:
        asyncio.run(go())


def test_host_keys_are_exchanged_under_the_eyes_of_a_client_that_is_strict(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSH's client knows the old key alone, hears of the next, and knows the server by it when the old one is gone; the server is never restarted."""
    monkeypatch.setattr(server, "HOST_KEYS_SECONDS", 0.05)
    known, key, path = tmp_path / "known_hosts", private_key(tmp_path), config.host_keys[0]
    strict = ["-oStrictHostKeyChecking=yes", "-oUpdateHostKeys=yes", f"-oUserKnownHostsFile={known}", "-oGlobalKnownHostsFile=none", "-b-"]

    def blob() -> str:
        return asyncssh.read_private_key(path).export_public_key().decode().split()[1]

    async def go() -> None:
        async with listening(config) as listener:

            async def comes_in() -> bool:
                return (await asyncio.to_thread(run_openssh, SFTP, listener.port, key, *strict, batch="pwd\n")).returncode == 0

            async def served(change: Callable[[Config], None]) -> None:
                with structlog.testing.capture_logs() as logs:
                    await asyncio.to_thread(change, config)
                    await until(lambda: any(each["event"] == "host_keys_changed" for each in logs))

            first = blob()
            known.write_text(f"[127.0.0.1]:{listener.port} ssh-ed25519 {first}\n")
            await served(hostkeys.prepare)
            assert await comes_in()
            await served(hostkeys.switch)
            assert blob() != first
            assert await comes_in()
            await served(hostkeys.retire)
            assert await comes_in()
            assert [line.split()[2] for line in known.read_text().splitlines()] == [blob()]
            for change in (hostkeys.switch, hostkeys.retire):
                with pytest.raises(ConfigError):
                    change(config)

    asyncio.run(go())


def test_a_host_key_that_became_unreadable_leaves_the_one_that_was_read(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HOST_KEYS_SECONDS", 0.05)

    async def go() -> None:
        async with listening(config) as listener:
            with structlog.testing.capture_logs() as logs:
                config.host_keys[0].write_text("nonsense")
                await until(lambda: any(each["event"] == "host_keys_unreadable" for each in logs))
            assert await gets_in(listener, KEY)

    asyncio.run(go())
