"""Every event has a line of its own, whoever else writes to the log meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys

BOTH = """
import logging, threading, structlog
from sftp_ingest.logs import set_up_logging
set_up_logging("json")
def ours():
    for number in range(5000):
        structlog.get_logger().info("listening", number=number)
def a_library():
    for number in range(5000):
        logging.getLogger("library").warning("late")
threads = [threading.Thread(target=each) for each in (ours, a_library)]
for each in threads: each.start()
for each in threads: each.join()
"""


def test_what_a_library_says_does_not_break_into_a_line_of_ours() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines.count("library: late") == 5000
    assert [json.loads(each)["number"] for each in lines if each != "library: late"] == list(range(5000))
