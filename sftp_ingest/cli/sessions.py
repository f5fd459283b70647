"""`sessions`: who came, from where, and what was sent; and how many were not let in."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, JsonOption
from sftp_ingest.intake import audit
from sftp_ingest.store import register


def sessions(
    district: Annotated[str, typer.Argument(help="Only this district.", show_default=False)] = "",
    days: Annotated[int, typer.Option(min=1, max=audit.KEPT_DAYS, help="Of so many days, today's included.")] = 1,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who came, from where, and what was sent; and how many were not let in, and why."""
    here = shared.opened(config_path)
    today = datetime.now(UTC).date()
    ids = [shared.known(here.engine, district).id] if district else [each.id for each in register.districts(here.engine)]
    folder = here.config.sessions
    since = today - timedelta(days=days - 1)
    found = sorted((each for id in ids for each in audit.sessions(folder, id, since)), key=lambda each: str(each["opened_at"]))
    refused = Counter[str]()
    for back in range(days):
        refused.update(audit.refused(folder, today - timedelta(days=back)))
    if as_json:
        return shared.print_json({"sessions": found, "refused": refused})
    rows = shared.table("opened", "account", "from", "client", "files", "bytes", "end")  # what fits a terminal; --json tells all
    for each in found:
        opened, account, peer, client = (each.get(key, "") for key in ("opened_at", "account", "peer", "client_version"))
        size = sum(file["bytes"] for file in each["files"])
        rows.add_row(
            f"{opened[:16]}Z", account, peer, client.removeprefix("SSH-2.0-").partition(" ")[0][:24], str(len(each["files"])), str(size), each.get("ending", "")
        )
    shared.show(rows, "nobody came")
    shared.out.print("not let in: " + (", ".join(f"{reason} {count}" for reason, count in sorted(refused.items())) or "nobody"), highlight=False)
    return None
