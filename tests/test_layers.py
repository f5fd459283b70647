"""Who may import whom, read from the sources: the design's table, run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sftp_ingest

PACKAGE = "sftp_ingest"
FOLDER = Path(sftp_ingest.__file__).parent
GROUND = frozenset({"boot", "errors", "findings", "model", "config", "zstd"})
ABOVE_STORE = frozenset({"copies", "repeat", "sync", "revert", "ready", "why", "runner", "retention", "erasure", "sweeps"})
EVERYTHING = frozenset({"sample", "logs", "intake", "roster", "store", "report", "memory", "forks", "planning"}) | ABOVE_STORE | GROUND

# Layer → what it may import, by layer or by full module. A folder may always import itself, and everyone the package's own version.
TABLE: Mapping[str, frozenset[str]] = {
    "boot": frozenset(),
    "errors": frozenset(),
    "forks": frozenset(),
    "findings": frozenset(),
    "logs": frozenset(),
    "memory": frozenset(),
    "model": frozenset({"findings"}),
    "config": frozenset({"model", "errors"}),
    "zstd": frozenset({"errors"}),
    "sample": frozenset({"errors", "roster"}),
    "intake": GROUND,
    "roster": GROUND | {"memory"},
    "store": GROUND,
    "report": GROUND,
    "planning": GROUND | {"roster"},
    "repeat": GROUND | {"roster", "store"},
    "copies": GROUND | {"memory", "roster", "store"},
    "sync": GROUND | {"planning", "copies", "repeat", "roster", "store"},
    "revert": GROUND | {"planning", "roster", "store"},
    "why": GROUND | {"roster", "store", "report"},
    "ready": GROUND | {"sync", "revert", "roster", "report"},
    "runner": GROUND | {"sync", "revert", "roster.shelf", "store", "report", "logs", "memory", "forks"},
    "retention": GROUND | {"intake", "store", "report.archive", "runner", "logs"},
    "erasure": GROUND | {"copies", "intake", "roster", "store", "runner"},
    "sweeps": GROUND | {"forks", "retention", "intake.crossing", "intake.inbox", "store"},
    "daemon": EVERYTHING,
    "cli": EVERYTHING | {"daemon"},
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}


def imports(source: str, modules: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and module, without the package's name, of every import of ours in a source text: also in functions, also for types only.

    `from a import b` is the module a.b where there is one in `modules`, else a. A relative import is one that the table cannot read.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: a relative import; the full name is readable without knowing the file")
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{each.name}" for each in node.names]
        else:
            continue
        for name in found:
            top, _, module = name.partition(".")
            if top == PACKAGE:
                yield node.lineno, module if module in modules else module.rpartition(".")[0]


def trespasses(module: str, source: str, modules: frozenset[str]) -> list[str]:
    """The imports of a module that its row of the table does not allow, each as one sentence."""
    layer = module.partition(".")[0]
    allowed = TABLE[layer] | {layer}
    return [
        f"{module}, line {line}: {layer} may not import {wanted}"
        for line, wanted in imports(source, modules)
        if wanted and wanted not in allowed and wanted.partition(".")[0] not in allowed
    ]


def sources() -> dict[str, str]:
    """Every module of the package, by its name without the package's, with its text; a folder's own `__init__` has the folder's name."""
    found = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


SOURCES = sources()
MODULES = frozenset(SOURCES)


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    assert trespasses(module, SOURCES[module], MODULES) == []


def test_every_layer_of_the_package_has_its_row_and_every_row_its_layer() -> None:
    assert {module.partition(".")[0] for module in SOURCES} == set(TABLE)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {wanted for _, wanted in imports(source, MODULES) if wanted} for module, source in SOURCES.items()}
    TopologicalSorter(graph).prepare()


def test_nobody_but_the_command_line_imports_the_daemon_and_nobody_imports_the_command_line() -> None:
    assert [layer for layer, allowed in TABLE.items() if "daemon" in allowed] == ["cli"]
    assert [layer for layer, allowed in TABLE.items() if "cli" in allowed] == ["__main__"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("roster.diff", "from sftp_ingest.store import ledger"),
        ("roster.diff", "import sftp_ingest.store.ledger as kept"),
        ("roster.diff", "from sftp_ingest import store"),
        ("roster.diff", "def compare():\n    from sftp_ingest.store.ledger import record"),
        ("intake.server", "if TYPE_CHECKING:\n    from sftp_ingest.roster import loader"),
        ("sweeps", "from sftp_ingest.intake import server"),
        ("store.ledger", "from sftp_ingest import cli"),
        ("errors", "from sftp_ingest.model import District"),
    ],
)
def test_a_forbidden_import_is_found_however_it_is_written(module: str, source: str) -> None:
    assert len(trespasses(module, source, MODULES)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("roster.diff", "import pandas\nfrom sftp_ingest.roster import loader\nfrom sftp_ingest.model import Roster"),
        ("roster.contract", "import sftp_ingest\nfrom sftp_ingest import __version__"),
        ("sweeps", "from sftp_ingest.intake import inbox\nfrom sftp_ingest.intake.inbox import sealed"),
        ("cli.home", "def serve():\n    from sftp_ingest import daemon"),
    ],
)
def test_what_the_table_allows_is_let_pass(module: str, source: str) -> None:
    assert trespasses(module, source, MODULES) == []


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="line 1: a relative import"):
        list(imports("from . import ledger", MODULES))


def test_a_circle_would_be_found() -> None:
    one, other = "from sftp_ingest.roster import diff", "def late():\n    from sftp_ingest.roster import holds"
    graph = {"roster.holds": {wanted for _, wanted in imports(one, MODULES)}, "roster.diff": {wanted for _, wanted in imports(other, MODULES)}}
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()
