"""The process's log: JSON lines, and no values in tracebacks."""

import json
import subprocess
import sys

_PROGRAM = """
import logging, structlog
from api.logs import configure_logging
configure_logging("INFO")
log = structlog.get_logger("perdure.test")
def fail(password):
    raise RuntimeError("it broke")
for write in (log.exception, logging.getLogger("library").exception):
    try:
        fail("planted-value")
    except RuntimeError:
        write("failed")
log.debug("not shown")
"""


def test_lines_are_json_and_tracebacks_hold_no_values() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["failed", "failed"]
    assert all(line["exception"][0]["exc_type"] == "RuntimeError" for line in lines)
    assert all(line["level"] == "error" and line["at"] for line in lines)
    assert "planted-value" not in done.stdout.replace('fail(\\"planted-value\\")', "")
