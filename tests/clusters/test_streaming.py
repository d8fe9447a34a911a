"""Streams out of and into commands: the wrapper in every shell that this machine has, and real pods."""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from clusters.errors import CommandFailed, LeaseLost, NotFound, NotStarted, TimedOut, Unavailable
from clusters.execution import PROTOCOL, STDERR, STDOUT
from clusters.gateway import Cluster, ClusterConfig, Propagation, open_cluster
from clusters.lease import Lease
from clusters.objects import ObjectRef
from clusters.streaming import _GO, _IN, _OUT
from tests.clusters.conftest import ROOT, Environment
from tests.clusters.fake_api import fake_cluster
from tests.clusters.proxy import proxied
from tests.clusters.test_pods import processes
from tests.helpers.waiting import eventually_async

SHELLS = [
    pytest.param(command, id=command[0])
    for command in (["dash"], ["bash"], ["busybox", "sh"])
    if shutil.which(command[0])
]
MIB = 1 << 20


@asynccontextmanager
async def wrapped(
    shell: list[str], script: str, size: int, command: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command in a wrapper, as the runtime does: leader of a session, stdin left open."""
    process = await asyncio.create_subprocess_exec(
        *(*shell, "-c", script, "perdure", str(size), "sh", "-c", command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, bytes, bytes]:
    """Return exit code, stdout and stderr, without closing stdin."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(20):
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        return await process.wait(), out, err


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
class TestWrapper:
    """What runs in the container."""

    async def test_out_tells_status_bytes_and_digest(self, shell: list[str]) -> None:
        command = "head -c 3000000 /dev/zero; echo complaint >&2; exit 3"
        async with wrapped(shell, _OUT, 0, command) as process:
            code, out, err = await ended(process)
        content, proof = out[:-128], out[-128:].split()
        assert (code, err, content) == (3, b"complaint\n", bytes(3_000_000))
        assert {b"3", b"3000000", hashlib.sha256(content).hexdigest().encode()} <= set(proof)

    async def test_in_ends_where_the_announced_bytes_end(self, shell: list[str]) -> None:
        data = os.urandom(300_000)
        async with wrapped(shell, _IN, len(data), "sha256sum && exit 4") as process:
            assert process.stdin is not None
            process.stdin.write(_GO + data)
            code, out, err = await ended(process)
        digest = hashlib.sha256(data).hexdigest().encode()
        assert (code, out, err) == (4, b"ready\nstatus 4\n", digest + b"  -\nstatus 4\n")

    @pytest.mark.parametrize("sent", [0, 1, 70_000])
    async def test_in_that_is_cut_has_no_end(self, shell: list[str], sent: int) -> None:
        """The command is ended while it waits for more; it never takes what it has for the whole."""
        async with wrapped(shell, _IN, 70_001, "cat >/dev/null && echo took it for all") as process:
            assert process.stdin is not None
            process.stdin.write(_GO + bytes(sent))
            process.stdin.close()
            code, out, err = await ended(process)
        assert code == 128 + signal.SIGTERM
        assert b"took it for all" not in out + err

    async def test_in_does_nothing_before_it_is_told_to_begin(self, shell: list[str], tmp_path: Path) -> None:
        """As when the node starts it so late that its caller is gone."""
        begun = tmp_path / "begun"
        async with wrapped(shell, _IN, 10, f"touch {begun}") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
            process.stdin.close()
            code, out, _ = await ended(process)
        assert (code, out, begun.exists()) == (1, b"", False)

    async def test_a_reader_that_fails_early_is_told_at_once(self, shell: list[str]) -> None:
        async with wrapped(shell, _IN, 10_000_000, "head -c 10 >/dev/null; exit 6") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(_GO + bytes(1_000_000))
            async with asyncio.timeout(20):
                told = [await process.stdout.readline() for _ in range(2)]
        assert told == [b"ready\n", b"status 6\n"]

    async def test_out_ends_with_its_caller(self, shell: list[str]) -> None:
        async with wrapped(shell, _OUT, 0, "echo begun; sleep 100; echo went on") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stdout.readline() == b"begun\n"
            process.stdin.close()
            await ended(process)


async def collected(output: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in output])


async def stream(data: bytes, fault: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 200_000):
        yield data[start : start + 200_000]
    if fault is not None:
        raise fault


async def taken(
    cluster: Cluster,
    environment: Environment,
    pod: str,
    script: str,
    meanwhile: Callable[[], None] = lambda: None,
    pieces: list[int] | None = None,
) -> None:
    """Read all that a script writes, and do something at each piece."""
    async with cluster.output_of(environment.name, pod, ["sh", "-c", script], timeout=60) as output:
        async for piece in output:
            if pieces is not None:
                pieces.append(len(piece))
            meanwhile()


@pytest.mark.cluster
class TestOutput:
    async def test_all_of_it_arrives(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        for size in (0, 1, 127, 128, 129, 262_144, 40 * MIB):
            script = "yes 0123456789abcde | head -c $0"
            async with perdure.output_of(
                environment.name, pod, ["sh", "-c", script, str(size)], timeout=60
            ) as output:
                came = await collected(output)
            assert came == (b"0123456789abcde\n" * (size // 16 + 1))[:size]

    async def test_a_tool_that_fails_after_half_its_output(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        pod = await environment.running_pod()
        script = "head -c 3000000 /dev/zero; echo 'disk on fire' >&2; exit 9"
        pieces: list[int] = []
        with pytest.raises(CommandFailed) as caught:
            await taken(perdure, environment, pod, script, pieces=pieces)
        assert (caught.value.exit_code, caught.value.stderr) == (9, b"disk on fire\n")
        assert 0 < sum(pieces) < 3_000_000
        with pytest.raises(CommandFailed):
            async with perdure.output_of(environment.name, pod, ["no-such-tool"], timeout=60) as output:
                await collected(output)

    async def test_what_cannot_begin_is_told(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        with pytest.raises(NotStarted):
            async with perdure.output_of(
                environment.name, pod, ["true"], container="another", timeout=60
            ) as output:
                await collected(output)
        with pytest.raises(NotFound):
            async with perdure.output_of(environment.name, "no-such-pod", ["true"], timeout=60) as output:
                await collected(output)

    async def test_a_pod_that_is_deleted_under_it(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        ref = ObjectRef("Pod", pod, environment.name)
        deletion: list[asyncio.Task[bool]] = []

        def delete() -> None:
            if not deletion:
                gone = perdure.delete(ref, propagation=Propagation.BACKGROUND, grace_seconds=0)
                deletion.append(asyncio.create_task(gone))

        with pytest.raises((Unavailable, CommandFailed)):
            await taken(perdure, environment, pod, "cat /dev/zero", delete)
        assert await deletion[0]

    async def test_a_connection_that_is_cut(
        self, perdure: Cluster, environment: Environment, perdure_kubeconfig: Path, tmp_path: Path
    ) -> None:
        pod = await environment.running_pod()
        script = "head -c 5000000 /dev/zero; sleep 7341"
        async with proxied(perdure_kubeconfig, tmp_path) as (proxy, kubeconfig), AsyncExitStack() as stack:
            far = await stack.enter_async_context(open_cluster(ClusterConfig(kubeconfig)))
            with pytest.raises(Unavailable):
                await taken(far, environment, pod, script, proxy.cut)

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "7341")

        await eventually_async(gone, "the command is gone", within=10)

    async def test_a_slow_reader_holds_the_command_up(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        """What the reader does not take is not produced: the pipe is full long before all of it is out."""
        pod = await environment.running_pod()
        script = "n=0; while [ $n -lt 200 ]; do head -c 1048576 /dev/zero; n=$((n+1)); echo $n >/tmp/n; done"

        async def produced() -> int:
            told = await perdure.execute(environment.name, pod, ["cat", "/tmp/n"], timeout=20)
            return int(told.stdout or b"0")

        async with perdure.output_of(environment.name, pod, ["sh", "-c", script], timeout=100) as output:
            count = len(await anext(output))
            before, still = -1, 0

            async def held_up() -> bool:
                nonlocal before, still
                now = await produced()
                still = still + 1 if now == before else 0
                before = now
                return still == 5

            await eventually_async(held_up, "the command waits for its reader", within=60)
            assert before < 100
            async for piece in output:
                count += len(piece)
        assert count == 200 * MIB

    async def test_a_command_that_takes_too_long(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        with pytest.raises(TimedOut):
            async with perdure.output_of(
                environment.name, pod, ["sh", "-c", "echo begun; sleep 7342"], timeout=2
            ) as output:
                await collected(output)

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "7342")

        await eventually_async(gone, "the command is gone", within=10)

    async def test_a_reader_that_leaves_early(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        async with perdure.output_of(
            environment.name, pod, ["sh", "-c", "cat /dev/zero; : 7343"], timeout=60
        ) as output:
            assert await anext(output)
            assert "7343" in await processes(perdure, environment, pod, "7343")

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "7343")

        await eventually_async(gone, "the command is gone", within=10)

    async def test_a_client_that_is_killed(
        self, perdure: Cluster, environment: Environment, perdure_kubeconfig: Path
    ) -> None:
        pod = await environment.running_pod()
        program = (
            "import asyncio, sys\n"
            "from pathlib import Path\n"
            "from clusters.gateway import ClusterConfig, open_cluster\n"
            "async def main():\n"
            "    async with open_cluster(ClusterConfig(Path(sys.argv[1]))) as cluster:\n"
            "        script = 'cat /dev/zero & sleep 7344; wait'\n"
            "        command = ['sh', '-c', script]\n"
            "        async with cluster.output_of(*sys.argv[2:4], command, timeout=300) as output:\n"
            "            async for piece in output:\n"
            "                print(len(piece), flush=True)\n"
            "asyncio.run(main())\n"
        )
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, str(perdure_kubeconfig), environment.name, pod),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert client.stdout is not None
            async with asyncio.timeout(30):
                assert await client.stdout.readline()
            assert "sleep 7344" in await processes(perdure, environment, pod, "7344")
        finally:
            client.kill()
            await client.communicate()

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "7344")

        await eventually_async(gone, "the command went with its client", within=15)


async def test_last_words_that_come_after_the_status_are_told(tmp_path: Path) -> None:
    """Nobody orders what a container sends on one stream and on another."""

    async def exec_(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        await socket.send_bytes(bytes((STDOUT,)) + b"ready\nstatus 5\n")
        await asyncio.sleep(0.2)
        await socket.send_bytes(bytes((STDERR,)) + b"no such")
        await socket.send_bytes(bytes((STDERR,)) + b" table\nstatus 5\n")
        async for _ in socket:
            pass
        return socket

    async def waiting() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async with fake_cluster(tmp_path, exec_) as (_, cluster):
        with pytest.raises(CommandFailed) as caught:
            await cluster.feed("ns", "db-0", ["psql"], waiting(), size=2, timeout=20)
    assert (caught.value.exit_code, caught.value.stderr) == (5, b"no such table\n")


@pytest.mark.cluster
class TestFeed:
    async def test_all_of_it_is_read(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        for size in (0, 1, 65_536, 20 * MIB):
            data = os.urandom(size)
            said = await perdure.feed(
                environment.name, pod, ["sha256sum"], stream(data), size=size, timeout=60
            )
            assert said.split()[0].decode() == hashlib.sha256(data).hexdigest()

    async def test_a_source_that_fails_commits_nothing(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        """Even one that fails behind its last byte: the command has not read its end by then."""
        pod = await environment.running_pod()
        data = os.urandom(3 * MIB)
        command = ["sh", "-c", "cat >/tmp/all && touch /tmp/committed"]
        for source, size in (
            (stream(data, ZeroDivisionError()), len(data)),
            (stream(data, ZeroDivisionError()), len(data) * 2),
            (stream(data), len(data) + 1),
            (stream(data), len(data) - 1),
        ):
            with pytest.raises((ZeroDivisionError, ValueError)):
                await perdure.feed(environment.name, pod, command, source, size=size, timeout=60)

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "/tmp/all")

        await eventually_async(gone, "the commands are gone", within=20)
        there = await perdure.execute(environment.name, pod, ["test", "-e", "/tmp/committed"], timeout=20)
        assert there.exit_code == 1

    async def test_a_command_that_fails_early_ends_it(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        pod = await environment.running_pod()
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield bytes(MIB)

        command = ["sh", "-c", "head -c 1000 >/dev/null; echo 'no such table' >&2; exit 5"]
        began = time.monotonic()
        with pytest.raises(CommandFailed) as caught:
            await perdure.feed(environment.name, pod, command, endless(), size=MIB * MIB, timeout=60)
        assert (caught.value.exit_code, caught.value.stderr) == (5, b"no such table\n")
        assert taken < 1000
        assert time.monotonic() - began < 30

    async def test_who_stood_still_until_it_is_about_to_begin_does_not_begin_it(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        """Another may have loaded meanwhile what it would begin by removing."""
        pod = await environment.running_pod()
        times = iter([0.0, 0.0, 60.0])
        lease = Lease(clock=lambda: next(times))
        command = ["touch", "/tmp/begun"]
        with pytest.raises(LeaseLost):
            await perdure.fenced(lease).feed(environment.name, pod, command, stream(b"a"), size=1, timeout=60)
        there = await perdure.execute(environment.name, pod, ["test", "-e", "/tmp/begun"], timeout=20)
        assert there.exit_code == 1
        assert next(times, None) is None

    async def test_a_connection_that_is_cut_commits_nothing(
        self, perdure: Cluster, environment: Environment, perdure_kubeconfig: Path, tmp_path: Path
    ) -> None:
        pod = await environment.running_pod()
        command = ["sh", "-c", "cat >/tmp/7345 && touch /tmp/committed"]
        async with proxied(perdure_kubeconfig, tmp_path) as (proxy, kubeconfig), AsyncExitStack() as stack:
            far = await stack.enter_async_context(open_cluster(ClusterConfig(kubeconfig)))

            async def source() -> AsyncIterator[bytes]:
                for number in range(100):
                    yield bytes(MIB)
                    if number == 20:
                        proxy.cut()

            with pytest.raises(Unavailable):
                await far.feed(environment.name, pod, command, source(), size=100 * MIB, timeout=60)

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "/tmp/7345")

        await eventually_async(gone, "the command is gone", within=15)
        there = await perdure.execute(environment.name, pod, ["test", "-e", "/tmp/committed"], timeout=20)
        assert there.exit_code == 1
