"""Every way out of a home, tried from inside it, with traps that lie there already: nothing beyond it is read, written or learnt."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from sftp_ingest.config import Config
from tests.integration.port import PASSWORD, PATIENCE_SECONDS, by_password, connecting, files, listening, put_sealed, with_client

SECRET = b"not yours"
Attempt = Callable[[asyncssh.SFTPClient, str], Awaitable[object]]


async def read(sftp: asyncssh.SFTPClient, path: str) -> object:
    async with sftp.open(path, "rb") as file:
        return await file.read()


async def write(sftp: asyncssh.SFTPClient, path: str) -> object:
    async with sftp.open(path, "wb") as file:
        return await file.write(b"mine")


async def append(sftp: asyncssh.SFTPClient, path: str) -> object:
    async with sftp.open(path, "ab") as file:
        return await file.write(b"mine")


async def change(sftp: asyncssh.SFTPClient, path: str) -> object:
    async with sftp.open(path, "r+b") as file:
        return await file.write(b"mine")


async def move_out(sftp: asyncssh.SFTPClient, path: str) -> object:
    async with sftp.open("mine.csv", "wb") as file:
        await file.write(b"mine")
    return await sftp.posix_rename("mine.csv", path)


async def move_in(sftp: asyncssh.SFTPClient, path: str) -> object:
    return await sftp.rename(path, "stolen.csv")


async def link(sftp: asyncssh.SFTPClient, path: str) -> object:
    return await sftp.link(path, "stolen.csv")


async def symlink(sftp: asyncssh.SFTPClient, path: str) -> object:
    return await sftp.symlink(path, "stolen.csv")


async def times(sftp: asyncssh.SFTPClient, path: str) -> object:
    return await sftp.utime(path, (1, 1))


ATTEMPTS: tuple[Attempt, ...] = (
    *(read, write, append, change, move_out, move_in, link, symlink, times),
    *(lambda sftp, path: sftp.truncate(path, 0), lambda sftp, path: sftp.chmod(path, 0o777), lambda sftp, path: sftp.chown(path, 0, 0)),
    *(lambda sftp, path: sftp.remove(path), lambda sftp, path: sftp.rmdir(path), lambda sftp, path: sftp.mkdir(path)),
    *(lambda sftp, path: sftp.listdir(path), lambda sftp, path: sftp.stat(path), lambda sftp, path: sftp.lstat(path), lambda sftp, path: sftp.readlink(path)),
    *(lambda sftp, path: sftp.statvfs(path), lambda sftp, path: sftp.realpath(path)),
)


def told(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of a tree from outside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(facts.st_mode) else b""
        found[str(path)] = (facts.st_mode, facts.st_ino, facts.st_nlink, facts.st_mtime_ns, content)
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beyond the home, with something in it; nobody has a reason to touch it."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "secret.csv").write_bytes(SECRET)
    (folder / "sub" / "secret.csv").write_bytes(SECRET)
    return folder


async def all_tried(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Everything that a client can do to a path; what is answered, if anything is, is not the secret."""
    for attempt in ATTEMPTS:
        with suppress(asyncssh.SFTPError):
            answer = await attempt(sftp, path)
            assert SECRET not in repr(answer).encode()
            if isinstance(answer, list):
                assert not any("secret" in str(each) for each in answer)


# ---------------------------------------------------------------- tricks with paths


TRICKS = (
    *("..", "../..", "../../outside/secret.csv", "/../../../outside/secret.csv", "{outside}", "{outside}/secret.csv", "//{outside}/secret.csv"),
    *("preview/../../../outside/secret.csv", "./.././../outside", "reports/../../shelbyville/theirs.csv", "../shelbyville/theirs.csv", "/etc/passwd"),
    *("/proc/self/root{outside}/secret.csv", "/proc/self/cwd", "/dev/fd/0", "~/secret.csv", "~root", "..\\..\\outside\\secret.csv", "%2e%2e/outside"),
    *("..;/outside/secret.csv", "\u2024\u2024/outside", "\uff0e\uff0e/outside", "a" * 255 + "/../../outside", "/".join(["a"] * 40), "../" * 500 + "etc/passwd"),
)


def test_no_trick_with_a_path_leads_out(config: Config, home: Path, outside: Path) -> None:
    theirs = config.homes / "shelbyville"
    theirs.mkdir(parents=True)
    (theirs / "theirs.csv").write_bytes(SECRET)
    before = told(outside), told(theirs)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for trick in TRICKS:
            await all_tried(sftp, trick.format(outside=outside))

    with_client(config, act)
    assert (told(outside), told(theirs)) == before
    assert {path.name for path in config.homes.iterdir()} == {"springfield", "shelbyville"}
    assert not [path for path in home.rglob("*") if path.is_symlink()]


def test_what_lies_beyond_cannot_even_be_told_from_what_does_not(config: Config, outside: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        answers = []
        for path in (f"{outside}/secret.csv", f"{outside}/nothing.csv"):
            with pytest.raises(asyncssh.SFTPError) as caught:
                await sftp.stat(path)
            answers.append((caught.value.code, caught.value.reason))
        assert answers[0] == answers[1]

    with_client(config, act)


# ---------------------------------------------------------------- traps that lie there already


def test_links_that_lie_in_the_home_lead_nowhere(config: Config, home: Path, outside: Path) -> None:
    home.mkdir(parents=True)
    before = told(outside)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for target in (str(outside), "../../../outside", "/", ".", "..", "itself", "nowhere"):
            for path in ("itself", "itself/secret.csv", "itself/sub/secret.csv", "itself/../itself/secret.csv"):
                (home / "itself").unlink(missing_ok=True)
                with suppress(FileExistsError):
                    (home / "itself").symlink_to(target)
                await all_tried(sftp, path)
                for left in home.iterdir():
                    if left.name not in ("reports", "preview"):
                        left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()

    with_client(config, act)
    assert told(outside) == before


def test_a_link_in_the_place_of_a_folder_of_ours_is_not_followed(config: Config, home: Path, outside: Path) -> None:
    """The home's own folders are made by us, and are folders when a session begins; what takes their place later is not walked into."""
    before = told(outside)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for name in ("reports", "preview"):
            (home / name).rmdir()
            (home / name).symlink_to(outside)
            await all_tried(sftp, f"{name}/secret.csv")
            await all_tried(sftp, f"{name}/sub/secret.csv")

    with_client(config, act)
    assert told(outside) == before


def test_a_home_that_is_a_link_is_not_entered(config: Config, home: Path, outside: Path) -> None:
    config.homes.mkdir(parents=True)
    home.symlink_to(outside)
    (outside / "reports").mkdir()
    (outside / "preview").mkdir()
    before = told(outside)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for path in ("/", "secret.csv", "sub/secret.csv", "new.csv"):
            await all_tried(sftp, path)

    with_client(config, act)
    assert told(outside) == before


def test_what_a_delivery_sealed_is_not_touched_by_anything(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for attempt in ATTEMPTS:
            link = put_sealed(home, "students.csv", b"sealed bytes")
            before = (link.read_bytes(), link.stat().st_mtime_ns, link.stat().st_mode, link.stat().st_ino)
            with suppress(asyncssh.SFTPError):
                await attempt(sftp, "students.csv")
            assert (link.read_bytes(), link.stat().st_mtime_ns, link.stat().st_mode, link.stat().st_ino) == before
            for path in (link, home / "students.csv", home / "stolen.csv"):
                path.unlink(missing_ok=True)

    with_client(config, act)


def test_times_can_be_set_also_of_a_file_that_is_sealed(config: Config, home: Path) -> None:
    link = put_sealed(home, "students.csv", b"sealed bytes")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        await sftp.utime("students.csv", (1_000_000_000, 1_000_000_000))
        assert (home / "students.csv").stat().st_mtime == 1_000_000_000 != link.stat().st_mtime
        assert (home / "students.csv").read_bytes() == link.read_bytes() == b"sealed bytes"

    with_client(config, act)


def test_pipes_sockets_and_devices_are_neither_opened_nor_written(config: Config, home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    os.mkfifo(home / "pipe")
    with suppress(PermissionError):
        os.mknod(home / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for name in ("pipe", "device"):
            for attempt in (read, write, append, change):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    with pytest.raises(asyncssh.SFTPError):
                        await attempt(sftp, name)
            await sftp.stat(name) if (home / name).exists() else None

    with_client(config, act)


# ---------------------------------------------------------------- races


def test_a_folder_that_becomes_a_link_between_check_and_use_leads_nowhere(config: Config, home: Path, outside: Path) -> None:
    """A thread puts a link in the place of the folder and the folder back again, as fast as it can, while the client uses it."""
    (home / "real").mkdir(parents=True)
    (home / "trap").symlink_to(outside)
    before = told(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (home / "folder").unlink(missing_ok=True) if (home / "folder").is_symlink() else None
            with suppress(OSError):
                (home / "real").rename(home / "folder")
            with suppress(OSError):
                (home / "folder").rename(home / "real")
            with suppress(OSError):
                (home / "folder").symlink_to(outside)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        swapping = threading.Thread(target=swap)
        swapping.start()
        try:
            for _ in range(150):
                for attempt in (read, write, move_out, move_in, times):
                    with suppress(asyncssh.SFTPError):
                        assert await attempt(sftp, "folder/secret.csv") != SECRET
                with suppress(asyncssh.SFTPError):
                    assert "sub" not in await sftp.listdir("folder")
        finally:
            stop.set()
            await asyncio.to_thread(swapping.join)

    with_client(config, act)
    assert told(outside) == before


# ---------------------------------------------------------------- names


def test_names_of_255_bytes_are_taken_and_longer_ones_are_not(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for name in ("a" * 255, "ü" * 127 + "x"):
            await write(sftp, name)
            await sftp.rename(name, name[::-1] if name[0] != "a" else "b" * 255)
        with pytest.raises(asyncssh.SFTPError):
            await write(sftp, "a" * 256)
        with pytest.raises(asyncssh.SFTPError):
            await sftp.rename("b" * 255, "b" * 256)
        assert files(home) == sorted(["b" * 255, "x" + "ü" * 127])

    with_client(config, act)


def test_any_bytes_in_a_name_are_answered_and_harm_nothing(config: Config, home: Path, outside: Path) -> None:
    before = told(outside)

    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection, connection.start_sftp_client(path_encoding=None) as sftp:
            for byte in range(256):
                name = b"a" + bytes([byte]) + b"b"
                for path in (name, name + b"/" + name, b"../" + name):
                    with suppress(asyncssh.SFTPError):
                        async with sftp.open(path, "wb") as file:
                            await file.write(b"x")
            for path in (b"", b".", b"/", b"\0", b"a\0/../../outside", b"\xff" * 300, b"/" * 5000):
                for act in (sftp.stat, sftp.listdir, sftp.remove, sftp.rmdir, sftp.mkdir):
                    with suppress(asyncssh.SFTPError):
                        await act(path)
            assert b"a b" in await sftp.listdir(b"/")
        assert all(name.isprintable() and name.isascii() for name in files(home))

    asyncio.run(go())
    assert told(outside) == before


def test_names_that_differ_in_case_alone_are_two_files(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for name in ("students.csv", "Students.csv", "STUDENTS.CSV", "Reports"):
            async with sftp.open(name, "wb") as file:
                await file.write(name.encode())
        await sftp.remove("Students.csv")
        assert files(home) == ["Reports", "STUDENTS.CSV", "students.csv"]
        assert (home / "students.csv").read_bytes() == b"students.csv"
        assert (home / "reports").is_dir()

    with_client(config, act)


def test_modes_that_a_client_asks_for_are_not_given(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", "wb", asyncssh.SFTPAttrs(permissions=0o106777, uid=12345, gid=12345)) as file:
            await file.write(b"x")
            await file.chmod(0o7777)
        await sftp.mkdir("folder", asyncssh.SFTPAttrs(permissions=0o47777))
        for name in ("students.csv", "folder"):
            await sftp.chmod(name, 0o7777)
        assert [(home / name).stat().st_mode & 0o7777 for name in ("students.csv", "folder")] == [0o600, 0o700]
        assert (home / "students.csv").stat().st_uid == os.getuid()

    with_client(config, act)


# ---------------------------------------------------------------- places


@pytest.mark.parametrize(
    "path", ["reports/latest.txt", "./reports/./latest.txt", "/x/../reports/latest.txt", "//reports//latest.txt", "reports/new.txt", "reports"]
)
def test_reports_are_changed_by_nothing_however_they_are_spelled(config: Config, home: Path, path: str) -> None:
    (home / "reports").mkdir(parents=True)
    (home / "reports" / "latest.txt").write_text("all is well")
    before = told(home / "reports")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for attempt in ATTEMPTS:
            with suppress(asyncssh.SFTPError):
                await attempt(sftp, path)
        assert await read(sftp, "reports/latest.txt") == b"all is well"

    with_client(config, act)
    assert told(home / "reports") == before


def test_two_districts_see_nothing_of_each_other(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            async with await connecting(listener) as one, one.start_sftp_client() as mine:
                await write(mine, "students.csv")
            async with await connecting(listener, "shelbyville", **by_password(PASSWORD)) as other, other.start_sftp_client() as theirs:
                assert sorted(await theirs.listdir("/")) == [".", "..", "preview", "reports"]
                for path in ("/springfield/students.csv", "../springfield/students.csv", str(home / "students.csv")):
                    with pytest.raises(asyncssh.SFTPNoSuchFile):
                        await read(theirs, path)

    asyncio.run(go())


def test_a_folder_that_moves_while_a_file_is_sent_into_it_takes_the_file_along(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        await sftp.mkdir("old")
        file = await sftp.open("old/students.csv", "wb")
        await file.write(b"whole")
        await sftp.rename("old", "new")
        await file.close()
        assert (home / "new" / "students.csv").read_bytes() == b"whole"
        with pytest.raises(asyncssh.SFTPError):
            await sftp.rename("new", "new/inner")

    with_client(config, act)
