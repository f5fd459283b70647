"""Uploads by OpenSSH's and lftp's own clients: ours beside OpenSSH's sshd, on the same machine in the same run, each with a port of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import districts
from benchmarks.measure import OURS_PYTHON, Case, Figure, Row
from sftp_ingest.runner import POLITENESS

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
LARGE_BYTES = 512 << 20
SMALL_FILES = 2_000
SMALL_BYTES = 4_000
SESSIONS, FILES, FILE_BYTES = 50, 5, 2 << 20
LOGINS, AT_ONCE = 64, 4
TARGETS: Mapping[str, float] = {"one of 512 MB": 0.75, "2,000 small": 1.5, "50 sessions": 1.2, "64 log-ins": 1 / 0.7, "512 MB, a run going on": 1.15}

_SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
MaxStartups 300
Subsystem sftp internal-sftp
"""
_OURS = {
    'host = "0.0.0.0"': 'host = "127.0.0.1"',
    "port = 2222 ": "port = {port} ",
    "settle_seconds = 300": "settle_seconds = 86400",
    "sessions_per_district = 50 ": "sessions_per_district = 100 ",
    'startups = "50:30:200"': 'startups = "300:30:400"',
}


@dataclass(frozen=True)
class Site:
    """A server that listens: who comes to it, with which key, and the folder, of his and on the disk, that he fills."""

    name: str
    port: int
    user: str
    key: Path
    remote: str
    folder: Path

    def aside(self) -> None:
        """Empties the files that came, and puts their folder where it is in nobody's way."""
        if self.folder.exists():
            for path in self.folder.rglob("*"):
                if path.is_file():
                    os.truncate(path, 0)
            self.folder.rename(self.key.with_name(f"aside-{time.monotonic_ns()}"))

    @property
    def ssh(self) -> list[str]:
        """What every client of OpenSSH is told."""
        options = ["IdentitiesOnly=yes", "IdentityAgent=none", "LogLevel=ERROR", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        return ["-F", "none", "-i", str(self.key), *(f"-o{each}" for each in options), f"-oPort={self.port}"]

    def sftp(self, batch: str, *options: str) -> subprocess.Popen[bytes]:
        """OpenSSH's `sftp`, begun, with commands."""
        process = subprocess.Popen(["sftp", *self.ssh, *options, "-q", "-b", "-", f"{self.user}@127.0.0.1"], stdin=-1, stdout=-3)
        assert process.stdin is not None
        process.stdin.write(f"cd {self.remote}\n{batch}\n".encode())
        process.stdin.close()
        return process

    def lftp(self, commands: str) -> subprocess.Popen[bytes]:
        """`lftp`, begun, with commands."""
        program = f'set sftp:connect-program "ssh -a -x {" ".join(self.ssh)}"; set cmd:fail-exit yes; open -u {self.user},none sftp://127.0.0.1'
        return subprocess.Popen(["lftp", "-c", f"{program}; cd {self.remote}; {commands}"], stdout=-3)


@dataclass(frozen=True)
class Scene:
    """What is sent, and a night that a run may be busy with meanwhile."""

    large: Path
    small: Path
    medium: Path
    home: Path
    night: Path


@contextmanager
def scene(scratch: Path, night: Path) -> Iterator[tuple[Scene, tuple[Site, Site]]]:
    """Make the files, and start both servers. Ends the benchmark where a program is missing."""
    missing = [name for name, path in (("sshd", SSHD), ("sftp", shutil.which("sftp")), ("lftp", shutil.which("lftp"))) if path is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} missing: apt-get install openssh-server openssh-client lftp")
    at = Scene(scratch / "large", scratch / "small", scratch / "medium", scratch / "ours", night)
    at.large.write_bytes(os.urandom(1 << 20) * (LARGE_BYTES >> 20))
    for folder, count, size in ((at.small, SMALL_FILES, SMALL_BYTES), (at.medium, FILES, FILE_BYTES)):
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.csv").write_bytes(os.urandom(size))
    with ExitStack() as running:
        yield at, (running.enter_context(_sshd(scratch / "sshd")), running.enter_context(_ours(at.home)))


def cases(at: Scene, sites: Sequence[Site]) -> list[Case]:
    """Every work at both servers; and, of ours, once more while a run is going on, beside itself."""
    sftp: Callable[[str], Callable[[Site], list[subprocess.Popen[bytes]]]] = lambda batch: lambda site: [site.sftp(batch)]  # noqa: E731
    works: dict[str, tuple[int, Callable[[Site], list[subprocess.Popen[bytes]]]]] = {
        "one of 512 MB, sftp": (LARGE_BYTES, sftp(f"put {at.large}")),
        "one of 512 MB, sftp with AES-GCM": (LARGE_BYTES, lambda site: [site.sftp(f"put {at.large}", "-c", "aes256-gcm@openssh.com")]),
        "one of 512 MB, lftp": (LARGE_BYTES, lambda site: [site.lftp(f"put {at.large}")]),
        "2,000 small, sftp": (SMALL_FILES * SMALL_BYTES, sftp(f"put {at.small}/*")),
        "2,000 small, lftp": (SMALL_FILES * SMALL_BYTES, lambda site: [site.lftp(f"mirror -R {at.small} .")]),
        "50 sessions, sftp": (SESSIONS * FILES * FILE_BYTES, partial(_sessions, at)),
        "64 log-ins, sftp": (0, _log_ins),
    }
    found = [
        Case(title, "ours" if site.name == "sftp_ingest" else "peer", site.name, partial(_turn, site, size, work))
        for title, (size, work) in works.items()
        for site in sites
    ]
    ours, large = sites[-1], works["one of 512 MB, sftp"]
    busy = "512 MB, a run going on, sftp"
    found += [
        Case(busy, "peer", "the same without it", partial(_turn, ours, *large)),
        Case(busy, "ours", "sftp_ingest", partial(_beside_a_run, at, ours, *large)),
    ]
    return found


def table(rows: Sequence[Row], students: int, rounds: int) -> str:
    """The medians, for people, in Markdown."""
    lines = [f"Medians of {rounds}; the run that is going on has {students:,} students.", ""]
    lines += ["| Files, client | sshd s | ours s | × | target | |", "|---|---|---|---|---|---|"]
    medians = {(row.case.group, row.case.kind): row.median("seconds") for row in rows}
    for group in dict.fromkeys(row.case.group for row in rows):
        before, ours = medians[group, "peer"], medians[group, "ours"]
        target = next(value for name, value in TARGETS.items() if group.startswith(name))
        met = "met" if ours / before <= target else "missed"
        lines.append(f"| {group} | {before:.2f} | {ours:.2f} | {ours / before:.2f} | {target:.2f} | {met} |")
    return "\n".join(lines) + "\n"


def _turn(site: Site, size: int, work: Callable[[Site], list[subprocess.Popen[bytes]]], _: int) -> Mapping[str, Figure]:
    """What came before is emptied and put aside, for ext4 passes over every inode that was freed of late whenever it makes a file; and has come to the disk."""
    site.aside()
    site.folder.mkdir(mode=0o700)
    os.sync()
    begun = time.perf_counter()
    codes = [each.wait() for each in work(site)]
    seconds = time.perf_counter() - begun
    arrived = sum(path.stat().st_size for path in site.folder.rglob("*") if path.is_file())
    if any(codes) or arrived < size:
        raise SystemExit(f"{site.name}: clients ended with {set(codes)}, and {arrived} of {size} bytes arrived")
    return {"": Figure(seconds, seconds, 0.0, 0.0)}


def _sessions(at: Scene, site: Site) -> list[subprocess.Popen[bytes]]:
    return [site.sftp(f"mkdir {number}\ncd {number}\nput {at.medium}/*") for number in range(SESSIONS)]


def _log_ins(site: Site) -> list[subprocess.Popen[bytes]]:
    done: list[subprocess.Popen[bytes]] = []
    for _ in range(LOGINS // AT_ONCE):
        done += (begun := [site.sftp("pwd") for _ in range(AT_ONCE)])
        for each in begun:
            each.wait()
    return done


def _beside_a_run(at: Scene, site: Site, size: int, work: Callable[[Site], list[subprocess.Popen[bytes]]], number: int) -> Mapping[str, Figure]:
    """The run begins with copying the night, which no run of the daemon does, and is waited for until it has done so."""
    sealed = at.home / "data" / "deliveries" / "other"
    shutil.rmtree(sealed, ignore_errors=True)
    run = subprocess.Popen(["nice", "-n", str(POLITENESS), OURS_PYTHON, "-m", "sftp_ingest", "sync", "other", str(at.night)], cwd=at.home, stdout=-3, stderr=-3)
    while run.poll() is None and not list(sealed.glob("[!.]*/delivery.json")):
        time.sleep(0.1)
    if run.poll() is not None:
        raise SystemExit("the run was over before the upload began: choose a larger size")
    figures = _turn(site, size, work, number)
    run.kill()
    run.wait()
    return figures


@contextmanager
def _sshd(folder: Path) -> Iterator[Site]:
    files = folder / "files"
    files.mkdir(parents=True)
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = _free_port()
    (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder), encoding="utf-8")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=-3)
    with _until_done(process, port):
        yield Site("OpenSSH's sshd", port, getpass.getuser(), folder / "key", str(files), files)


@contextmanager
def _ours(folder: Path) -> Iterator[Site]:
    folder.mkdir()
    port = _free_port()
    environment = {"SFTP_INGEST_CONFIG": f"{folder}/sftp-ingest.toml"}
    districts.command("init", str(folder))
    config = folder / "sftp-ingest.toml"
    text = config.read_text(encoding="utf-8")
    for default, ours in _OURS.items():
        assert default in text, default
        text = text.replace(default, ours.format(port=port), 1)
    config.write_text(text, encoding="utf-8")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    districts.command("districts", "add", "bench", "--key", str(folder / "key.pub"), environment=environment)
    districts.command("districts", "add", "other", environment=environment)
    process = subprocess.Popen([OURS_PYTHON, "-m", "sftp_ingest", "serve"], cwd=folder, stderr=-3)
    with _until_done(process, port):
        yield Site("sftp_ingest", port, "bench", folder / "key", "/files", folder / "data" / "homes" / "bench" / "files")


@contextmanager
def _until_done(process: subprocess.Popen[bytes], port: int) -> Iterator[None]:
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])
