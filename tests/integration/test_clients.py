"""The programs that districts really use, each as its own process against a real listener, and the manners of those that run elsewhere, request by request."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest

from sftp_ingest.config import Config
from sftp_ingest.intake import inbox
from tests.integration.port import (
    BIG,
    PASSWORD,
    Packets,
    connecting,
    cut_off,
    files,
    listening,
    needs_openssh,
    parts,
    private_key,
    run_sftp,
    until,
    with_client,
)

NIGHT = {f"{name}.csv": os.urandom(10_000 + 1000 * number) for number, name in enumerate(("schools", "students", "teachers", "sections", "enrollments"))}


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed: apt-get install {package}")


@dataclass
class Site:
    """What a program is told: the port, the key, a folder with a night's files, and one to work in."""

    port: int
    key: Path
    night: Path
    work: Path
    known_hosts: Path

    def run(self, *command: str, **how: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.work), "XDG_CONFIG_HOME": str(self.work), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, timeout=60, check=False, **how)  # type: ignore[call-overload]
        assert isinstance(done, subprocess.CompletedProcess)
        return done

    def lftp(self, commands: str) -> subprocess.CompletedProcess[str]:
        connect = f"ssh -a -x -F none -i {self.key} -o IdentitiesOnly=yes -o IdentityAgent=none -o UserKnownHostsFile={self.known_hosts}"
        settings = f'set sftp:connect-program "{connect}"; set net:max-retries 1; set cmd:fail-exit yes; set sftp:auto-confirm no'
        return self.run("lftp", "-c", f"{settings}; open -p {self.port} -u springfield,none sftp://127.0.0.1; {commands}")


def at_work(config: Config, tmp_path: Path, act: Callable[[Site], None]) -> None:
    """Run what a program does in a thread, while the server runs."""

    async def go() -> None:
        night, work = tmp_path / "night", tmp_path / "work"
        for folder in (night, work):
            folder.mkdir()
        for name, content in NIGHT.items():
            (night / name).write_bytes(content)
        async with listening(config) as listener:
            host_key = asyncssh.read_private_key(config.host_keys[0]).export_public_key().decode().strip()
            known_hosts = tmp_path / "known_hosts"
            known_hosts.write_text(f"[127.0.0.1]:{listener.port} {host_key}\n")
            await asyncio.to_thread(act, Site(listener.port, private_key(tmp_path), night, work, known_hosts))
            await until(lambda: not listener.guests)

    asyncio.run(go())


def arrived(home: Path) -> dict[str, bytes]:
    assert not parts(home)
    return {name: (home / name).read_bytes() for name in files(home)}


# ---------------------------------------------------------------- the programs themselves


@needs_openssh
def test_openssh_sftp_delivers_a_night_with_a_batch(config: Config, home: Path, tmp_path: Path) -> None:
    def act(site: Site) -> None:
        for _ in range(2):  # the second night replaces the first
            done = run_sftp(site.port, site.key, f"lcd {site.night}\nmput -p *.csv\nls -l\nbye\n")
            assert done.returncode == 0, done.stderr
        done = run_sftp(site.port, site.key, f"put -r {site.night} copy\nget -r copy {site.work}/back\nrm copy/*\nrmdir copy\n")
        assert done.returncode == 0, done.stderr
        assert {path.name: path.read_bytes() for path in (site.work / "back").iterdir()} == NIGHT

    at_work(config, tmp_path, act)
    assert arrived(home) == NIGHT


@needs_openssh
def test_openssh_scp_delivers_a_night_and_says_so(config: Config, home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (home / "students.csv").write_bytes(NIGHT["students.csv"] + b"of yesterday")

    def act(site: Site) -> None:
        options = ["-F", "none", "-s", "-P", str(site.port), "-i", str(site.key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
        command = ["scp", *options, "-o", f"UserKnownHostsFile={site.known_hosts}"]
        for sent in (["-p", *(str(site.night / name) for name in NIGHT), "springfield@127.0.0.1:"], ["springfield@127.0.0.1:students.csv", "back.csv"]):
            done = site.run(*command, *sent)
            assert (done.returncode, done.stderr) == (0, "")
        assert (site.work / "back.csv").read_bytes() == NIGHT["students.csv"]
        done = site.run(*command, str(site.night / "schools.csv"), "springfield@127.0.0.1:nowhere/schools.csv")
        assert done.returncode
        assert "No such file" in done.stderr

    at_work(config, tmp_path, act)
    assert arrived(home) == NIGHT


@needs_openssh
def test_openssh_reput_goes_on_where_a_cut_left_off(config: Config, home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (home / "students.csv").write_bytes(b"yesterday")
    sent = tmp_path / "students.csv"
    sent.write_bytes(BIG * 3)

    async def go() -> None:
        async with listening(config) as listener:
            await cut_after(listener, home, "students.csv", BIG)
            assert cut_off(home) == {"students.csv": BIG}
            done = await asyncio.to_thread(run_sftp, listener.port, private_key(tmp_path), f"ls -l\nreput {sent}\n")
            assert done.returncode == 0, done.stderr
            assert f" {len(BIG)} " in done.stdout
        assert cut_off(home) == {}
        assert (home / "students.csv").read_bytes() == BIG * 3

    asyncio.run(go())


async def cut_after(listener: object, home: Path, name: str, content: bytes) -> None:
    """An upload of which no more than this arrives."""
    connection = await connecting(listener)  # type: ignore[arg-type]
    sftp = await connection.start_sftp_client()
    file = await sftp.open(name, "wb")
    await file.write(content)
    connection.abort()
    await until(lambda: not parts(home))


@needs("lftp", "lftp")
def test_lftp_mirrors_twice_and_goes_on_with_what_was_cut(config: Config, home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (home / f"{inbox.CUT_PREFIX}students.csv").write_bytes(NIGHT["students.csv"][:4000])

    def act(site: Site) -> None:
        done = site.lftp(f"put -c {site.night}/students.csv")
        assert done.returncode == 0, done.stderr
        assert arrived(home) == {"students.csv": NIGHT["students.csv"]}
        for arguments in ("-R", "-R --delete -x ^reports/ -x ^preview/ --parallel=3", "-R -c --only-newer"):
            (home / "foreign.csv").write_bytes(b"x")
            done = site.lftp(f"mirror {arguments} {site.night} .")
            assert done.returncode == 0, done.stderr
            (home / "foreign.csv").unlink(missing_ok=True)
            assert arrived(home) == NIGHT
        done = site.lftp(f"mirror . {site.work}/back; mv students.csv old.csv; rm old.csv; mkdir -p a/b; rmdir a/b a; cls -l")
        assert done.returncode == 0, done.stderr
        assert (site.work / "back" / "students.csv").read_bytes() == NIGHT["students.csv"]

    at_work(config, tmp_path, act)


@needs("psftp", "putty-tools")
def test_psftp_puts_resumes_lists_and_gets(config: Config, home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (home / f"{inbox.CUT_PREFIX}students.csv").write_bytes(NIGHT["students.csv"][:4000])

    def act(site: Site) -> None:
        fingerprint = asyncssh.read_private_key(config.host_keys[0]).get_fingerprint()
        batch = site.work / "batch"
        batch.write_text(
            f"lcd {site.night}\nreput students.csv\nmput *.csv\nls\nmkdir a\nmv students.csv a/x\nmv a/x students.csv\nrmdir a\nget students.csv back.csv\n"
        )
        command = ["psftp", "-batch", "-P", str(site.port), "-pw", PASSWORD, "-hostkey", fingerprint, "-b", str(batch), "springfield@127.0.0.1"]
        done = site.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (site.night / "back.csv").read_bytes() == NIGHT["students.csv"]

    at_work(config, tmp_path, act)
    assert arrived(home) == NIGHT


def curl_speaks_sftp() -> bool:
    curl = shutil.which("curl")
    return curl is not None and "sftp" in subprocess.run([curl, "--version"], capture_output=True, text=True, check=False).stdout


@pytest.mark.skipif(not curl_speaks_sftp(), reason="no curl that speaks SFTP is installed")
def test_curl_uploads_appends_goes_on_and_downloads(config: Config, home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (home / f"{inbox.CUT_PREFIX}students.csv").write_bytes(NIGHT["students.csv"][:4000])

    def act(site: Site) -> None:
        url = f"sftp://springfield@127.0.0.1:{site.port}"
        how = ["curl", "--silent", "--show-error", "--insecure", "--user", f"springfield:{PASSWORD}"]
        students = str(site.night / "students.csv")
        for arguments in (
            ["-C", "-", "-T", students, f"{url}/students.csv"],
            ["--upload-file", f"{{{','.join(str(site.night / each) for each in NIGHT)}}}", f"{url}/"],
        ):
            done = site.run(*how, *arguments)
            assert done.returncode == 0, done.stderr
            assert (home / "students.csv").read_bytes() == NIGHT["students.csv"]
        done = site.run(*how, "--append", "-T", students, f"{url}/students.csv")
        assert done.returncode == 0, done.stderr
        done = site.run(*how, "-o", "back.csv", f"{url}/students.csv", "-Q", "*rm /nothing.csv", "-Q", "mkdir /a", "-Q", "rename /a /b", "-Q", "rmdir /b")
        assert done.returncode == 0, done.stderr
        assert (site.work / "back.csv").read_bytes() == 2 * NIGHT["students.csv"]

    at_work(replace(config, server=replace(config.server, older_clients=True)), tmp_path, act)
    assert arrived(home) == NIGHT | {"students.csv": 2 * NIGHT["students.csv"]}


@needs("rclone", "rclone")
def test_rclone_syncs_checks_and_moves(config: Config, home: Path, tmp_path: Path) -> None:
    def act(site: Site) -> None:
        remote = f":sftp,host=127.0.0.1,port={site.port},user=springfield,key_file={site.key},known_hosts_file={site.known_hosts},shell_type=none:"
        for command in (["sync"], ["sync", "--checksum", "--ignore-times"], ["check", "--download"], ["copy", "--ignore-times"]):
            done = site.run("rclone", "--retries", "1", *command, str(site.night), f"{remote}night")
            assert done.returncode == 0, done.stderr
        for name in NIGHT:
            done = site.run("rclone", "--retries", "1", "moveto", f"{remote}night/{name}", f"{remote}{name}")
            assert done.returncode == 0, done.stderr
        done = site.run("rclone", "about", remote)
        assert done.returncode == 0, done.stderr

    at_work(config, tmp_path, act)
    assert arrived(home) == NIGHT


@needs("sshfs", "sshfs")
def test_sshfs_is_a_folder_like_any_other(config: Config, home: Path, tmp_path: Path) -> None:
    def act(site: Site) -> None:
        with mounted(site) as folder:
            for name, content in NIGHT.items():
                shutil.copy2(site.night / name, folder / name)
                assert (folder / name).read_bytes() == content
            with (folder / "students.csv").open("r+b") as file:
                file.seek(100)
                file.write(b"changed")
                file.flush()
                os.fsync(file.fileno())
            with (folder / "teachers.csv").open("ab") as file:
                file.write(b"more")
            os.truncate(folder / "schools.csv", 10)
            (folder / "night").mkdir()
            (folder / "sections.csv").rename(folder / "night" / "sections.csv")
            (folder / "night" / "sections.csv").rename(folder / "sections.csv")
            (folder / "night").rmdir()
            (folder / "enrollments.csv").unlink()
            assert os.statvfs(folder).f_bsize

    at_work(config, tmp_path, act)
    changed = NIGHT["students.csv"][:100] + b"changed" + NIGHT["students.csv"][107:]
    expected = NIGHT | {"students.csv": changed, "teachers.csv": NIGHT["teachers.csv"] + b"more", "schools.csv": NIGHT["schools.csv"][:10]}
    assert arrived(home) == {name: content for name, content in expected.items() if name != "enrollments.csv"}


@contextmanager
def mounted(site: Site) -> Iterator[Path]:
    folder = site.work / "home"
    folder.mkdir()
    options = [f"IdentityFile={site.key}", "IdentitiesOnly=yes", "IdentityAgent=none", f"UserKnownHostsFile={site.known_hosts}", f"port={site.port}"]
    done = site.run("sshfs", "springfield@127.0.0.1:", str(folder), *(word for each in options for word in ("-o", each)))
    if done.returncode and ("fuse" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"FUSE does not work here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    try:
        yield folder
    finally:
        subprocess.run(["fusermount3" if shutil.which("fusermount3") else "fusermount", "-u", str(folder)], check=True)


def test_paramiko_puts_confirms_renames_and_appends(config: Config, home: Path, tmp_path: Path) -> None:
    paramiko = pytest.importorskip("paramiko", reason="paramiko is not installed")

    def act(site: Site) -> None:
        with paramiko.Transport(("127.0.0.1", site.port)) as transport:
            transport.connect(username="springfield", pkey=paramiko.Ed25519Key.from_private_key_file(str(site.key)))
            sftp = paramiko.SFTPClient.from_transport(transport)
            for name in NIGHT:
                sftp.put(str(site.night / name), f"{name}.tmp", confirm=True)
                sftp.posix_rename(f"{name}.tmp", name)
                sftp.chmod(name, 0o644)
                sftp.utime(name, (1, 2))
                assert sftp.stat(name).st_mtime == 2
            with sftp.open("students.csv", "a") as file:
                file.set_pipelined(True)
                file.write(b"more")
            with sftp.open("teachers.csv", "r+") as file:
                file.truncate(10)
            sftp.truncate("schools.csv", 10)
            sftp.mkdir("a")
            sftp.rmdir("a")
            assert sftp.normalize(".") == "/"
            assert {each.filename for each in sftp.listdir_iter(".")} == {*NIGHT, "reports", "preview"}
            sftp.close()

    at_work(config, tmp_path, act)
    expected = NIGHT | {"students.csv": NIGHT["students.csv"] + b"more"} | {name: NIGHT[name][:10] for name in ("teachers.csv", "schools.csv")}
    assert arrived(home) == expected


# ---------------------------------------------------------------- the manners of programs that run elsewhere


def test_winscp_goes_on_with_a_filepart_and_renames_it(config: Config, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "students.csv").write_bytes(b"yesterday")

    async def go() -> None:
        async with listening(config) as listener:
            await cut_after(listener, home, "students.csv.filepart", BIG[:5000])
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                assert (await sftp.lstat("students.csv.filepart")).size == 5000
                assert [each.attrs.size for each in await sftp.readdir(".") if each.filename == "students.csv.filepart"] == [5000]
                with pytest.raises(asyncssh.SFTPFailure, match="cut off"):  # it might be taken for whole
                    await sftp.posix_rename("students.csv.filepart", "students.csv")
                file = await sftp.open("students.csv.filepart", asyncssh.FXF_WRITE, encoding=None)
                await file.write(BIG[5000:], 5000)
                await file.close()
                await sftp.setstat("students.csv.filepart", asyncssh.SFTPAttrs(permissions=0o644, atime=1, mtime=2))
                with pytest.raises(asyncssh.SFTPNoSuchFile):
                    await sftp.remove("nothing.csv")
                await sftp.remove("students.csv")
                await sftp.rename("students.csv.filepart", "students.csv")
                assert (await sftp.stat("students.csv")).mtime == 2
        assert files(home) == ["students.csv"]
        assert (home / "students.csv").read_bytes() == BIG

    asyncio.run(go())


def test_filezilla_goes_on_at_an_offset_and_asks_for_the_time(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            await cut_after(listener, home, "students.csv", BIG[:5000])
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                [size] = [each.attrs.size for each in await sftp.readdir("/") if each.filename == "students.csv"]
                file = await sftp.open("/students.csv", asyncssh.FXF_WRITE | asyncssh.FXF_CREAT, encoding=None)
                await file.write(BIG[5000:], size)
                assert (await file.stat()).size == len(BIG)
                await file.setstat(asyncssh.SFTPAttrs(atime=1, mtime=2))
                await file.close()
                assert (await sftp.stat("/students.csv")).mtime == 2
        assert arrived(home) == {"students.csv": BIG}

    asyncio.run(go())


def test_ssh_net_and_jsch_append_and_write_over(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for flags in (asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC, asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_APPEND):
            file = await sftp.open("students.csv", flags | asyncssh.FXF_READ, encoding=None)
            await asyncio.gather(*(file.write(BIG[offset : offset + 32_000], offset) for offset in range(0, len(BIG), 32_000)))
            assert await file.read(10, 0) == BIG[:10]
            await file.close()
        await sftp.setstat("students.csv", asyncssh.SFTPAttrs(uid=1000, gid=1000, permissions=0o600))
        assert await sftp.realpath("./a/../students.csv") == "/students.csv"
        assert (await sftp.statvfs(".")).bavail > 0

    with_client(config, act)
    assert arrived(home) == {"students.csv": 2 * BIG}


def test_cyberduck_uploads_under_another_name_and_copies_on_the_server(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv-k2xu", "wb") as file:
            await file.write(BIG)
            await file.fsync()
            await file.truncate(len(BIG) - 1)
        await sftp.rename("students.csv-k2xu", "students.csv")
        assert sftp.supports_remote_copy
        assert sftp.limits.max_write_len >= 32 << 10
        await sftp.copy("students.csv", "copy.csv", remote_only=True)

    with_client(config, act)
    assert arrived(home) == dict.fromkeys(("students.csv", "copy.csv"), BIG[:-1])


def test_what_was_cut_off_is_forgotten_when_its_client_wants_no_more_of_it(config: Config, home: Path) -> None:
    async def go() -> None:
        home.mkdir(parents=True)
        async with listening(config) as listener:
            for end in ("remove", "send again", "rename over"):
                (home / "students.csv").write_bytes(b"yesterday")
                await cut_after(listener, home, "students.csv", b"half")
                async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                    assert await (await sftp.open("students.csv", "rb")).read() == b"half"
                    with pytest.raises(asyncssh.SFTPError):
                        await sftp.open("students.csv", "xb")
                    with pytest.raises(asyncssh.SFTPFailure):
                        await sftp.mkdir("students.csv")
                    await sftp.truncate("students.csv", 2)
                    assert cut_off(home) == {"students.csv": b"ha"}
                    if end == "remove":
                        await sftp.remove("students.csv")
                        assert arrived(home) == {}
                        continue
                    name = "students.csv" if end == "send again" else "other.csv"
                    async with sftp.open(name, "wb") as file:
                        await file.write(b"whole")
                    if end == "rename over":
                        await sftp.posix_rename("other.csv", "students.csv")
                assert arrived(home) == {"students.csv": b"whole"}
                assert cut_off(home) == {}

    asyncio.run(go())


def test_what_was_cut_off_in_a_session_that_was_overtaken_is_not_kept(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            stuck = await connecting(listener)
            file = await (await stuck.start_sftp_client()).open("students.csv", "wb")
            await file.write(b"half")
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp, sftp.open("students.csv", "wb") as again:
                await again.write(b"whole")
            stuck.abort()
            await until(lambda: not parts(home))
        assert cut_off(home) == {}
        assert arrived(home) == {"students.csv": b"whole"}

    asyncio.run(go())


def test_what_was_written_out_of_order_is_kept_as_far_as_it_has_no_gap(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            connection = await connecting(listener)
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            client = Packets(writer, reader)
            handle = await client.open(b"students.csv")
            await client.ask(6, 2, handle, 0, 0, b"first")
            await client.ask(6, 3, handle, 0, 100, b"later")
            changed = await client.open_more(b"teachers.csv")
            await client.ask(6, 4, changed, 0, 0, b"first")
            await client.ask(6, 5, changed, 0, 0, b"again")
            connection.abort()
            await until(lambda: not parts(home))
        assert cut_off(home) == {"students.csv": b"first"}

    asyncio.run(go())


def test_removing_and_sending_again_while_the_last_is_being_sealed(config: Config, home: Path) -> None:
    home.mkdir(parents=True)
    old, new = os.urandom(1 << 20), os.urandom(1 << 20)
    for number in range(20):
        (home / f"{number}.csv").write_bytes(old)
    made: list[inbox.Delivery] = []
    over = threading.Event()

    def seal() -> None:
        while not over.is_set():
            delivery = inbox.seal(home, config.deliveries, "springfield", inbox.state(home), datetime.now(UTC), None)
            if delivery:
                made.append(delivery)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        sealing = threading.Thread(target=seal)
        sealing.start()
        await until(lambda: made)
        for number in range(20):
            await sftp.remove(f"{number}.csv")
            async with sftp.open(f"{number}.csv", "wb") as file:
                await file.write(new)
        seen = len(made)
        await until(lambda: len(made) > seen + 1)
        over.set()
        await asyncio.to_thread(sealing.join)

    with_client(config, act)
    for delivery in made:
        for file in delivery.files:
            assert (delivery.folder / file.name).read_bytes() in (old, new)
    assert {(made[-1].folder / file.name).read_bytes() for file in made[-1].files} == {new}
    assert len(made[-1].files) == 20


def test_what_was_cut_off_is_kept_for_two_days(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(parents=True)
    (home / f"{inbox.CUT_PREFIX}students.csv").write_bytes(b"half")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        await until(lambda: not cut_off(home))

    monkeypatch.setattr("sftp_ingest.intake.leftovers.CUT_SECONDS", -1)
    with_client(replace(config), act)
