"""Composes the parts, runs until SIGTERM, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import sdnotify
import structlog
from sqlalchemy import Engine

from sftp_ingest.config import Config, check_data
from sftp_ingest.errors import ConfigError, IngestError
from sftp_ingest.intake import hostkeys, leftovers, server
from sftp_ingest.intake.keys import check_authorities
from sftp_ingest.intake.watcher import Doorbell
from sftp_ingest.logs import set_up_logging
from sftp_ingest.runner import Runner
from sftp_ingest.store import database, register
from sftp_ingest.sweeps import Sweeps

log = structlog.get_logger()

_PULSE_SECONDS = 1.0


def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises IngestError where a part cannot start or has died; systemd then starts the daemon anew."""
    for fault in obstacles(config):
        raise fault
    for folder in (config.homes, config.deliveries, config.locks):
        folder.mkdir(exist_ok=True)
    with _alone(config):
        asyncio.run(_serve(config, database.open_engine(config.database_url)))


def obstacles(config: Config) -> list[IngestError]:
    """All that keeps a daemon from beginning with this configuration, as far as a look tells; nothing is changed."""
    found = []
    for look in (_look_at_keys, _look_at_folders, _look_at_database):
        try:
            look(config)
        except IngestError as fault:
            found.append(fault)
    return found


def _look_at_keys(config: Config) -> None:
    check_authorities(config.server.user_authorities)
    hostkeys.read_host_keys(config)


def _look_at_folders(config: Config) -> None:
    check_data(config)
    for folder in (config.homes, config.deliveries, config.locks):
        there = folder if folder.exists() else config.data
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(f"data: this user may not read and write {there}")


def _look_at_database(config: Config) -> None:
    engine = database.open_engine(config.database_url)
    try:
        database.check(engine)
    finally:
        engine.dispose()


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    """The home is this daemon's as long as this lasts. Raises ConfigError where it is another's.

    The kernel gives the lock back when the daemon dies, however it dies: no process that it starts inherits the file.
    """
    with config.daemon_lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(f"another daemon, process {file.read()}, serves this home: {config.data}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


async def _serve(config: Config, engine: Engine) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        # systemd takes a daemon that a hangup ended for one that was meant to end, and does not restart it; a terminal that is closed means that
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set if sys.stderr.isatty() else _tell_of_hangup)
    systemd = sdnotify.SystemdNotifier()
    runner = Runner(config, engine)
    sweeps = Sweeps(config, engine, runner.wake)
    doorbell = Doorbell(config.homes, sweeps.ring)
    doorbell.start()
    await asyncio.to_thread(leftovers.take_back_lost, config.homes)
    await asyncio.to_thread(runner.start)
    await asyncio.to_thread(sweeps.start)
    listener = await server.listen(config, lambda name: register.account(engine, name), sweeps.ring, partial(set_up_logging, config.log_format))
    log.info("listening", host=config.server.host, port=listener.port)
    systemd.notify("READY=1")
    parts: dict[str, Doorbell | Runner | Sweeps] = {"doorbell": doorbell, "runner": runner, "sweeps": sweeps}
    dead = ""
    while not stop.is_set() and not dead:
        systemd.notify("WATCHDOG=1")
        dead = next((name for name, part in parts.items() if not part.alive), "")
        try:
            await asyncio.wait_for(stop.wait(), _PULSE_SECONDS)
        except TimeoutError:
            continue
    systemd.notify("STOPPING=1")
    log.info("stopping", grace_seconds=config.server.grace_seconds)
    await listener.drain(config.server.grace_seconds)
    doorbell.stop()
    await asyncio.to_thread(sweeps.stop)
    await asyncio.to_thread(runner.stop, config.server.grace_seconds)
    log.info("stopped")
    if dead:
        raise IngestError(f"the {dead} died, and the daemon with it")


def _tell_of_hangup() -> None:
    """Who sends one asks for the configuration to be read again."""
    log.warning("hangup_ignored", advice="the configuration is read when the daemon begins: restart it; host keys are read anew by themselves")
