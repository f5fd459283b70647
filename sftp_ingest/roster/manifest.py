"""What a OneRoster delivery's manifest says of the other files: their version, and which are whole, which only changes, which absent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from sftp_ingest.findings import Finding, finding

FILE = "manifest.csv"
VERSIONS = ("1.1", "1.2")

Mode = Literal["bulk", "delta", "absent"]
MODES: tuple[Mode, ...] = ("bulk", "delta", "absent")


@dataclass(frozen=True)
class Manifest:
    """`version` is 1.1, 1.2 or blank where it is not said; `modes` are by file as the contract spells it, for the files that are named."""

    version: str = ""
    modes: Mapping[str, Mode] | None = None

    def mode(self, file: str) -> Mode | None:
        """What is said of the file, if anything."""
        return (self.modes or {}).get(file)


def read(pairs: pd.DataFrame | None, files: Collection[str], sent: Collection[str], *, strict: bool) -> tuple[Manifest, list[Finding]]:
    """The manifest in the first two cells of every line, read generously, and what is wrong with it (contract 4.3, 4.5).

    `files` are the format's, `sent` those of them that were sent. Without a manifest every file is a whole one.
    """
    if pairs is None:
        return Manifest(), [finding("manifest_missing", FILE, strict=strict)]
    rows = list(zip(pairs["name"].to_list(), pairs["value"].to_list(), strict=True))
    values = {name.lower(): value for name, value in rows if "." in name}
    if not values:
        return Manifest(), [finding("manifest_unreadable", FILE, lines=(1,), strict=strict)]
    found = []
    header = [cell.lower() for cell in rows[0]]
    if header != ["propertyname", "value"]:
        why = "it has no header line" if "." in rows[0][0] else "its second column is not called value" if header[0] == "propertyname" else ""
        found.append(finding("manifest_header", FILE, lines=(1,), hint=why, strict=strict))
    version = next((each for each in VERSIONS if values.get("oneroster.version", "").startswith(each)), "")
    for name, known in (("manifest.version", values.get("manifest.version") == "1.0"), ("oneroster.version", bool(version))):
        if not known:
            said = values.get(name, "")
            found.append(finding("manifest_version", FILE, name, values=[said[:40]] if said else [], hint="" if said else f"{name} is not said", strict=strict))
    modes: dict[str, Mode] = {}
    for file in files:
        name = f"file.{file.removesuffix('.csv')}"
        if name.lower() not in values:
            continue
        said = values[name.lower()]
        mode = next((each for each in MODES if each == said.lower()), None)
        if mode is not None:
            modes[file] = mode
        hint = _contradiction(said, mode, file, file in sent, strict)
        if hint is not None:
            found.append(finding("manifest_mode", FILE, name, values=[said[:40]] if mode is None and said else [], hint=hint, strict=strict))
    return Manifest(version, modes), found


def _contradiction(said: str, mode: Mode | None, file: str, sent: bool, strict: bool) -> str | None:
    """What is wrong with what is said of a file; None where nothing is."""
    if mode is None:
        return f"{file} was read as a whole file" if sent else "" if said else None
    if mode == "absent":
        return f"{file} was sent, and was not read" if sent else None
    if not sent:
        return f"{file} was not sent"
    return "Clever itself takes only whole files" if mode == "delta" and strict else None
