"""The SFTP server as districts meet it: a real listener on loopback, asyncssh's client and OpenSSH's own `sftp`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import asyncssh
import pytest
import structlog
from argon2 import Parameters, extract_parameters

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import hostkeys, passwords, paths, server, session
from sftp_ingest.intake.inbox import PART_PREFIX
from sftp_ingest.intake.upload import cut
from tests.integration.conftest import Digger
from tests.integration.disks import a_disk_of
from tests.integration.port import (
    BIG,
    KEY,
    LOGGING,
    PASSWORD,
    PATIENCE_SECONDS,
    SFTP,
    STRANGER,
    Districts,
    Packets,
    by_password,
    connecting,
    cut_off,
    files,
    listening,
    needs_openssh,
    parts,
    put_sealed,
    run_sftp,
    until,
    with_client,
)

# ---------------------------------------------------------------- who gets in


@pytest.mark.parametrize("how", [{}, by_password(PASSWORD), {**by_password(PASSWORD), "preferred_auth": "keyboard-interactive"}])
def test_a_district_logs_in_with_its_key_or_its_password(crewed: Config, home: Path, how: dict[str, object]) -> None:
    async def go() -> None:
        async with listening(crewed) as listener, await connecting(listener, **how) as connection, connection.start_sftp_client() as sftp:
            assert await sftp.realpath(".") == "/"
            assert sorted(await sftp.listdir("/")) == [".", "..", "preview", "reports"]
        assert home.stat().st_mode & 0o777 == 0o700

    asyncio.run(go())


@pytest.mark.parametrize(
    ("username", "how"),
    [
        ("springfield", by_password("wrong")),
        ("springfield", by_password("")),
        ("springfield", {"client_keys": [STRANGER], "preferred_auth": "publickey"}),
        ("shelbyville", {"client_keys": [KEY], "preferred_auth": "publickey"}),
        ("nobody", by_password(PASSWORD)),
        ("nobody", {"client_keys": [KEY], "preferred_auth": "publickey"}),
        ("../springfield", by_password(PASSWORD)),
    ],
)
def test_anyone_else_gets_one_and_the_same_answer(config: Config, username: str, how: dict[str, object]) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            with structlog.testing.capture_logs() as logs:
                with pytest.raises(asyncssh.PermissionDenied, match="Permission denied for user"):
                    await connecting(listener, username, **how)
                await until(lambda: logs)
            told = username if username in Districts().known else "(unknown)"
            assert [(each["event"], each["district"], each["account"]) for each in logs] == [("login_refused", told, told)]
            assert list(config.homes.iterdir()) == []

    asyncio.run(go())


def test_a_district_without_a_password_cannot_log_in_with_any(config: Config) -> None:
    async def go() -> None:
        districts = Districts()
        districts.known["springfield"] = replace(districts.known["springfield"], password_hash="")
        async with listening(config, districts) as listener:
            for guess in ("", PASSWORD):
                with pytest.raises(asyncssh.PermissionDenied):
                    await connecting(listener, **by_password(guess))

    asyncio.run(go())


def test_an_unknown_name_costs_the_same_work_as_a_known_one(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that takes long is done as often and on hashes of the same cost, which a clock could only guess at."""
    costs: list[Parameters] = []
    check = passwords._matches

    def noted(password_hash: str, password: str) -> bool:
        costs.append(extract_parameters(password_hash))
        return check(password_hash, password)

    monkeypatch.setattr(passwords, "_matches", noted)

    async def go() -> None:
        async with listening(config) as listener:
            for name in ("springfield", "nobody"):
                with pytest.raises(asyncssh.PermissionDenied):
                    await connecting(listener, name, **by_password("wrong"))

    asyncio.run(go())
    known, unknown = costs
    assert known == unknown


def test_guessing_passwords_ends_the_connection(crewed: Config) -> None:
    class Guesser(asyncssh.SSHClient):
        guesses = 0

        def password_auth_requested(self) -> str:
            self.guesses += 1
            return f"guess {self.guesses}"

    async def go() -> None:
        async with listening(crewed) as listener:
            guesser = Guesser()
            with pytest.raises(asyncssh.PermissionDenied, match="Too many wrong passwords"):
                await connecting(listener, client_factory=lambda: guesser, client_keys=None, preferred_auth="password")
            assert guesser.guesses == session.PASSWORD_TRIES

    asyncio.run(go())


def test_a_client_that_does_not_log_in_in_time_is_sent_away(config: Config) -> None:
    async def go() -> None:
        async with listening(replace(config, server=replace(config.server, login_seconds=0.2))) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await reader.read(4096):
                    pass
            writer.close()

    asyncio.run(go())


def test_a_silent_session_is_ended(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(replace(config, server=replace(config.server, idle_seconds=2))) as listener:
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                file = await sftp.open("students.csv", "wb")
                for _ in range(5):
                    await asyncio.sleep(0.5)
                    await file.write(b"busy")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await connection.wait_closed()
            await until(lambda: not parts(home))
            assert files(home) == []

    asyncio.run(go())


# ---------------------------------------------------------------- the jail


def test_no_path_leads_out_of_the_home(config: Config, home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not yours")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        assert await sftp.realpath("/../../..") == "/"
        assert await sftp.realpath("a/../../b") == "/b"
        for path in (str(secret), "../../../secret", "/../../../secret", "reports/../../../../secret"):
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.open(path, "rb")
        async with sftp.open("../up.csv", "wb") as file:
            await file.write(b"mine")
        assert (home / "up.csv").read_bytes() == b"mine"

    with_client(config, act)


def test_a_symbolic_link_that_lies_in_the_home_is_never_followed(config: Config, home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not yours")
    home.mkdir(parents=True)
    (home / "folder").symlink_to(outside)
    (home / "file").symlink_to(outside / "secret")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for attempt in (
            lambda: sftp.open("file", "rb"),
            lambda: sftp.open("file", "wb"),
            lambda: sftp.open("file", "ab"),
            lambda: sftp.open("folder/secret", "rb"),
            lambda: sftp.open("folder/new", "wb"),
            lambda: sftp.listdir("folder"),
            lambda: sftp.stat("folder/secret"),
            lambda: sftp.remove("folder/secret"),
            lambda: sftp.mkdir("folder/new"),
            lambda: sftp.rename("folder/secret", "secret"),
            lambda: sftp.truncate("folder/secret", 0),
            lambda: sftp.readlink("file"),
            lambda: sftp.truncate("file", 0),
        ):
            with pytest.raises(asyncssh.SFTPError):
                await attempt()
        assert sorted(path.name for path in outside.iterdir()) == ["secret"]
        assert (outside / "secret").read_text() == "not yours"

    with_client(config, act)


def test_a_client_makes_no_links(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", "wb") as file:
            await file.write(b"x")
        for attempt in (
            sftp.symlink("/etc/passwd", "link"),
            sftp.symlink("students.csv", "link"),
            sftp.link("students.csv", "link"),
            sftp.readlink("students.csv"),
        ):
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await attempt
        assert files(home) == ["students.csv"]

    with_client(config, act)


def test_reports_can_be_read_and_not_touched(config: Config, home: Path) -> None:
    (home / "reports").mkdir(parents=True)
    (home / "reports" / "latest.txt").write_text("all is well")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("reports/latest.txt", "rb") as file:
            assert await file.read() == b"all is well"
        assert "latest.txt" in await sftp.listdir("reports")
        for attempt in (
            lambda: sftp.open("reports/latest.txt", "wb"),
            lambda: sftp.open("reports/latest.txt", "r+b"),
            lambda: sftp.open("./x/../reports/new.txt", "wb"),
            lambda: sftp.remove("reports/latest.txt"),
            lambda: sftp.rename("reports/latest.txt", "mine.txt"),
            lambda: sftp.rename("reports", "mine"),
            lambda: sftp.mkdir("reports/new"),
            lambda: sftp.rmdir("reports"),
            lambda: sftp.utime("reports/latest.txt", (0, 0)),
            lambda: sftp.truncate("reports/latest.txt", 0),
        ):
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await attempt()
        assert (home / "reports" / "latest.txt").read_text() == "all is well"

    with_client(config, act)


def test_the_servers_own_names_are_neither_seen_nor_taken(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", "wb") as file:
            await file.write(b"half")
            [part] = parts(home)
            assert sorted(await sftp.listdir("/")) == [".", "..", "preview", "reports"]
            for attempt in (
                lambda: sftp.open(part.name, "rb"),
                lambda: sftp.open(f"{PART_PREFIX}mine", "wb"),
                lambda: sftp.stat(part.name),
                lambda: sftp.remove(part.name),
                lambda: sftp.rename(part.name, "stolen.csv"),
                lambda: sftp.mkdir(f"{PART_PREFIX}mine"),
            ):
                with pytest.raises(asyncssh.SFTPPermissionDenied):
                    await attempt()
        assert files(home) == ["students.csv"]

    with_client(config, act)


def test_names_that_are_not_plain_text_are_refused(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for name in (b"bell\x07.csv", b"line\n.csv", b"latin\xe9.csv", b"nul\0.csv"):
            with pytest.raises(asyncssh.SFTPError):
                await sftp.open(name, "wb")
        async with sftp.open("Schüler Liste.csv", "wb") as file:
            await file.write(b"x")
        assert files(home) == ["Schüler Liste.csv"]

    with_client(config, act)


# ---------------------------------------------------------------- uploads


def test_a_file_appears_under_its_name_only_when_it_is_closed(config: Config, home: Path) -> None:
    districts = Districts()

    async def act(sftp: asyncssh.SFTPClient) -> None:
        with structlog.testing.capture_logs() as logs:
            file = await sftp.open("students.csv", "wb")
            await file.write(BIG)
            assert files(home) == [parts(home)[0].name]
            assert parts(home)[0].stat().st_mode & 0o777 == 0o600
            districts.activity.clear()
            await file.close()
            assert files(home) == ["students.csv"]
            await until(lambda: logs)
        assert (home / "students.csv").read_bytes() == BIG
        facts = {"district": "springfield", "account": "springfield", "file": "students.csv", "bytes": len(BIG), "sha256": hashlib.sha256(BIG).hexdigest()}
        assert logs == [{"event": "file_received", "log_level": "info", **facts}]
        assert districts.activity == ["springfield"]

    with_client(config, act, districts)


@pytest.mark.parametrize("seconds", [-5, 2**33])
def test_a_file_of_a_time_that_sftp_does_not_know_hides_no_other(config: Config, home: Path, seconds: int) -> None:
    home.mkdir(parents=True)
    (home / "students.csv").write_bytes(b"from elsewhere")
    os.utime(home / "students.csv", (seconds, seconds))

    async def act(sftp: asyncssh.SFTPClient) -> None:
        assert {"students.csv", "reports"} < {*await sftp.listdir()}
        nearest = min(max(seconds, 0), 2**32 - 1)
        assert (await sftp.stat("students.csv")).mtime == nearest
        async with sftp.open("students.csv", "rb") as file:
            assert (await file.stat()).mtime == nearest
            assert await file.read() == b"from elsewhere"

    with_client(config, act)


def test_what_was_sent_can_be_read_back(config: Config, home: Path, tmp_path: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        (tmp_path / "students.csv").write_bytes(BIG)
        os.utime(tmp_path / "students.csv", (1_000_000_000, 1_000_000_000))
        await sftp.put(str(tmp_path / "students.csv"), "students.csv", preserve=True)
        await sftp.get("students.csv", str(tmp_path / "back.csv"))
        assert (tmp_path / "back.csv").read_bytes() == BIG
        assert (await sftp.stat("students.csv")).mtime == 1_000_000_000
        assert (await sftp.statvfs("/")).bsize > 0

    with_client(config, act)


def test_an_odd_name_does_not_reach_the_log(config: Config) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        with structlog.testing.capture_logs() as logs:
            async with sftp.open("Anna Maria 2009-03-04.csv", "wb") as file:
                await file.write(b"x")
            await until(lambda: logs)
        assert [each["file"] for each in logs] == ["(odd name)"]

    with_client(config, act)


async def hang_up(connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient) -> None:
    connection.close()


async def end_the_session(connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient) -> None:
    sftp.exit()


async def cut_the_wire(connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient) -> None:
    connection.abort()


@pytest.mark.parametrize("end", [hang_up, end_the_session, cut_the_wire])
def test_a_cut_connection_leaves_no_half_file(config: Config, home: Path, end: Callable[..., Awaitable[None]]) -> None:
    async def go() -> None:
        home.mkdir(parents=True)
        (home / "students.csv").write_bytes(b"yesterday")
        with structlog.testing.capture_logs() as logs:
            async with listening(config) as listener:
                connection = await connecting(listener)
                sftp = await connection.start_sftp_client()
                for name in ("students.csv", "teachers.csv"):
                    file = await sftp.open(name, "wb")
                    await file.write(BIG)
                assert len(parts(home)) == 2
                await end(connection, sftp)
                await until(lambda: not parts(home))
                connection.close()
                await connection.wait_closed()
        assert files(home) == ["students.csv"]
        assert (home / "students.csv").read_bytes() == b"yesterday"
        assert cut_off(home) == {"students.csv": BIG, "teachers.csv": BIG}
        assert sorted(each["file"] for each in logs if each["event"] == "upload_abandoned") == ["students.csv", "teachers.csv"]

    asyncio.run(go())


@pytest.mark.parametrize("broken", [struct.pack(">I", 3) + b"\x06\0\0", struct.pack(">I", 1 << 30)])
def test_a_broken_packet_on_a_healthy_connection_leaves_no_half_file(config: Config, home: Path, broken: bytes) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            client = Packets(writer, reader)
            handle = await client.open(b"students.csv")
            writer.write(client.write(handle, b"half") + broken)
            await until(lambda: not parts(home))
            assert files(home) == []

    asyncio.run(go())


def test_a_close_counts_even_where_the_client_hangs_up_without_hearing_the_answer(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            async with await connecting(listener) as connection:
                writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
                client = Packets(writer, reader)
                handle = await client.open(b"students.csv")
                writer.write(client.write(handle, b"whole") + client.packet(4, 3, handle))
                writer.write_eof()
            await until(lambda: home.exists() and not parts(home))
        assert (home / "students.csv").read_bytes() == b"whole"

    asyncio.run(go())


def test_the_end_of_a_session_is_known_even_inside_somebody_elses_except(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                async with sftp.open("whole.csv", "wb") as file:
                    await file.write(b"whole")
                await sftp.open("half.csv", "wb")
            await until(lambda: not parts(home))
            assert files(home) == ["whole.csv"]

    try:
        raise KeyError
    except KeyError:
        asyncio.run(go())


@pytest.mark.parametrize(
    ("mode", "data", "after"),
    [("wb", b"new", b"new"), ("ab", b" new", b"old bytes new"), ("r+b", b"new", b"new bytes")],
    ids=["overwritten", "appended", "changed in place"],
)
def test_what_is_sealed_keeps_its_bytes_when_the_file_is(config: Config, home: Path, mode: str, data: bytes, after: bytes) -> None:
    link = put_sealed(home, "students.csv", b"old bytes")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", mode) as file:
            await file.write(data)
        assert (home / "students.csv").read_bytes() == after
        assert link.read_bytes() == b"old bytes"
        assert link.stat().st_ino != (home / "students.csv").stat().st_ino

    with_client(config, act)


def test_what_is_sealed_keeps_its_bytes_when_the_file_is_cut_by_name(config: Config, home: Path) -> None:
    link = put_sealed(home, "students.csv", b"old bytes")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        await sftp.truncate("students.csv", 3)
        assert (home / "students.csv").read_bytes() == b"old"
        assert link.read_bytes() == b"old bytes"
        async with sftp.open("students.csv", "r+b") as file:
            await file.truncate(1)
        assert (home / "students.csv").read_bytes() == b"o"
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.truncate("nothing.csv", 3)

    with_client(config, act)


def test_owners_and_permissions_are_accepted_and_ignored(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", "wb", asyncssh.SFTPAttrs(permissions=0o777)) as file:
            await file.write(b"x")
            await file.chmod(0o777)
        await sftp.chmod("students.csv", 0o777)
        await sftp.chown("students.csv", 12345, 12345)
        await sftp.utime("students.csv", (1_000_000_000, 1_000_000_000))
        facts = (home / "students.csv").stat()
        assert (facts.st_mode & 0o777, facts.st_uid, facts.st_mtime) == (0o600, os.getuid(), 1_000_000_000)

    with_client(config, act)


def test_an_exclusive_upload_never_replaces_another(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        first, second = await sftp.open("students.csv", "xb"), await sftp.open("students.csv", "xb")
        await first.write(b"first")
        await second.write(b"second")
        await first.close()
        with pytest.raises(asyncssh.SFTPError):
            await second.close()
        with pytest.raises(asyncssh.SFTPError):
            await sftp.open("students.csv", "xb")
        assert files(home) == ["students.csv"]
        assert (home / "students.csv").read_bytes() == b"first"
        assert (home / "students.csv").stat().st_nlink == 1

    with_client(config, act)


def test_of_two_uploads_to_one_name_the_last_closed_stands_whole(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        first, second = await sftp.open("students.csv", "wb"), await sftp.open("students.csv", "wb")
        await asyncio.gather(first.write(b"1" * 100_000), second.write(b"2" * 50_000))
        await second.close()
        assert (home / "students.csv").read_bytes() == b"2" * 50_000
        await first.close()
        assert (home / "students.csv").read_bytes() == b"1" * 100_000
        assert parts(home) == []

    with_client(config, act)


def test_a_file_that_is_not_there_is_not_made_unless_asked(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for mode in ("rb", "r+b"):
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.open("nothing.csv", mode)
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.open("no/folder.csv", "wb")
        assert files(home) == []

    with_client(config, act)


def test_a_file_open_for_reading_cannot_be_written(config: Config, home: Path) -> None:
    put_sealed(home, "students.csv", b"old bytes")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", asyncssh.FXF_READ, encoding=None) as file:
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await file.write(b"new")
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await file.truncate(0)
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await file.utime((0, 0))
        assert (home / "students.csv").read_bytes() == b"old bytes"

    with_client(config, act)


@contextmanager
def small_files(home: Path) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("shortage", [partial(a_disk_of, size="256k"), small_files])
def test_a_full_disk_fails_the_close_and_leaves_no_file(config: Config, home: Path, shortage: Callable[..., object]) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        with shortage(home):
            file = await sftp.open("students.csv", "wb")
            with pytest.raises(asyncssh.SFTPError):
                await file.write(BIG)
            with pytest.raises(asyncssh.SFTPError):
                await file.close()
            assert files(home) == []
            async with sftp.open("students.csv", "wb") as again:
                await again.write(b"small")
            assert files(home) == ["students.csv"]

    with_client(config, act)


# ---------------------------------------------------------------- names


def test_files_are_renamed_as_clients_do_it(config: Config, home: Path) -> None:
    link = put_sealed(home, "students.csv", b"old")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for rename in (sftp.rename, sftp.posix_rename):
            async with sftp.open("students.csv.filepart", "wb") as file:
                await file.write(b"new")
            await rename("students.csv.filepart", "students.csv")
            assert files(home) == ["students.csv"]
            assert (home / "students.csv").read_bytes() == b"new"
        assert link.read_bytes() == b"old"
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.rename("nothing.csv", "students.csv")

    with_client(config, act)


def test_folders_are_made_listed_and_removed(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        await sftp.mkdir("2026")
        async with sftp.open("2026/students.csv", "wb") as file:
            await file.write(b"x")
        [listed] = [each for each in await sftp.readdir("2026") if each.filename == "students.csv"]
        assert listed.attrs.size == 1
        assert "springfield" in str(listed.longname)
        with pytest.raises(asyncssh.SFTPError):
            await sftp.rmdir("2026")
        await sftp.remove("2026/students.csv")
        await sftp.rmdir("2026")
        with pytest.raises(asyncssh.SFTPError):
            await sftp.rmdir("/")
        assert sorted(path.name for path in home.iterdir()) == ["preview", "reports"]

    with_client(config, act)


# ---------------------------------------------------------------- OpenSSH's own client


@needs_openssh
def test_openssh_puts_resumes_lists_renames_and_gets(config: Config, home: Path, tmp_path: Path) -> None:
    key, sent = tmp_path / "key", tmp_path / "students.csv"
    KEY.write_private_key(key)
    key.chmod(0o600)
    sent.write_bytes(BIG)
    link = put_sealed(home, "resumed.csv", BIG[:1000])
    batch = f"""
        pwd
        put -p {sent} students.csv.filepart
        rename students.csv.filepart students.csv
        reput {sent} resumed.csv
        mkdir old
        rename students.csv old/students.csv
        put {sent} students.csv
        chmod 644 students.csv
        ls -la
        df
        get students.csv {tmp_path}/back.csv
        rm old/students.csv
        rmdir old
        -symlink students.csv link
        -ln students.csv hardlink
    """

    async def go() -> None:
        async with listening(config) as listener:
            done = await asyncio.to_thread(run_sftp, listener.port, key, batch)
            assert done.returncode == 0, done.stderr
            assert "Remote working directory: /\n" in done.stdout
            assert "students.csv" in done.stdout
        assert files(home) == ["resumed.csv", "students.csv"]
        assert (home / "students.csv").read_bytes() == (home / "resumed.csv").read_bytes() == (tmp_path / "back.csv").read_bytes() == BIG
        assert link.read_bytes() == BIG[:1000]

    asyncio.run(go())


@needs_openssh
def test_openssh_killed_in_the_middle_leaves_no_half_file(crewed: Config, home: Path, tmp_path: Path) -> None:
    key, sent = tmp_path / "key", tmp_path / "students.csv"
    KEY.write_private_key(key)
    key.chmod(0o600)
    sent.write_bytes(BIG * 8)

    async def go() -> None:
        async with listening(crewed) as listener:
            command = [str(SFTP), "-F", "none", "-b", "-", "-l", "4096", "-P", str(listener.port), "-i", str(key), "-o", "StrictHostKeyChecking=no"]
            command += ["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentityAgent=none", "springfield@127.0.0.1"]
            client = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-3, stderr=-3, start_new_session=True)
            assert client.stdin
            client.stdin.write(f"put {sent} students.csv\n".encode())
            await until(lambda: home.exists() and any(path.stat().st_size for path in parts(home)))
            os.killpg(client.pid, 9)
            await client.wait()
            await until(lambda: not parts(home))
            assert files(home) == []

    asyncio.run(go())


# ---------------------------------------------------------------- beginning and end


def test_draining_lets_an_open_upload_finish_and_lets_nobody_in(crewed: Config, home: Path) -> None:
    async def go() -> None:
        listener = await server.listen(crewed, Districts().lookup, lambda _: None, LOGGING)
        connection = await connecting(listener)
        sftp = await connection.start_sftp_client()
        file = await sftp.open("students.csv", "wb")
        await file.write(b"begun ")
        draining = asyncio.create_task(listener.drain(10))
        await asyncio.sleep(0.1)
        with pytest.raises(OSError, match="Connect"):
            await connecting(listener)
        assert not draining.done()
        await file.write(b"and ended")
        await file.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await draining
            await connection.wait_closed()
        assert (home / "students.csv").read_bytes() == b"begun and ended"

    asyncio.run(go())


def test_draining_cuts_off_what_takes_longer_than_the_grace(crewed: Config, home: Path) -> None:
    async def go() -> None:
        listener = await server.listen(crewed, Districts().lookup, lambda _: None, LOGGING)
        connection = await connecting(listener)
        sftp = await connection.start_sftp_client()
        file = await sftp.open("students.csv", "wb")
        await file.write(b"begun")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await listener.drain(0.1)
        assert files(home) == []
        await connection.wait_closed()

    asyncio.run(go())


def test_parts_of_a_server_that_was_killed_can_be_gone_on_with_after_the_next_start(config: Config, home: Path) -> None:
    (home / "2026").mkdir(parents=True)
    for path in (home, home / "2026"):
        (path / f"{PART_PREFIX}01234567-students.csv").write_bytes(b"older")
        os.utime(path / f"{PART_PREFIX}01234567-students.csv", (1, 1))
        with (path / f"{PART_PREFIX}89abcdef-students.csv").open("wb") as file:
            file.write(BIG)
            file.seek(4 << 20)
            file.write(b"written before what lies between")
        (path / f"{PART_PREFIX}01234567-sections.csv").write_bytes(b"overtaken")
        (path / "sections.csv").write_bytes(b"whole")
        (path / f"{PART_PREFIX}0123456789abcdef").write_bytes(b"nobody knows of what")
        (path / f"{PART_PREFIX}01234567-empty.csv").write_bytes(b"")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        assert parts(home) == []
        assert files(home) == files(home / "2026") == ["sections.csv"]
        assert cut_off(home) == cut_off(home / "2026") == {"students.csv": BIG}

    with_client(config, act)


def test_whatever_lies_in_a_home_keeps_nobody_out_and_what_is_cut_off_there_is_found(config: Config, home: Path, dig: Digger, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    with dig(home, "a", 1_200):
        pass
    with dig(home, "d" * 255, 20) as deepest, open(f"{PART_PREFIX}01234567-students.csv", "wb", opener=partial(os.open, dir_fd=deepest)) as part:
        part.write(b"begun")
    (tmp_path / "precious").write_bytes(b"precious")
    os.truncate(tmp_path / "precious", 1 << 20)
    (home / f"{PART_PREFIX}01234567-link").symlink_to(tmp_path / "precious")
    (home / f"{PART_PREFIX}01234567-taken.csv").write_bytes(b"begun")
    (home / cut("taken.csv")).mkdir()

    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("sections.csv", "wb") as file:  # for which the home is measured
            await file.write(b"whole")

    with structlog.testing.capture_logs() as logs:
        with_client(config, act)
    assert [each["fault"] for each in logs if each["log_level"] == "error"] == [os.strerror(errno.EISDIR)]
    assert (tmp_path / "precious").stat().st_size == 1 << 20
    with paths.walked(home, ["d" * 255] * 20) as folder:
        assert paths.facts(folder, cut("students.csv")).st_size == len(b"begun")


def test_a_host_key_is_private_and_never_replaced(tmp_path: Path) -> None:
    fingerprint = hostkeys.make_host_key(tmp_path / "host_key")
    assert fingerprint == asyncssh.read_private_key(tmp_path / "host_key").get_fingerprint()
    assert (tmp_path / "host_key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match=r"^server\.host_key: "):
        hostkeys.make_host_key(tmp_path / "host_key")


def test_a_server_that_cannot_start_names_the_key(config: Config) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            taken = replace(config, server=replace(config.server, port=listener.port))
            with pytest.raises(ConfigError, match=r"server\.port: 127\.0\.0\.1 port \d+ cannot be opened: Address already in use$"):
                await server.listen(taken, Districts().lookup, lambda _: None, LOGGING)
        config.host_keys[0].unlink()
        with pytest.raises(ConfigError, match=r"^server\.host_key: "):
            await server.listen(config, Districts().lookup, lambda _: None, LOGGING)

    asyncio.run(go())
