"""Logs and commands of real pods."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from clusters.errors import ClusterError, Invalid, NotFound, NotStarted, TimedOut, Unavailable
from clusters.gateway import Cluster, ClusterConfig, LogLine, Propagation, open_cluster
from tests.clusters.conftest import IMAGE, ROOT, Environment
from tests.clusters.proxy import proxied
from tests.helpers.waiting import eventually_async
from workflows.domain.json_reading import number

pytestmark = pytest.mark.cluster


async def processes(cluster: Cluster, environment: Environment, pod: str, marker: str) -> str:
    """Return the processes in a pod whose command line has `marker`."""
    # The brackets keep the search from finding itself.
    pattern = f"[{marker[0]}]{marker[1:]}"
    found = await cluster.execute(
        environment.name, pod, ["sh", "-c", f"ps -o pid,args | grep '{pattern}' || true"], timeout=20
    )
    assert found.exit_code == 0
    return found.stdout.decode()


class TestExecute:
    async def test_exit_codes_and_streams(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        for script, code in (
            ("exit 0", 0),
            ("exit 3", 3),
            ("no-such-tool", 127),
            ("kill -9 $$", 137),
        ):
            result = await perdure.execute(environment.name, pod, ["sh", "-c", script], timeout=20)
            assert result.exit_code == code, script
        result = await perdure.execute(environment.name, pod, ["no-such-tool"], timeout=20)
        assert result.exit_code == 127
        result = await perdure.execute(
            environment.name, pod, ["sh", "-c", 'echo "out $1"; echo err >&2', "x", "a  b'"], timeout=20
        )
        assert (result.stdout, result.stderr) == (b"out a  b'\n", b"err\n")
        assert not result.truncated

    async def test_stdin_is_binary_and_ends(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        for size in (0, 1, 65_536, 300_001):
            data = os.urandom(size)
            result = await perdure.execute(environment.name, pod, ["cat"], stdin=data, timeout=30)
            assert result.exit_code == 0
            assert result.stdout == data

    async def test_stdin_that_is_not_read_holds_nothing_up(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        pod = await environment.running_pod()
        # Held up, it would end with the time limit, which is another answer.
        command = ["sh", "-c", "head -c 10 >/dev/null; exit 7"]
        result = await perdure.execute(environment.name, pod, command, stdin=bytes(3_000_000), timeout=60)
        assert result.exit_code == 7

    async def test_output_beyond_the_limit_is_dropped(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        pod = await environment.running_pod()
        result = await perdure.execute(
            environment.name,
            pod,
            ["sh", "-c", "head -c 2000000 /dev/zero; echo end >&2"],
            timeout=30,
            output_limit=1000,
        )
        assert result.exit_code == 0
        assert result.stdout == bytes(1000)
        assert result.stderr == b"end\n"
        assert result.truncated

    async def test_timeout_kills_command_and_children(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        pod = await environment.running_pod()
        script = "echo begun; sleep 7331 & trap '' TERM; sleep 7331; sleep 7331"
        with pytest.raises(TimedOut) as caught:
            await perdure.execute(environment.name, pod, ["sh", "-c", script], timeout=2)
        assert caught.value.stdout == b"begun\n"

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "7331")

        await eventually_async(gone, "all processes of the command are gone", within=30)

    async def test_client_that_is_killed_takes_its_command_along(
        self, perdure: Cluster, environment: Environment, perdure_kubeconfig: Path
    ) -> None:
        pod = await environment.running_pod()
        program = (
            "import asyncio, sys\n"
            "from pathlib import Path\n"
            "from clusters.gateway import ClusterConfig, open_cluster\n"
            "async def main():\n"
            "    async with open_cluster(ClusterConfig(Path(sys.argv[1]))) as cluster:\n"
            "        script = 'sleep 7332 | cat & sleep 7332; wait'\n"
            "        await cluster.execute(sys.argv[2], sys.argv[3], ['sh', '-c', script], timeout=300)\n"
            "asyncio.run(main())\n"
        )
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(perdure_kubeconfig), environment.name, pod, cwd=ROOT
        )
        try:

            async def there() -> bool:
                return "sleep 7332" in await processes(perdure, environment, pod, "7332")

            await eventually_async(there, "the command runs")
        finally:
            client.kill()
            await client.wait()

        async def gone() -> bool:
            return not await processes(perdure, environment, pod, "7332")

        await eventually_async(gone, "the command ended with its caller", within=30)

    async def test_nothing_is_left_of_a_command_that_ended(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        pod = await environment.running_pod()
        for _ in range(3):
            await perdure.execute(environment.name, pod, ["true"], stdin=b"x" * 100, timeout=20)

        async def gone() -> bool:
            # The search's own wrapper is the one that is running.
            return (await processes(perdure, environment, pod, "perdure 100")) == ""

        await eventually_async(gone, "no wrapper is left", within=30)

    async def test_pod_that_is_deleted_never_looks_like_success(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        pods = await asyncio.gather(*(environment.running_pod() for _ in range(3)))

        async def run(pod: str) -> int | ClusterError:
            script = "while :; do head -c 100000 /dev/zero; done"
            try:
                result = await perdure.execute(environment.name, pod, ["sh", "-c", script], timeout=60)
            except ClusterError as error:
                return error
            return result.exit_code

        running = [asyncio.create_task(run(pod)) for pod in pods]
        for pod in pods:

            async def writing(pod: str = pod) -> bool:
                return "head" in await processes(perdure, environment, pod, "head -c 100000")

            await eventually_async(writing, "the command writes")
        for pod in pods:
            await perdure.delete(environment.ref("Pod", pod), propagation=Propagation.BACKGROUND)
        for outcome in await asyncio.gather(*running):
            assert outcome != 0
            assert not isinstance(outcome, TimedOut)

    async def test_connection_that_breaks_is_no_success(
        self, environment: Environment, perdure_kubeconfig: Path, tmp_path: Path
    ) -> None:
        pod = await environment.running_pod()
        async with (
            proxied(perdure_kubeconfig, tmp_path) as (proxy, through),
            open_cluster(ClusterConfig(through)) as cluster,
        ):
            running = asyncio.create_task(
                cluster.execute(environment.name, pod, ["sleep", "7333"], timeout=60)
            )

            async def there() -> bool:
                return "sleep" in await processes(environment.cluster, environment, pod, "7333")

            await eventually_async(there, "the command runs")
            proxy.cut()
            with pytest.raises(Unavailable):
                await running

            async def gone() -> bool:
                return not await processes(environment.cluster, environment, pod, "7333")

            await eventually_async(gone, "the command ended with its connection", within=30)

    async def test_what_cannot_be_started(self, perdure: Cluster, environment: Environment) -> None:
        with pytest.raises(NotFound):
            await perdure.execute(environment.name, "nobody", ["true"], timeout=20)
        pod = await environment.running_pod()
        with pytest.raises(NotStarted):
            await perdure.execute(environment.name, pod, ["true"], container="other", timeout=20)
        bare = environment.job("bare", [])
        spec = bare["spec"]
        spec["template"]["spec"]["containers"] = [  # type: ignore[index,call-overload]
            {"name": "main", "image": IMAGE.replace("/tiny:", "/pause:")}
        ]
        await perdure.apply(bare)
        labels = {"app.kubernetes.io/name": "bare"}

        async def started() -> str | None:
            for item in (await perdure.list("Pod", environment.name, labels=labels)).items:
                if item["status"]["phase"] == "Running":  # type: ignore[index,call-overload]
                    return str(item["metadata"]["name"])  # type: ignore[index,call-overload]
            return None

        with pytest.raises(NotStarted):
            await perdure.execute(
                environment.name, await eventually_async(started, "the pod runs"), ["true"], timeout=20
            )

    async def test_many_at_once(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod()
        results = await asyncio.gather(
            *(
                perdure.execute(environment.name, pod, ["sh", "-c", f"exit {code}"], timeout=60)
                for code in range(12)
            )
        )
        assert [result.exit_code for result in results] == list(range(12))


class TestLogs:
    async def test_current_and_previous(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod(
            "echo one; echo two; printf '\\377\\n'; sleep 2; exit 1", backoff=6
        )

        async def restarted() -> bool:
            live = await perdure.get(environment.ref("Pod", pod))
            return bool(number(live, "status", "containerStatuses", 0, "restartCount"))

        await eventually_async(restarted, "the container restarted", within=60)
        previous = await perdure.logs(environment.name, pod, previous=True)
        assert previous == "one\ntwo\n\ufffd\n"

        async def said() -> bool:
            return await perdure.logs(environment.name, pod, container="main", tail_lines=1) == "\ufffd\n"

        await eventually_async(said, "the second run has said all", within=60)
        assert await perdure.logs(environment.name, pod, previous=True, limit_bytes=5) == "one\nt"

    async def test_of_what_is_not_there(self, perdure: Cluster, environment: Environment) -> None:
        with pytest.raises(NotFound):
            await perdure.logs(environment.name, "nobody")
        pod = await environment.running_pod()
        for wrong in ({"container": "other"}, {"previous": True}):
            with pytest.raises(Invalid):
                await perdure.logs(environment.name, pod, **wrong)

    async def test_followed_to_the_end(self, perdure: Cluster, environment: Environment) -> None:
        pod = await environment.running_pod("for i in 1 2 3; do echo line $i; sleep 0.3; done; printf end")
        lines = [line async for line in perdure.follow_logs(environment.name, pod)]
        assert [line.text for line in lines] == ["line 1", "line 2", "line 3", "end"]
        assert lines[0].at < lines[1].at
        after = [line.text async for line in perdure.follow_logs(environment.name, pod, since=lines[1].at)]
        assert after == ["line 3", "end"]

    async def test_cut_stream_is_taken_up_without_gap_or_repetition(
        self, environment: Environment, perdure_kubeconfig: Path, tmp_path: Path
    ) -> None:
        # It has more to say when the stream is cut, however late that is.
        halfway = "[ $i != 15 ] || until [ -e /tmp/go ]; do sleep 0.1; done"
        pod = await environment.running_pod(f"for i in $(seq 30); do echo $i; {halfway}; done")
        seen: list[LogLine] = []
        async with (
            proxied(perdure_kubeconfig, tmp_path) as (proxy, through),
            open_cluster(ClusterConfig(through)) as cluster,
        ):

            async def follow(stop: int) -> None:
                since = seen[-1].at if seen else None
                async for line in cluster.follow_logs(environment.name, pod, since=since):
                    seen.append(line)
                    if len(seen) == stop:
                        proxy.cut()

            with pytest.raises(Unavailable):
                await follow(8)
            await environment.cluster.execute(environment.name, pod, ["touch", "/tmp/go"], timeout=60)
            await follow(0)
        assert [line.text for line in seen] == [str(number) for number in range(1, 31)]
