"""What is the same for every run, loaded once by the process that runs are forked from: the first thing a run does is its own work."""

from __future__ import annotations

from contextlib import suppress

import pandas as pd
import pandera.pandas as pap

from sftp_ingest import revert, sync  # noqa: F401 - with all that they import
from sftp_ingest.errors import ContractError
from sftp_ingest.report import pages
from sftp_ingest.roster import contract, formats

pap.DataFrameSchema({}).validate(pd.DataFrame())  # pandera loads the half of itself with the first frame that it sees
pages.template()
for each in formats.FORMATS:
    with suppress(ContractError):  # told by the run that needs it
        contract.load(each)
