"""Where the SFTP server of a test lives, and the home of the district that comes to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sftp_ingest.config import Config, Server
from sftp_ingest.intake import hostkeys


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(tmp_path / "sftp-ingest.toml", tmp_path / "data", "", server=Server(host="127.0.0.1", port=0, reserve_bytes=0))
    hostkeys.make_host_key(made.host_keys[0])
    return made


@pytest.fixture
def home(config: Config) -> Path:
    return config.homes / "springfield"


@pytest.fixture(params=[1, 2], ids=["one acceptor", "two acceptors"])
def crewed(config: Config, request: pytest.FixtureRequest) -> Config:
    """What is the same, however many processes serve."""
    return replace(config, server=replace(config.server, acceptors=request.param))


Digger = Callable[[Path, str, int], AbstractContextManager[int]]


@pytest.fixture
def dig(tmp_path: Path) -> Iterator[Digger]:
    """Makes so many folders of one name below one another, and gives the last as a descriptor; all are removed by what knows no bound."""
    dug = []

    @contextmanager
    def digging(top: Path, name: str, times: int) -> Iterator[int]:
        dug.append(top / name)
        folder = os.open(top, os.O_RDONLY)
        for _ in range(times):
            os.mkdir(name, dir_fd=folder)
            inner = os.open(name, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        try:
            yield folder
        finally:
            os.close(folder)

    yield digging
    subprocess.run(["rm", "-rf", *dug], check=True)
