"""What containers tell of their own cgroups: the script in real shells, and what is made of its words."""

import os
import subprocess
from pathlib import Path

import pytest

from api.access.cgroups import SCRIPT, Use, use_of

V2 = """at 100.00
usage_usec 2000000
at 100.50
usage_usec 2125000
memory 52428800
anon 40000000
inactive_file 2097152
"""
V1 = """at 100.00
usage_nsec 2000000000
at 101.00
usage_nsec 2500000000
memory 52428800
inactive_file 1
total_inactive_file 2097152
"""


@pytest.mark.parametrize(("said", "cores", "window"), [(V2, 0.25, 0.5), (V1, 0.5, 1.0)])
def test_memory_is_the_working_set_and_cpu_what_was_used_between(
    said: str, cores: float, window: float
) -> None:
    assert use_of(said) == Use(cores, 48 << 20, window)


def test_no_memory_beyond_the_cache_is_none_and_no_less() -> None:
    found = use_of(V2.replace("inactive_file 2097152", "inactive_file 52428801"))
    assert found is not None
    assert found.memory_bytes == 0


@pytest.mark.parametrize(
    "said",
    [
        "",
        "nonsense\n",
        V2.replace("usage_usec 2125000\n", ""),
        V2.replace("usage_usec 2125000", "usage_usec 1999999"),
        V2.replace("usage_usec 2125000", "usage_usec many"),
        V2.replace("usage_usec 2125000", "usage_usec 9" + "9" * 400),
        V2.replace("at 100.50", "at 100.00"),
        V2.replace("at 100.50", "at inf"),
        V2.replace("memory 52428800\n", ""),
        V2.replace("memory 52428800", "memory max"),
        V2.replace("inactive_file 2097152\n", ""),
        V1.replace("total_inactive_file 2097152\n", ""),
        V2 + "at 101.00\n",
    ],
)
def test_what_is_not_whole_or_makes_no_sense_is_no_figure(said: str) -> None:
    assert use_of(said) is None


def ask(root: Path, shell: str = "sh", path: str = os.environ["PATH"]) -> str:
    """Run the script over a directory in place of the cgroups' own."""
    command = [shell, "-c", SCRIPT.replace("/sys/fs/cgroup", str(root))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": path})
    return done.stdout


def laid_out(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


VERSION_2 = {
    "cpu.stat": "usage_usec 7000\nuser_usec 4000\nsystem_usec 3000\n",
    "memory.current": "4096\n",
    "memory.stat": "anon 1\ninactive_file 1024\n",
}
VERSION_1 = {
    "cpuacct/cpuacct.usage": "7000000\n",
    "memory/memory.usage_in_bytes": "4096\n",
    "memory/memory.stat": "inactive_file 0\ntotal_inactive_file 1024\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("files", [VERSION_2, VERSION_1, {**VERSION_1, **VERSION_2}])
def test_the_script_finds_both_versions(tmp_path: Path, shell: str, files: dict[str, str]) -> None:
    found = use_of(ask(laid_out(tmp_path, files), shell))
    assert found is not None
    assert (found.cpu_cores, found.memory_bytes) == (0.0, 3072)
    assert 0.4 < found.window_seconds < 30


def test_the_root_of_a_nodes_hierarchy_is_not_taken_for_a_container(tmp_path: Path) -> None:
    root = {name: content for name, content in VERSION_2.items() if name != "memory.current"}
    assert use_of(ask(laid_out(tmp_path, root))) is None


def test_without_cgroups_there_is_no_figure(tmp_path: Path) -> None:
    assert use_of(ask(tmp_path)) is None
    assert ask(tmp_path / "missing") == ""


@pytest.mark.slow
def test_a_shell_whose_sleep_knows_whole_seconds_only_waits_a_second(tmp_path: Path) -> None:
    sleep = tmp_path / "bin" / "sleep"
    laid_out(tmp_path, {**VERSION_2, "bin/sleep": '#!/bin/sh\n[ "$1" = 1 ] && exec /bin/sleep 1\n'})
    sleep.chmod(0o755)
    found = use_of(ask(tmp_path, path=f"{sleep.parent}:{os.environ['PATH']}"))
    assert found is not None
    assert found.window_seconds >= 1
