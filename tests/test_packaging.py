"""What is installed is whole: from a wheel, from an sdist and as an editable checkout, away from the sources; and deploy/ names what exists."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

import sftp_ingest
from sftp_ingest import cli, config
from sftp_ingest.roster import contract

CHECKOUT = Path(__file__).parents[1]
DEPLOY = CHECKOUT / "deploy"
UNIT = DEPLOY / "sftp-ingest.service"
EXAMPLE = CHECKOUT / "sftp_ingest" / "sftp-ingest.example.toml"
NOT_SOURCE = shutil.ignore_patterns(".*_cache", ".git", ".venv", ".hypothesis", "build", "dist", "demo-home", "*.egg-info", "__pycache__")

needs_checkout = pytest.mark.skipif(not (CHECKOUT / "setup.cfg").is_file(), reason="there is no setup.cfg: this is no checkout")
pytestmark = [needs_checkout, pytest.mark.xdist_group("packaging")]  # one worker: each installation is made once


@dataclass(frozen=True)
class Installation:
    """A fresh environment with the package in it, and an empty folder, far from the checkout, to work in."""

    kind: str
    environment: Path
    scratch: Path

    @property
    def command(self) -> Path:
        """The console script."""
        return self.environment / "bin" / "sftp-ingest"

    @property
    def python(self) -> Path:
        """The environment's own Python."""
        return self.environment / "bin" / "python"

    def run(self, *words: object) -> str:
        """Standard output of a command that is started in the empty folder and has to succeed."""
        return run(*words, where=self.scratch)


def run(*words: object, where: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SFTP_INGEST", "PIP_", "VIRTUAL_ENV"))}
    done = subprocess.run([str(word) for word in words], cwd=where, env=clean | {"PIP_NO_INDEX": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def install(environment: Path, *what: object) -> None:
    """Install into a fresh environment that finds this one's dependencies, without the network."""
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    folder = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", where=environment).strip())
    # A line of a .pth brings the modules of this environment, but not its own .pth files, and with them not an editable install of the package.
    (folder / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    # The package may be in this environment in another version: that one is not to be touched.
    words = ("install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--use-pep517", "--ignore-installed")
    run(sys.executable, "-m", "pip", "--python", python, *words, *what, where=environment)


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's sources: building leaves traces, and the copy is what an editable installation points to."""
    return shutil.copytree(CHECKOUT, tmp_path_factory.mktemp("packaging") / "checkout", symlinks=True, ignore=NOT_SOURCE)


@pytest.fixture(scope="session")
def built(copied: Path) -> Path:
    """The folder with the sdist, and with the wheel made from that sdist, as `python -m build` makes them."""
    folder = copied.parent / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copied, where=copied.parent)
    return folder


@pytest.fixture(scope="session")
def sdist(built: Path) -> Path:
    """The sdist."""
    return next(built.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def wheel(copied: Path, built: Path) -> Path:
    """The wheel made from the checkout itself."""
    folder = copied.parent / "wheel"
    words = ("wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--use-pep517", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", *words, copied, where=copied.parent)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session", params=["wheel", "sdist", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The package installed in each of the three ways."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "scratch").mkdir()
    if request.param == "wheel":
        what: tuple[object, ...] = (request.getfixturevalue("wheel"),)
    elif request.param == "sdist":
        what = (next(request.getfixturevalue("built").glob("*.whl")),)
    else:
        what = ("--editable", request.getfixturevalue("copied"))
    install(folder / "environment", *what)
    return Installation(request.param, folder / "environment", folder / "scratch")


def test_both_commands_tell_the_version(installed: Installation) -> None:
    assert installed.run(installed.command, "--version").strip() == sftp_ingest.__version__
    assert installed.run(installed.python, "-m", "sftp_ingest", "--version").strip() == sftp_ingest.__version__


def test_the_contracts_are_the_ones_of_the_checkout_and_not_found_there(installed: Installation) -> None:
    ask = "import json, sftp_ingest; from sftp_ingest.roster import contract; print(json.dumps([sftp_ingest.__file__, contract.load().digest]))"
    place, digest = json.loads(installed.run(installed.python, "-c", ask))
    assert digest == contract.load().digest
    assert not Path(place).is_relative_to(CHECKOUT)


def test_the_example_becomes_a_configuration_and_its_database_gets_its_tables(installed: Installation) -> None:
    home = installed.scratch / "home"
    installed.run(installed.command, "init", home)
    assert (home / config.FILE_NAME).read_text(encoding="utf-8") == EXAMPLE.read_text(encoding="utf-8")
    (home / "sftp-ingest.db").unlink()
    installed.run(installed.command, "database", "upgrade", "--config", home / config.FILE_NAME)
    assert json.loads(installed.run(installed.command, "districts", "list", "--json", "--config", home / config.FILE_NAME)) == []


def test_a_folder_is_checked_and_its_report_written(installed: Installation) -> None:
    installed.run(installed.command, "sample", installed.scratch / "sample", "--students", 20)
    installed.run(installed.command, "check", installed.scratch / "sample" / "night-1", "--html", installed.scratch / "report.html")
    assert "</html>" in (installed.scratch / "report.html").read_text(encoding="utf-8")


def test_both_wheels_hold_every_file_of_the_package_and_nothing_else(copied: Path, wheel: Path, built: Path) -> None:
    expected = {path.relative_to(copied).as_posix() for path in (copied / "sftp_ingest").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    expected |= {f"sftp_ingest/{path.relative_to(copied).as_posix()}" for path in (copied / "schemas").rglob("*.toml")}
    for each in (wheel, next(built.glob("*.whl"))):
        assert {name for name in zipfile.ZipFile(each).namelist() if ".dist-info/" not in name} == expected


def test_the_sdist_holds_what_is_needed_to_test_and_to_deploy_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = {"setup.cfg", "setup.py", "Makefile", "requirements.lock", ".ruff.toml", ".ci/run", "tests/conftest.py", "tests/test_packaging.py"}
    deployed = {f"deploy/{path.name}" for path in DEPLOY.iterdir()}
    assert kept | deployed <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".db", ".pem"))]


def test_setup_cfg_lists_every_folder_with_modules() -> None:
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    listed = set(setup["options"]["packages"].split())
    found = {".".join(path.parent.relative_to(CHECKOUT).parts) for path in (CHECKOUT / "sftp_ingest").rglob("*.py")}
    assert listed == found | {"sftp_ingest.schemas"}


# ---------------------------------------------------------------- the example configuration


def defaults(kind: type[Any]) -> dict[str, Any]:
    """What a dataclass of config.py would be in TOML, were nothing said."""
    made = kind()
    values = {each.name: getattr(made, each.name) for each in fields(kind)}
    return {name: defaults(type(value)) if is_dataclass(value) else list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def test_the_example_names_every_key_with_its_default() -> None:
    said = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert {name: said[name] for name in ("server", "runs", "defaults")} == {
        "server": defaults(config.Server),
        "runs": defaults(config.Runs),
        "defaults": defaults(config.Settings),
    }


def test_the_example_comes_to_the_same_as_an_empty_file(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / config.FILE_NAME)
    said = config.load(tmp_path / config.FILE_NAME, {})
    (tmp_path / config.FILE_NAME).write_text("", encoding="utf-8")
    assert said == config.load(tmp_path / config.FILE_NAME, {})


def test_every_line_of_the_example_that_is_commented_out_would_be_taken_too(tmp_path: Path) -> None:
    text = re.sub(r"^# (?=\[|\w+ = )", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (tmp_path / config.FILE_NAME).write_text(text, encoding="utf-8")
    assert set(config.load(tmp_path / config.FILE_NAME, {}).districts) == {"springfield"}


def test_every_key_of_the_example_is_explained() -> None:
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if " = " in line and not line.startswith("#"):
            assert " # " in line, line


def test_the_example_in_deploy_is_the_one_of_the_package() -> None:
    assert (DEPLOY / EXAMPLE.name).resolve() == EXAMPLE.resolve()


# ---------------------------------------------------------------- deploy/


def unit() -> Mapping[str, list[str]]:
    """The unit's settings: name → every value given to it."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def verifiable(tmp_path: Path) -> Iterator[Path]:
    """The unit with a program that this machine has for the one that an installation will bring; systemd-analyze insists on one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / UNIT.name
    path.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(encoding="utf-8")), encoding="utf-8")
    yield path


def test_systemd_finds_nothing_wrong_with_the_unit(verifiable: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(verifiable)], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_systemd_finds_little_exposed(verifiable: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(verifiable)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def subcommand(*words: str) -> Any:
    """The command of these words; what follows it are its arguments."""
    command: Any = typer.main.get_command(cli.app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        assert word in command.commands, f"there is no command {' '.join(words)}"
        command = command.commands[word]
    return command


def test_the_unit_starts_a_command_that_exists() -> None:
    (start,) = unit()["ExecStart"]
    program, *words = start.split()
    assert (Path(program).name, words[:2]) == ("sftp-ingest", ["serve", "--config"])
    assert {"--config"} <= {option for each in subcommand("serve").params for option in each.opts}


def test_the_unit_waits_longer_for_the_end_than_the_daemon_takes() -> None:
    (seconds,) = unit()["TimeoutStopSec"]
    assert int(seconds) > config.Server().grace_seconds * (1 + config.Runs().workers)


def test_the_unit_the_user_and_the_folders_agree() -> None:
    (user,) = unit()["User"]
    (state,) = unit()["StateDirectory"]
    (start,) = unit()["ExecStart"]
    users = (DEPLOY / "sftp-ingest.sysusers").read_text(encoding="utf-8")
    folders = (DEPLOY / "sftp-ingest.tmpfiles").read_text(encoding="utf-8")
    assert f"\nu {user} " in users
    assert f"/var/lib/{state} " in users
    assert re.search(rf"(?m)^d /var/lib/{state} +0700 +{user} +{user} ", folders)
    assert re.search(rf"(?m)^d {Path(start.split()[-1]).parent} +0750 +root +{user} ", folders)


def test_the_guide_names_only_what_exists() -> None:
    guide = (DEPLOY / "INSTALL.md").read_text(encoding="utf-8")
    for name in re.findall(r"\bdeploy/[\w.-]+", guide):
        assert (CHECKOUT / name).exists(), name
    for key in re.findall(r"`((?:server|runs|defaults|database|log)\.\w+)`", guide):
        said: Any = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
        for part in key.split("."):
            assert part in said, key
            said = said[part]


def test_every_command_of_the_guide_is_one() -> None:
    guide = (DEPLOY / "INSTALL.md").read_text(encoding="utf-8")
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", guide, flags=re.DOTALL))
    named = [found.split() for found in re.findall(r"(?m)^sftp-ingest ([a-z]\S*(?: [a-z]\S*)?)", shell)]
    assert ["init"] in [words[:1] for words in named]
    for words in named:
        subcommand(*words)
