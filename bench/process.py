"""What a process has used, from /proc (see proc(5))."""

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    """Return its resident memory in MB (1,000,000 bytes)."""
    return round(_status(pid, "VmRSS") * 1024 / 1e6, 1)


def resident_mebibytes(pid: int) -> float:
    """Return its resident memory in MiB."""
    return _status(pid, "VmRSS") / 1024


def peak_mebibytes(pid: int) -> float:
    """Return the most that it has had resident since `forget_peak`, in MiB: no sample misses it."""
    return _status(pid, "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    """Let its peak begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def processor_seconds(pid: int) -> float:
    """Return the time that all its threads have had of the processors, for itself and in the system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _status(pid: int, name: str) -> int:
    """Return a line of its status, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
