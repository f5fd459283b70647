"""sftp-ingest.toml and its environment, read into frozen dataclasses; every complaint names its key."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints
from urllib.parse import unquote

from sftp_ingest.errors import ConfigError
from sftp_ingest.model import Derivations, Limits

FILE_NAME = "sftp-ingest.toml"
PATH_VARIABLE = "SFTP_INGEST_CONFIG"
DATABASE_VARIABLE = "SFTP_INGEST_DATABASE_URL"
MOST_PORT = 65535
MOST_NIGHTS = 36_500
LONGEST_WAIT = 86_400
"""Seconds. A home that has to be quiet for more than a day is never sealed where files come every night."""

LONGEST = 366 * 86_400
"""Seconds, of any other time: clocks and sleeps end somewhere."""

AT_LEAST_ONE = (
    *("workers", "attempts", "acceptors", "_nights", "ban_score"),
    *("sessions_per_district", "sessions_per_address", "handles_per_session", "home_files"),
)
FORMATS = ("auto", "clever", "oneroster")

_IN_A_URL = str.maketrans({"%": "%25", "?": "%3F"})

T = TypeVar("T", "Server", "Runs", "Settings", Limits, Derivations)


@dataclass(frozen=True)
class Server:
    """[server]: where the SFTP server listens, whom it listens to, and how patient it is (seconds)."""

    host: str = "0.0.0.0"  # noqa: S104 -- a server for districts is meant to be reached
    port: int = 2222
    acceptors: int = 1
    host_key: tuple[str, ...] = ("host_key", "host_key_rsa")
    post_quantum_only: bool = False
    older_clients: bool = False
    login_seconds: float = 30
    grace_seconds: float = 30
    idle_seconds: float = 600
    user_authorities: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    startups: str = "50:30:200"
    sessions_per_district: int = 50
    sessions_per_address: int = 200
    handles_per_session: int = 128
    file_bytes: int = 10 << 30
    home_bytes: int = 50 << 30
    home_files: int = 10_000
    reserve_bytes: int = 512 << 20
    ban_score: float = 30
    ban_seconds: float = 60
    ban_most_seconds: float = 86_400


@dataclass(frozen=True)
class Runs:
    """[runs]: how many districts are synced at once, how often homes are looked at again (seconds), how often a failed run is tried again."""

    workers: int = 1
    sweep_seconds: float = 60
    attempts: int = 3
    retry_seconds: float = 60


@dataclass(frozen=True)
class Settings:
    """[defaults], and [districts.<id>] over it: how one district's deliveries are taken.

    settle_seconds  quiet time after the last activity before a home is sealed (Clever: about five minutes)
    strict          answer as Clever does: unknown columns, wrong widths and foreign encodings refuse the delivery
    overdue_hours   how long after the last delivery a district counts as overdue
    keep_sensitive  sensitive columns to store (home_language, frl_status, …); all others are dropped when read
    format          the format of its files, or "auto": they are told apart by their names
    networks        where the district may log in from, such as "192.0.2.0/24"; from anywhere where there is none
    contract        a folder with rules of its own, laid over the format's; relative to the configuration
    keep_nights     for how many nights a sealed delivery is kept, with the details of its runs
    keep_changes_nights  for how many nights it is kept what each run changed; what is no longer kept cannot be undone by run
    limits          what may change without a person
    derive          what is derived as Clever does it
    """

    settle_seconds: float = 300
    strict: bool = False
    overdue_hours: float = 26
    keep_sensitive: tuple[str, ...] = ()
    format: str = "auto"
    networks: tuple[str, ...] = ()
    contract: str = ""
    keep_nights: int = 14
    keep_changes_nights: int = 180
    limits: Limits = field(default_factory=Limits)
    derive: Derivations = field(default_factory=Derivations)


@dataclass(frozen=True)
class Config:
    """The whole configuration; every path is absolute."""

    file: Path
    data: Path
    database_url: str
    log_format: str = "text"
    server: Server = field(default_factory=Server)
    runs: Runs = field(default_factory=Runs)
    defaults: Settings = field(default_factory=Settings)
    districts: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def homes(self) -> Path:
        """One folder a district, its SFTP home."""
        return self.data / "homes"

    @property
    def deliveries(self) -> Path:
        """Sealed deliveries: <district>/<delivery>/."""
        return self.data / "deliveries"

    @property
    def reports(self) -> Path:
        """The details of runs, as zips: <district>/run-<id>.zip."""
        return self.data / "reports"

    @property
    def sessions(self) -> Path:
        """Who came and what was sent: <district>/<day>.jsonl."""
        return self.data / "sessions"

    @property
    def locks(self) -> Path:
        """One lock file a district, held by the process that syncs it."""
        return self.data / "locks"

    @property
    def daemon_lock(self) -> Path:
        """Held by the daemon of this home; its name is no district's, whose locks have an ending."""
        return self.locks / "daemon"

    @property
    def host_keys(self) -> tuple[Path, ...]:
        """The server's private host keys."""
        return tuple(self.file.parent / each for each in self.server.host_key)

    @property
    def rosters(self) -> Path:
        """Copies of rosters from run to run; and, without a name, what a run has no room for in memory."""
        return self.data / "rosters"

    def copy_of(self, district: str) -> Path:
        """The copy of the district's roster as its last run left it."""
        return self.rosters / f"{district}.arrow"

    def settings(self, district: str) -> Settings:
        """The district's own settings, or the defaults."""
        return self.districts.get(district, self.defaults)


def locate(given: Path | None) -> Path:
    """The configuration file to use: the one given, else $SFTP_INGEST_CONFIG, else ./sftp-ingest.toml. Raises ConfigError where it is absent."""
    path = given or Path(os.environ.get(PATH_VARIABLE, FILE_NAME))
    if not path.is_file():
        raise ConfigError(f"there is no configuration at {path}; `sftp-ingest init` makes one, --config names another")
    return path.resolve()


def check_data(config: Config) -> None:
    """Raises ConfigError where the data folder is not there: one made beside a moved one, or by a slip of the pen, would not be for its owner alone."""
    if not config.data.is_dir():
        raise ConfigError(f"data: there is no folder {config.data}; `sftp-ingest init` makes it")


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in `path`, with the database URL of the environment over it. Raises ConfigError, naming the key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(f"{path} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise ConfigError(f"{path} is not text in UTF-8 (byte {fault.start + 1})") from fault
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path} is not TOML: {fault}") from fault
    known = {"data", "database", "log", "server", "runs", "defaults", "districts"}
    _refuse_unknown(table, known, "")
    database = _table(table, "database")
    _refuse_unknown(database, {"url"}, "database.")
    log = _table(table, "log")
    _refuse_unknown(log, {"format"}, "log.")
    log_format = log.get("format", "text")
    if log_format not in ("text", "json"):
        raise ConfigError('log.format must be "text" or "json"')
    folder = table.get("data", "data")
    if not isinstance(folder, str) or not folder:
        raise ConfigError("data must be the path of a folder")
    data = (path.parent / folder).resolve()
    url = environment.get(DATABASE_VARIABLE) or database.get("url") or "sqlite:///sftp-ingest.db"
    if not isinstance(url, str):
        raise ConfigError("database.url must be text")
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        file, mark, options = url.removeprefix("sqlite:///").partition("?")
        url = f"sqlite:///{(path.parent / unquote(file)).resolve().as_posix().translate(_IN_A_URL)}{mark}{options}"
    defaults = _settings(_table(table, "defaults"), Settings(), "defaults.", path.parent)
    districts = {
        name: _settings(_table(_table(table, "districts"), name, "districts."), defaults, f"districts.{name}.", path.parent)
        for name in _table(table, "districts")
    }
    return Config(
        file=path.resolve(),
        data=data,
        database_url=url,
        log_format=log_format,
        server=_filled(Server(), _table(table, "server"), "server."),
        runs=_filled(Runs(), _table(table, "runs"), "runs."),
        defaults=defaults,
        districts=MappingProxyType(districts),
    )


def _settings(table: Mapping[str, Any], base: Settings, where: str, folder: Path) -> Settings:
    limits = _filled(base.limits, _table(table, "limits", where), f"{where}limits.")
    derive = _filled(base.derive, _table(table, "derive", where), f"{where}derive.")
    made = _filled(base, {key: value for key, value in table.items() if key not in ("limits", "derive")}, where)
    if made.format not in FORMATS:
        raise ConfigError(f"{where}format must be one of {', '.join(FORMATS)}")
    contract = str((folder / made.contract).resolve()) if made.contract else ""
    return replace(made, limits=limits, derive=derive, contract=contract)


def _table(table: Mapping[str, Any], key: str, where: str = "") -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{where}{key} must be a table, as in [{where}{key}]")
    return value


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}{key} is not a key of sftp-ingest.toml; known here: {', '.join(sorted(known))}")


def _filled(base: T, table: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(type(base))
    _refuse_unknown(table, {each.name for each in fields(base)}, where)
    return replace(base, **{key: _checked(value, hints[key], f"{where}{key}") for key, value in table.items()})


def _checked(value: Any, kind: Any, key: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{key} must be true or false")
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and not isinstance(value, int)):
            raise ConfigError(f"{key} must be a {'whole ' if kind is int else ''}number")
        if not abs(value) <= sys.float_info.max:  # nothing is ever longer ago than nan; TOML knows inf, and whole numbers of any length, as well
            raise ConfigError(f"{key} must be a number that is finite")
        least = 1 if key.endswith(AT_LEAST_ONE) else 0
        if value < least:
            raise ConfigError(f"{key} must not be below {least}")
        if key.endswith("_nights") and value > MOST_NIGHTS:
            raise ConfigError(f"{key} must not be above {MOST_NIGHTS}")
        if key.endswith("_seconds") and value > (most := LONGEST_WAIT if key.endswith(".settle_seconds") else LONGEST):
            raise ConfigError(f"{key} must not be above {most}")
        if key == "server.port" and value > MOST_PORT:
            raise ConfigError(f"{key} must not be above {MOST_PORT}")
        if key.endswith(".removed_share") and value > 1:
            raise ConfigError(f"{key} must not be above 1: it is a share, 0.10 means 10 %")
        return kind(value)
    if kind is str:
        if key == "server.startups" and not _is_startups(value):
            raise ConfigError(f'{key} must be three whole numbers, as in "50:30:200": from how many on, what share is dropped, and the most')
        if isinstance(value, str) and (value or key.endswith(".contract")):
            return value
        raise ConfigError(f"{key} must be text")
    if isinstance(value, str) and key.endswith(".host_key"):  # there was but one until there were two
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{key} must be a list of texts")
    if key.endswith((".networks", ".trusted", ".proxies")):
        _check_networks(value, key)
    if key.endswith(".host_key") and not (value and all(value)):
        raise ConfigError(f"{key} must name a file")
    return tuple(each.lower() if key.endswith(".keep_sensitive") else each for each in value)


def _is_startups(value: Any) -> bool:
    found = re.fullmatch(r"(\d{1,6}):(\d{1,3}):(\d{1,6})", value) if isinstance(value, str) else None
    return found is not None and int(found[1]) < int(found[3]) and int(found[2]) <= 100


def _check_networks(value: list[str], key: str) -> None:
    for each in value:
        try:
            ip_network(each, strict=False)
        except ValueError as fault:
            raise ConfigError(f"{key} must be a list of networks, such as 192.0.2.0/24, or of addresses") from fault
