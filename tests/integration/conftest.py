"""Where the SFTP server of a test lives, and the home of the district that comes to it."""

from __future__ import annotations

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
