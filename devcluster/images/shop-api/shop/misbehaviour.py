"""Switches that make the program misbehave on purpose, to show what a platform makes of it.

CRASH_AFTER_SECONDS, EXIT_CODE  end with EXIT_CODE (default 1) so many seconds after the start
EXIT_TIMES, EXIT_COUNTER_FILE   end at once the first so many times (the file counts; /state/exits), run then
LEAK_MB_PER_SECOND              take more memory every second until the kernel ends the process
READY_AFTER_SECONDS             answer /healthz with 503 for so long after the start
NEVER_READY                     answer /healthz with 503 for ever
SLOW_MS                         let every answer take that much longer (also as a query parameter, slow_ms)
WRONG_ANSWERS                   give wrong prices (also as a query parameter, wrong)
"""

import os
import sys
import threading
import time
from pathlib import Path

STARTED = time.monotonic()


def _number(name: str) -> float:
    return float(os.environ.get(name) or 0)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


def start() -> None:
    """Begin what begins by itself; may end the process."""
    code = int(os.environ.get("EXIT_CODE") or 1)
    _exit_first_times(int(_number("EXIT_TIMES")), code)
    if "CRASH_AFTER_SECONDS" in os.environ:
        threading.Thread(target=_crash, args=(_number("CRASH_AFTER_SECONDS"), code), daemon=True).start()
    if _number("LEAK_MB_PER_SECOND") > 0:
        threading.Thread(target=_leak, args=(_number("LEAK_MB_PER_SECOND"),), daemon=True).start()


def _exit_first_times(times: int, code: int) -> None:
    if times == 0:
        return
    counter = Path(os.environ.get("EXIT_COUNTER_FILE", "/state/exits"))
    done = int(counter.read_text()) if counter.exists() else 0
    if done < times:
        counter.write_text(str(done + 1))
        print(f"exit {done + 1} of {times}, on purpose", file=sys.stderr)
        sys.exit(code)


def _crash(seconds: float, code: int) -> None:
    time.sleep(seconds)
    print(f"fatal: crashing on purpose with exit code {code}", file=sys.stderr, flush=True)
    os._exit(code)


def _leak(megabytes_per_second: float) -> None:
    kept = []
    while True:
        # Written to, or the kernel would not count it.
        kept.append(bytearray(os.urandom(4096) * int(megabytes_per_second * 256 / 10)))
        time.sleep(0.1)


def is_ready() -> bool:
    """Whether the switches let the process be ready now."""
    return not _is_on("NEVER_READY") and time.monotonic() - STARTED >= _number("READY_AFTER_SECONDS")


def slow_down(query: dict[str, str]) -> None:
    """Wait as long as the switches say an answer has to take longer."""
    time.sleep(float(query.get("slow_ms") or _number("SLOW_MS")) / 1000)


def is_wrong(query: dict[str, str]) -> bool:
    """Whether answers have to be wrong."""
    return _is_on("WRONG_ANSWERS") or query.get("wrong", "") not in ("", "0")
