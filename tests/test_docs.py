"""The documents say what the program does; `python -m tests.test_docs` writes the README's findings table anew."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from sftp_ingest.cli import app
from sftp_ingest.findings import CATALOGUE

README = Path(__file__).parent.parent / "README.md"
TABLE = re.compile(r"(<!-- findings -->\n).*?(<!-- /findings -->)", re.DOTALL)


def findings_table() -> str:
    """The catalogue as a Markdown table."""
    rows = ["| Code | Severity | What it is | What to do |", "|---|---|---|---|"]
    for code in CATALOGUE.values():
        severity = f"{code.severity} (strict: {code.strict})" if code.strict else code.severity
        rows.append(f"| `{code.code}` | {severity} | {code.title} | {code.advice} |")
    return "\n".join(rows) + "\n"


def test_the_readme_lists_every_finding_as_the_catalogue_has_it() -> None:
    match = TABLE.search(README.read_text(encoding="utf-8"))
    assert match is not None
    assert match.group(0) == f"<!-- findings -->\n{findings_table()}<!-- /findings -->"


def test_the_readme_names_every_command() -> None:
    text = README.read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    assert [name for name in commands if not re.search(rf"`{name}\b|\b{name}`|`[^`]*\b{name} ", text)] == []


def test_links_of_the_documents_lead_somewhere() -> None:
    root = README.parent
    for document in (README, root / "deploy" / "INSTALL.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


if __name__ == "__main__":
    README.write_text(TABLE.sub(lambda match: match.group(1) + findings_table() + match.group(2), README.read_text(encoding="utf-8")), encoding="utf-8")
