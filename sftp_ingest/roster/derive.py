"""What Clever derives from the files, and a reader of raw files must derive himself: contract 1.8."""

from __future__ import annotations

import json

import pandas as pd

from sftp_ingest.model import Assembled, Derivations, Roster
from sftp_ingest.roster.arrow import TEXT


def derive(assembled: Assembled, now: Roster, switches: Derivations) -> Assembled:
    """The same with its derived columns filled from what was sent; switched off, what was sent stands."""
    entities = dict(assembled.roster.entities)
    entities["sections"] = entities["sections"].assign(**{column: entities["sections"][f"sis_{column}"] for column in ("name", "grade", "subject")})
    for name in ("students", "teachers"):
        people = entities[name]
        entities[name] = people.assign(
            school_id=people["sis_school_id"], school_ids=pd.array([json.dumps([each]) for each in people["sis_school_id"]], dtype=TEXT)
        )
    return Assembled(Roster(entities), assembled.seen, assembled.covered)
