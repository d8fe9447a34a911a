"""The shell around each command, in every shell that this machine has."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from clusters.execution import DEAD_MAN
from clusters.streaming import _OUT

pytestmark = pytest.mark.slow

SHELLS = [
    pytest.param(command, id=command[0])
    for command in (["dash"], ["bash"], ["busybox", "sh"])
    if shutil.which(command[0])
]


FIRST_PROCESS = """
import ctypes, json, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become ours, as in a container
command = subprocess.Popen(
    sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
)
command.stdout.readline()
command.stdin.close()
ended = []
while True:
    try:
        pid, status = os.waitpid(-1, 0)
    except ChildProcessError:
        break
    if pid != command.pid:
        ended.append(os.waitstatus_to_exitcode(status))
print(json.dumps(ended))
"""
"""Stands for the first process of a container: prints how its orphans ended."""


@asynccontextmanager
async def wrapped(
    shell: list[str], command: list[str], stdin: bytes, *, leader: bool = True
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command in the wrapper, as the runtime does: leader of a session, stdin left open."""
    process = await asyncio.create_subprocess_exec(
        *shell,
        "-c",
        DEAD_MAN,
        "perdure",
        str(len(stdin)),
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=leader,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(stdin)
        yield process
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(process: asyncio.subprocess.Process) -> tuple[int, bytes, bytes]:
    """Return exit code, stdout and stderr, without closing stdin."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(10):
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        return await process.wait(), out, err


@pytest.mark.parametrize("shell", SHELLS)
class TestDeadMan:
    async def test_is_not_noticed_by_the_command(self, shell: list[str]) -> None:
        data = os.urandom(200_000)
        for command, stdin, expected in (
            (["sh", "-c", "exit 3"], b"", (3, b"", b"")),
            (["cat"], data, (0, data, b"")),
            (["sh", "-c", "head -c 2; echo e >&2; exit 7"], data, (7, data[:2], b"e\n")),
            (["sh", "-c", 'printf "%s|" "$@"', "x", "a b", "*", "'"], b"", (0, b"a b|*|'|", b"")),
        ):
            async with wrapped(shell, command, stdin) as process:
                assert await output(process) == expected

    async def test_missing_command(self, shell: list[str]) -> None:
        async with wrapped(shell, ["no-such-tool"], b"") as process:
            assert (await output(process))[0] == 127

    @pytest.mark.parametrize("stdin", [b"", b"input"])
    async def test_end_of_stdin_ends_command_and_children(self, shell: list[str], stdin: bytes) -> None:
        command = ["sh", "-c", "sleep 100 & echo $$ $!; sleep 100"]
        async with wrapped(shell, command, stdin) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            pids = [int(pid) for pid in (await process.stdout.readline()).split()]
            process.stdin.close()
            # The streams end when the last process that holds them has ended.
            code, _, _ = await output(process)
        assert code == 128 + signal.SIGTERM
        assert len(pids) == 2

    @pytest.mark.parametrize(
        "command",
        [
            "echo under way; exec sleep 100",
            "{ echo under way; exec sleep 100; } | { read line; echo $line; exec sleep 100; }; exit 4",
        ],
        ids=["one process", "a pipeline"],
    )
    @pytest.mark.parametrize("script", [DEAD_MAN, _OUT], ids=["execute", "output_of"])
    async def test_the_containers_first_process_sees_nobody_die(
        self, shell: list[str], command: str, script: str
    ) -> None:
        """PostgreSQL up to 17 takes an orphan that ends otherwise than with 0 or 1 for a crash of its own."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FIRST_PROCESS, *shell, "-c", script, "perdure", "0"),
            *("sh", "-c", command),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(20):
            told, _ = await process.communicate()
        assert process.returncode == 0
        orphans = json.loads(told)
        assert orphans, "the watching part ends as an orphan"
        assert set(orphans) == {0}

    async def test_command_that_ignores_the_request_is_killed(self, shell: list[str]) -> None:
        command = ["sh", "-c", "trap '' TERM; echo ready; sleep 100; sleep 100; sleep 100"]
        async with wrapped(shell, command, b"") as process:
            assert process.stdout is not None
            assert process.stdin is not None
            await process.stdout.readline()
            process.stdin.close()
            await output(process)
