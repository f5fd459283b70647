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


BROKEN = """
import logging, sys
from sftp_ingest.logs import set_up_logging
set_up_logging(sys.argv[1])
logging.getLogger("library").info("nobody asked")
logging.getLogger("library").warning("Execution of job %s\\nskipped", 7)
try:
    {}["Zoraida"]
except KeyError:
    logging.getLogger("library").exception("a job broke")
"""


def test_what_a_library_says_is_a_line_in_the_form_of_ours_and_does_not_break_into_one() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=True)
    events = [json.loads(each) for each in done.stderr.splitlines()]
    assert [each["number"] for each in events if each["event"] == "listening"] == list(range(5000))
    libraries = [(each["library"], each["level"], each["told"]) for each in events if each["event"] == "library"]
    assert libraries == 5000 * [("library", "warning", "late")]
    assert len(events) == 10_000


def test_of_what_broke_in_a_library_the_kind_and_the_place_are_told_and_no_value() -> None:
    told, text = (subprocess.run([sys.executable, "-c", BROKEN, form], capture_output=True, text=True, check=True).stderr for form in ("json", "text"))
    skipped, broke = (json.loads(each) for each in told.splitlines())
    assert (skipped["level"], skipped["told"]) == ("warning", "Execution of job 7 skipped")
    assert (broke["level"], broke["told"], broke["kind"]) == ("error", "a job broke", "KeyError")
    assert "line 8" in broke["places"]
    assert "Zoraida" not in broke["told"] + text
    assert "[warning  ] library " in text.splitlines()[0]
