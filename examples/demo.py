"""Three nights of one district, with the real daemon, a real SFTP client and a real database, in the folder given."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncssh
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

DISTRICT = "springfield"
STUDENTS = 1200
NIGHTS = 3
COLUMNS = ("created", "updated", "moved", "deactivated", "reactivated", "rejected", "waiting")
ENTITIES = ("schools", "teachers", "staff", "students", "sections", "enrollments", "contacts")
TITLES = {1: "everything is new", 2: "some people change, some move, some leave", 3: "some leave, one returns, and a dozen faults"}

console = Console(soft_wrap=True)


def command(home: Path, *arguments: str, text: str | None = None) -> Any:
    """What `sftp-ingest … --json` prints, or nothing where it prints none."""
    run = subprocess.run([sys.executable, "-m", "sftp_ingest", *arguments], cwd=home, input=text, capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1):
        raise SystemExit(f"sftp-ingest {' '.join(arguments)} ended with {run.returncode}:\n{run.stderr}")
    return json.loads(run.stdout) if "--json" in arguments else None


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def push(folder: Path, port: int, key: Path) -> None:
    """Upload the night's files as the district does."""
    async with (
        asyncssh.connect("127.0.0.1", port, username=DISTRICT, client_keys=[str(key)], known_hosts=None) as connection,
        connection.start_sftp_client() as client,
    ):
        await client.put([str(path) for path in sorted(folder.glob("*.csv"))])


def wait_for_run(home: Path, number: int, daemon: subprocess.Popen[bytes]) -> Mapping[str, Any]:
    """The closed run of this number."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise SystemExit(f"the daemon ended with {daemon.returncode}; its log is {home / 'serve.log'}")
        closed = [run for run in command(home, "runs", "list", "--json") if run["state"] == "closed"]
        if len(closed) >= number:
            return closed[0]
        time.sleep(0.2)
    raise SystemExit(f"night {number} did not end within two minutes; the daemon's log is {home / 'serve.log'}")


def table_of(run: Mapping[str, Any], night: int) -> Table:
    """What the night did, an entity a line."""
    title = f"Night {night}: {TITLES[night]}. {run['outcome'].replace('_', ' ').capitalize()}."
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for column in COLUMNS:
        table.add_column("held" if column == "waiting" else column, justify="right", no_wrap=True)
    for entity in ENTITIES:
        counts = run["counts"][entity]
        table.add_row(entity, *(f"{counts[column]:,}" if counts[column] else "·" for column in COLUMNS))
    return table


def main(home: Path) -> None:
    """Make a home, a district and its nights; serve; push; tell."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    port = free_port()
    command(home, "init", ".", "--host", "127.0.0.1", "--port", str(port))
    config = home / "sftp-ingest.toml"
    config.write_text(config.read_text().replace("settle_seconds = 300", "settle_seconds = 1", 1))
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(home / "district_key"))
    key.write_public_key(str(home / "district_key.pub"))
    command(home, "districts", "add", DISTRICT, "--name", "Springfield Public Schools", "--key", "district_key.pub")
    command(home, "sample", "nights", "--students", str(STUDENTS), "--nights", str(NIGHTS), "--seed", "7", "--faults")
    console.print(f"A district of {STUDENTS:,} students, three nights of files, an SFTP server on 127.0.0.1:{port}.\n", highlight=False)
    with (home / "serve.log").open("wb") as log:
        daemon = subprocess.Popen([sys.executable, "-m", "sftp_ingest", "serve"], cwd=home, stderr=log, stdout=log)
    try:
        while b"listening" not in (home / "serve.log").read_bytes():
            if daemon.poll() is not None:
                raise SystemExit((home / "serve.log").read_text())
            time.sleep(0.05)
        for night in range(1, NIGHTS + 1):
            with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as bar:
                task = bar.add_task(f"night {night}: uploading")
                asyncio.run(push(home / "nights" / f"night-{night}", port, home / "district_key"))
                bar.update(task, description=f"night {night}: settling, then syncing")
                run = wait_for_run(home, night, daemon)
            console.print(table_of(run, night), "", sep="\n")
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    tell(home, run["id"])


def tell(home: Path, run: int) -> None:
    """What a reader would not see in the counts, and where to look."""
    report = command(home, "report", str(run), "--json")
    kept = sum(each["count"] for each in report["findings"] if each["file"] == "students.csv" and each["severity"] == "reject")
    console.print(
        f"{kept} rows of students.csv were left out in night {NIGHTS}. Who was in them already stays as he was: a rejected row is never a removal.\n",
        highlight=False,
    )
    command(home, "report", str(run), "--html", "report.html")
    here = Path(os.path.relpath(home))
    for name, value in (
        ("report", f"{here}/report.html (and for the district: {here}/data/homes/{DISTRICT}/reports/)"),
        ("database", f"{here}/sftp-ingest.db"),
        ("log", f"{here}/serve.log"),
        ("look further", f".venv/bin/sftp-ingest report {run} --config {here}/sftp-ingest.toml"),
    ):
        console.print(f"{name:13} {value}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
