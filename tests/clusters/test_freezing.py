"""Quiesce and thaw: the script in every shell that this machine has, and real pods, thawed whatever ends.

In a pod, the hooks write down when they ran, by the pod's clock: how long it was held is read there.
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from clusters.errors import (
    FreezeEnded,
    FreezeExpired,
    NotFound,
    NotStarted,
    QuiesceFailed,
    ThawUnconfirmed,
    Unavailable,
)
from clusters.freeze_script import HOLD, NAME
from clusters.freezing import Hold
from clusters.gateway import Cluster, ClusterConfig, Propagation, open_cluster
from clusters.objects import Manifest, ObjectRef
from tests.clusters.conftest import IMAGE, ROOT, Environment
from tests.clusters.proxy import proxied
from tests.clusters.test_dead_man import FIRST_PROCESS
from tests.helpers.waiting import eventually_async
from workflows.domain.blueprint import parse_blueprint

SHELLS = [
    pytest.param(command, id=command[0])
    for command in (["dash"], ["bash"], ["busybox", "sh"])
    if shutil.which(command[0])
]
NOTE = "note() { read -r up rest </proc/uptime; echo $1 $up >>$LOG; }; "
QUIESCE = NOTE + "note frozen"
THAW = NOTE + "note thawed"
HERE_NAME = f"freeze-{os.getpid()}"
HERE = HOLD.replace(NAME, HERE_NAME)
"""The script under a name of this test process: on one machine the others' holds would be waited for."""


@dataclass(frozen=True)
class Journal:
    """What the hooks wrote down: `frozen` and `thawed` in turn, and the milliseconds."""

    words: tuple[str, ...]
    times: tuple[int, ...]

    @classmethod
    def read(cls, log: str) -> "Journal":
        lines = [line.split() for line in log.splitlines()]
        return cls(tuple(word for word, _ in lines), tuple(round(float(at) * 1000) for _, at in lines))

    @property
    def thawed(self) -> bool:
        """Whether the last that happened was a thaw."""
        return self.words[-1:] != ("frozen",)

    @property
    def longest(self) -> int:
        """The longest time in milliseconds from a `frozen` to the next `thawed`."""
        assert self.thawed
        spans, since = [0], None
        for word, at in zip(self.words, self.times, strict=True):
            if word == "frozen":
                since = at if since is None else since
            elif since is not None:
                spans.append(at - since)
                since = None
        return max(spans)


@dataclass
class Held:
    """The script under way on this machine, as the runtime runs it: leader of a session, stdin left open."""

    process: asyncio.subprocess.Process
    log: Path

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            return (await self.process.stdout.readline()).decode().rstrip()

    async def until(self, *lines: str) -> None:
        for line in lines:
            assert await self.line() == line

    async def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        await self.process.stdin.drain()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def over(self) -> bytes:
        """Wait until nobody holds its streams any more; return what it said on stderr."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            return await self.process.stderr.read()

    def journal(self) -> Journal:
        return Journal.read(self.log.read_text())

    def others(self) -> list[int]:
        """The processes of its session that still run, without the one that was started."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            with contextlib.suppress(OSError):
                state, _, _, session = (entry / "stat").read_text().rpartition(") ")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.append(int(entry.name))
        return found

    async def nobody_left(self) -> None:
        async def gone() -> bool:
            return self.others() == []

        await eventually_async(gone, "all processes have ended", within=30)

    async def holder(self) -> int:
        """The process that holds: child of the one that was started, once no other is about to end."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        async def only_one() -> int | None:
            children = [int(child) for child in path.read_text().split()]  # noqa: ASYNC240 - in memory
            running = set(children) & set(self.others())
            return running.pop() if len(running) == 1 else None

        return await eventually_async(only_one, "one child is left", within=30)


@asynccontextmanager
async def held(
    shell: list[str], log: Path, quiesce: str = QUIESCE, thaw: str = THAW, seconds: int = 20
) -> AsyncIterator[Held]:
    log.touch()  # noqa: ASYNC240 - a file of this test's own
    process = await asyncio.create_subprocess_exec(
        *(*shell, "-c", HERE, "perdure", str(seconds), quiesce, thaw),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "LOG": str(log)},
    )
    running = Held(process, log)
    try:
        yield running
    finally:
        running.hang_up()
        # The guard first: it takes over from whoever is killed.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        for pid in running.others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
class TestScript:
    """What runs in the container."""

    async def test_holds_until_it_is_told(self, shell: list[str], tmp_path: Path) -> None:
        async with held(shell, tmp_path / "log") as running:
            await running.until("begun", "holding")
            assert running.journal().words == ("frozen",)
            await running.say("thaw")
            word, milliseconds, *rest = (await running.line()).split()
            assert [word, *rest] == ["thawed", "1", "asked"]
            journal = running.journal()
            assert journal.words == ("frozen", "thawed")
            assert int(milliseconds) >= journal.longest
            assert await running.over() == b""
            await running.nobody_left()
            assert await running.process.wait() == 0

    @pytest.mark.parametrize("quiesce", [QUIESCE, QUIESCE + "; sleep 100"], ids=["held", "in quiesce"])
    @pytest.mark.parametrize("reason", ["cut", "limit", "signal"])
    async def test_thaws_by_itself(self, shell: list[str], tmp_path: Path, quiesce: str, reason: str) -> None:
        seconds = 3 if reason == "limit" else 20
        async with held(shell, tmp_path / "log", quiesce, seconds=seconds) as running:
            await running.until("begun")
            if quiesce == QUIESCE:
                await running.until("holding")

            async def frozen() -> bool:
                return running.journal().words == ("frozen",)

            await eventually_async(frozen, "quiesce has begun")
            if reason == "cut":
                running.hang_up()
            elif reason == "signal":
                running.process.terminate()
            word, milliseconds, *rest = (await running.line()).split()
            assert [word, *rest] == ["thawed", "1", reason]
            await running.over()
            assert running.journal().words == ("frozen", "thawed")
            await running.nobody_left()
            if reason == "limit":
                assert int(milliseconds) >= 2900

    @pytest.mark.parametrize("victim", ["the holder", "its guard"])
    async def test_one_of_both_is_killed(self, shell: list[str], tmp_path: Path, victim: str) -> None:
        async with held(shell, tmp_path / "log") as running:
            await running.until("begun", "holding")
            if victim == "the holder":
                os.kill(await running.holder(), signal.SIGKILL)
                reason = "killed"
            else:
                # Its stdin stays open: the runtime waits until nobody has the streams any more.
                running.process.kill()
                reason = "unguarded"
            word, _, *rest = (await running.line()).split()
            assert [word, *rest] == ["thawed", "1", reason]
            await running.over()
            assert running.journal().words == ("frozen", "thawed")
            await running.nobody_left()

    @pytest.mark.parametrize(
        "quiesce",
        ["true", "exit 1", "sleep 100", "sleep 100; sleep 100", "sleep 100 | { read line; exec sleep 100; }"],
    )
    async def test_the_containers_first_process_sees_nobody_die(self, shell: list[str], quiesce: str) -> None:
        """PostgreSQL up to 17 takes an orphan that ends otherwise than with 0 or 1 for a crash of its own."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FIRST_PROCESS, *shell, "-c", HERE, "perdure", "20", quiesce, "true"),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(20):
            told, _ = await process.communicate()
        assert process.returncode == 0
        assert set(json.loads(told)) <= {0, 1}

    async def test_quiesce_that_fails_is_thawed(self, shell: list[str], tmp_path: Path) -> None:
        quiesce = QUIESCE + "; head -c 300000 /dev/zero >&2; exit 7"
        async with held(shell, tmp_path / "log", quiesce) as running:
            await running.until("begun")
            assert (await running.line()).split()[2:] == ["1", "failed", "7"]
            assert await running.over() == bytes(4096)
            assert running.journal().words == ("frozen", "thawed")

    async def test_what_quiesce_left_cannot_freeze_behind_the_thaw(
        self, shell: list[str], tmp_path: Path
    ) -> None:
        left = f"{QUIESCE}; (trap '' TERM; sleep 2; note frozen; sleep 100) & (sleep 2; note frozen) &"
        async with held(shell, tmp_path / "log", left) as running:
            await running.until("begun", "holding")
            await running.say("thaw")
            assert (await running.line()).split()[2:] == ["1", "asked"]
            await running.over()
            await running.nobody_left()
            assert running.journal().thawed

    async def test_thaw_is_tried_again(self, shell: list[str], tmp_path: Path) -> None:
        thaw = NOTE + f"echo x >>{tmp_path}/tries; [ $(wc -l <{tmp_path}/tries) -ge 3 ] && note thawed"
        async with held(shell, tmp_path / "log", thaw=thaw) as running:
            await running.until("begun", "holding")
            running.hang_up()
            assert (await running.line()).split()[2:] == ["3", "cut"]
            assert running.journal().words == ("frozen", "thawed")

    async def test_thaw_that_hangs_is_ended_and_tried_again(self, shell: list[str], tmp_path: Path) -> None:
        thaw = NOTE + f"[ -e {tmp_path}/once ] || {{ : >{tmp_path}/once; sleep 100; }}; note thawed"
        async with held(shell, tmp_path / "log", thaw=thaw) as running:
            await running.until("begun", "holding")
            await running.say("thaw")
            assert (await running.line()).split()[2:] == ["2", "asked"]
            assert running.journal().thawed

    async def test_the_next_one_waits_for_it(self, shell: list[str], tmp_path: Path) -> None:
        """Or the first one's thaw would end the second's freeze."""
        log = tmp_path / "log"
        async with held(shell, log) as first:
            await first.until("begun", "holding")
            async with held(shell, log) as second:
                # It is there, and goes on looking for the first.
                await eventually_async(lambda: _named(second), "the second waits")
                first.hang_up()
                await second.until("begun", "holding")
                await second.say("thaw")
                await second.line()
        assert Journal.read(log.read_text()).words == ("frozen", "thawed", "frozen", "thawed")


async def _named(running: Held) -> bool:
    name = Path(f"/proc/{running.process.pid}/comm").read_text()  # noqa: ASYNC240 - no disk
    return name.strip() == HERE_NAME


@dataclass
class Pod:
    """A running pod, and what its hooks have written down."""

    cluster: Cluster
    environment: Environment
    name: str

    def hold(self, quiesce: str = QUIESCE, thaw: str = THAW, seconds: int = 20) -> Hold:
        log = "LOG=/tmp/log; "
        return Hold(
            self.environment.name,
            self.name,
            ("sh", "-c", log + quiesce),
            ("sh", "-c", log + thaw),
            seconds=seconds,
        )

    async def run(self, script: str) -> str:
        done = await self.cluster.execute(self.environment.name, self.name, ["sh", "-c", script], timeout=20)
        assert done.exit_code == 0, done.stderr
        return done.stdout.decode()

    async def journal(self) -> Journal:
        return Journal.read(await self.run("cat /tmp/log 2>/dev/null || true"))

    async def holders(self) -> list[int]:
        """The processes that hold this pod still, by its own numbers: first the one that was started."""
        found = await self.run(
            "for each in /proc/[0-9]*/stat; do read -r line <$each || continue; "
            f'case $line in *"({NAME}) Z "*) ;; *"({NAME}) "*) echo ${{line%% *}} ;; esac; done 2>/dev/null'
        )
        return sorted(int(pid) for pid in found.split())

    async def is_let_go(self) -> bool:
        """Whether no process holds it, and the hooks say that it is thawed."""
        return not await self.holders() and (await self.journal()).thawed


@pytest.fixture(params=["busybox", "debian"])
async def pod(request: pytest.FixtureRequest, environment: Environment, admin: Cluster) -> Pod:
    """A pod with the small shell and tools, and one with Debian's."""
    return await started(environment, admin, "tiny" if request.param == "busybox" else "postgres")


async def started(
    environment: Environment, admin: Cluster, image: str, env: dict[str, str] | None = None
) -> Pod:
    """Run a pod that does nothing; with `env`, what its image does."""
    name = f"f-{secrets.token_hex(3)}"
    container: Manifest = {
        "name": "main",
        "image": f"{IMAGE.rpartition('/')[0]}/{image}:1",
    }
    if env is None:
        container |= {"command": ["sleep", "1000"], "securityContext": {"runAsUser": 65534}}
    else:
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
    spec: Manifest = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    await admin.apply(environment.manifest("Pod", "v1", name, spec=spec))
    made = Pod(environment.cluster, environment, name)

    async def runs() -> bool:
        with contextlib.suppress(Unavailable, NotFound):  # the kubelet has not heard of it yet
            return await made.run("echo up") == "up\n"
        return False

    await eventually_async(runs, f"a pod of {image} runs", within=60)
    return made


CLIENT = """
import asyncio, sys
from pathlib import Path
from clusters.freezing import Hold
from clusters.gateway import ClusterConfig, open_cluster
async def main():
    kubeconfig, namespace, pod, quiesce, thaw, seconds = sys.argv[1:]
    hold = Hold(namespace, pod, ("sh", "-c", quiesce), ("sh", "-c", thaw), seconds=int(seconds))
    async with open_cluster(ClusterConfig(Path(kubeconfig))) as cluster:
        print("asking", flush=True)
        async with cluster.frozen(hold):
            print("held", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
        print("thawed", flush=True)
asyncio.run(main())
"""


@asynccontextmanager
async def client(kubeconfig: Path, hold: Hold) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds a pod until a line comes to its stdin; killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, str(kubeconfig), hold.namespace, hold.pod),
        *(hold.quiesce[2], hold.thaw[2], str(hold.seconds)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert (await process.stdout.readline()).decode().strip() == word


@pytest.mark.cluster
class TestFrozen:
    async def test_is_held_as_long_as_the_body_lasts(self, pod: Pod) -> None:
        async with pod.cluster.frozen(pod.hold()) as freeze:
            assert (await pod.journal()).words == ("frozen",)
            assert len(await pod.holders()) >= 2
        journal = await pod.journal()
        assert journal.words == ("frozen", "thawed")
        assert freeze.tries == 1
        assert freeze.frozen_ms is not None
        assert journal.longest <= freeze.frozen_ms < 20_000
        await eventually_async(pod.is_let_go, "nobody holds it any more")

    async def test_an_error_of_the_body_is_its_own(self, pod: Pod) -> None:
        for error in (KeyError("mine"), TimeoutError("mine"), OSError("mine"), NotStarted("mine")):
            with pytest.raises(type(error)) as caught:
                async with pod.cluster.frozen(pod.hold()):
                    raise error
            assert caught.value is error
            assert (await pod.journal()).thawed

    async def test_a_body_that_is_cancelled(self, pod: Pod) -> None:
        inside = asyncio.Event()

        async def stay() -> None:
            async with pod.cluster.frozen(pod.hold()):
                inside.set()
                await asyncio.Event().wait()

        staying = asyncio.create_task(stay())
        await inside.wait()
        staying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await staying
        # It has been waited for.
        assert (await pod.journal()).words == ("frozen", "thawed")

    async def test_the_limit_breaks_the_body_off(self, pod: Pod) -> None:
        with pytest.raises(FreezeExpired) as caught:
            async with pod.cluster.frozen(pod.hold(seconds=4)):
                await asyncio.Event().wait()
        assert "which is the limit: its `quiesceSeconds` can be raised to 30 at most" in str(caught.value)
        assert caught.value.frozen_ms is not None
        journal = await pod.journal()
        assert journal.words == ("frozen", "thawed")
        # One of the four seconds is left for thawing. The limit counts from the beginning of `quiesce`, some
        # time before that notes that it has frozen.
        assert 2_900 <= caught.value.frozen_ms <= 4_000
        assert 2_000 <= journal.longest <= caught.value.frozen_ms

    async def test_quiesce_that_fails(self, pod: Pod) -> None:
        with pytest.raises(QuiesceFailed) as caught:
            async with pod.cluster.frozen(pod.hold(QUIESCE + "; echo 'no such lock' >&2; exit 5")):
                pytest.fail("it is not held")
        assert (caught.value.exit_code, caught.value.stderr) == (5, b"no such lock\n")
        assert (await pod.journal()).words == ("frozen", "thawed")

    async def test_quiesce_that_hangs(self, pod: Pod) -> None:
        hanging = QUIESCE + "; sleep 1000 | cat & trap '' TERM; sleep 1000; note frozen"
        with pytest.raises(QuiesceFailed) as caught:
            async with pod.cluster.frozen(pod.hold(hanging, seconds=4)):
                pytest.fail("it is not held")
        assert caught.value.exit_code is None
        await eventually_async(pod.is_let_go, "nobody holds it any more")
        assert "sleep 1000" not in await pod.run(
            "cat /proc/[2-9]/cmdline /proc/[0-9]?*/cmdline | tr '\\0' ' '"
        )

    async def test_quiesce_that_holds_by_a_process_of_its_own(self, pod: Pod) -> None:
        """A lock that lasts as long as its owner: that one is ended before thaw runs."""
        quiesce = QUIESCE + "; sleep 1000 & echo $! >/tmp/owner"
        async with pod.cluster.frozen(
            pod.hold(quiesce, THAW + "; ! grep -q sleep /proc/$(cat /tmp/owner)/cmdline")
        ) as freeze:
            await pod.run("kill -0 $(cat /tmp/owner)")
        assert freeze.tries == 1

    async def test_thaw_that_fails_twice(self, pod: Pod) -> None:
        thaw = NOTE + "echo x >>/tmp/tries; [ $(wc -l </tmp/tries) -ge 3 ] && note thawed"
        async with pod.cluster.frozen(pod.hold(thaw=thaw)) as freeze:
            pass
        assert freeze.tries == 3
        assert (await pod.journal()).words == ("frozen", "thawed")

    async def test_thaw_that_always_fails_is_said(self, environment: Environment, admin: Cluster) -> None:
        pod = await started(environment, admin, "tiny")
        with pytest.raises(ThawUnconfirmed) as caught:
            async with pod.cluster.frozen(pod.hold(thaw="echo 'still locked' >&2; exit 1")):
                raise KeyError("the body's own, which is less than this")
        assert caught.value.stderr.count(b"still locked\n") == 6
        assert not (await pod.journal()).thawed
        with pytest.raises(ThawUnconfirmed):
            await pod.cluster.make_sure_thawed(pod.hold(thaw="exit 1"))
        await pod.cluster.make_sure_thawed(pod.hold())
        assert (await pod.journal()).thawed

    async def test_what_cannot_begin_is_told(self, pod: Pod) -> None:
        hold = pod.hold()
        for other, error in (
            (Hold(hold.namespace, "no-such-pod", hold.quiesce, hold.thaw), NotFound),
            (Hold(hold.namespace, hold.pod, hold.quiesce, hold.thaw, container="another"), NotStarted),
        ):
            with pytest.raises(error):
                async with pod.cluster.frozen(other):
                    pytest.fail("it is not held")


@pytest.mark.cluster
class TestNothingStaysFrozen:
    """Whatever is killed or cut at whatever instant."""

    @pytest.mark.parametrize("when", ["as it asks", "in quiesce", "held", "in thaw"])
    async def test_the_client_is_killed(self, pod: Pod, perdure_kubeconfig: Path, when: str) -> None:
        quiesce = QUIESCE + ("; sleep 1000" if when == "in quiesce" else "")
        thaw = NOTE + "note thawing; sleep 1; note thawed"
        async with client(perdure_kubeconfig, pod.hold(quiesce, thaw)) as process:
            await said(process, "asking")
            if when == "in quiesce":
                await eventually_async(lambda: _wrote(pod, "frozen"), "quiesce has begun")
            elif when != "as it asks":
                await said(process, "held")
            if when == "in thaw":
                assert process.stdin is not None
                process.stdin.write(b"\n")
                await eventually_async(lambda: _wrote(pod, "thawing"), "thaw has begun")
            process.kill()
            await process.wait()
            await eventually_async(pod.is_let_go, "it is thawed", within=15)
        journal = await pod.journal()
        # Long before the limit: by the end of its stdin.
        assert journal.longest < 10_000
        if when != "as it asks":
            assert journal.words[-1] == "thawed"

    async def test_the_client_is_killed_at_any_instant(self, pod: Pod, perdure_kubeconfig: Path) -> None:
        """From before the request is sent until after it holds."""
        for after in range(0, 300, 50):
            async with client(perdure_kubeconfig, pod.hold()) as process:
                await said(process, "asking")
                await asyncio.sleep(after / 1000)
                process.kill()
                await process.wait()
        await eventually_async(pod.is_let_go, "it is thawed", within=30)
        assert (await pod.journal()).longest < 10_000

    async def test_the_connection_is_cut(self, pod: Pod, perdure_kubeconfig: Path, tmp_path: Path) -> None:
        async with (
            proxied(perdure_kubeconfig, tmp_path) as (proxy, kubeconfig),
            open_cluster(ClusterConfig(kubeconfig)) as far,
        ):

            async def cut() -> None:
                proxy.cut()

            with pytest.raises(FreezeEnded) as caught:
                await broken_off(far, pod, cut)
        assert not isinstance(caught.value, FreezeExpired)
        # It was made sure of by another way before that was said.
        assert await pod.is_let_go()
        assert (await pod.journal()).longest < 10_000

    async def test_the_wire_goes_silent(self, pod: Pod, perdure_kubeconfig: Path, tmp_path: Path) -> None:
        """Nobody hears that the client has gone: the limit holds in the pod, and here as well."""
        async with (
            proxied(perdure_kubeconfig, tmp_path) as (proxy, kubeconfig),
            open_cluster(ClusterConfig(kubeconfig)) as far,
        ):

            async def hold_silently() -> None:
                async with far.frozen(pod.hold(seconds=4)):
                    proxy.freeze()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        # The body has been told, and not by the wire.
                        told.set()

            told = asyncio.Event()
            holding = asyncio.create_task(hold_silently())
            async with asyncio.timeout(20):
                await told.wait()
            await eventually_async(pod.is_let_go, "it is thawed", within=15)
            proxy.thaw()
            with pytest.raises(FreezeExpired) as caught:
                await holding
        # The limit counts from the beginning of `quiesce`, some time before that notes that it has frozen.
        assert caught.value.frozen_ms is not None
        assert 2_900 <= caught.value.frozen_ms <= 4_000
        assert 2_000 <= (await pod.journal()).longest <= 4_000

    @pytest.mark.parametrize("number", ["TERM", "HUP", "KILL"])
    @pytest.mark.parametrize("victim", [0, 1], ids=["the guard", "the holder"])
    async def test_a_process_in_the_pod_is_ended(self, pod: Pod, number: str, victim: int) -> None:

        async def end() -> None:
            await pod.run(f"kill -{number} {(await pod.holders())[victim]}")

        with pytest.raises(FreezeEnded):
            await broken_off(pod.cluster, pod, end)
        await eventually_async(pod.is_let_go, "it is thawed", within=15)
        assert (await pod.journal()).longest < 10_000

    async def test_the_pod_is_deleted(self, pod: Pod, admin: Cluster) -> None:
        ref = ObjectRef("Pod", pod.name, pod.environment.name)

        async def delete() -> None:
            await admin.delete(ref, propagation=Propagation.BACKGROUND, grace_seconds=0)

        with pytest.raises(FreezeEnded):
            await broken_off(pod.cluster, pod, delete)

    async def test_a_newer_freeze_is_not_ended_by_an_older_ones_thaw(
        self, pod: Pod, perdure_kubeconfig: Path
    ) -> None:
        slow = NOTE + "sleep 3; note thawed"
        async with client(perdure_kubeconfig, pod.hold(thaw=slow)) as process:
            await said(process, "asking")
            await said(process, "held")
            process.kill()
            await process.wait()
            async with pod.cluster.frozen(pod.hold()):
                assert (await pod.journal()).words == ("frozen", "thawed", "frozen")
        assert (await pod.journal()).words == ("frozen", "thawed", "frozen", "thawed")


@pytest.mark.cluster
async def test_the_documented_lock_of_mariadb(environment: Environment, admin: Cluster) -> None:
    document = (ROOT / "docs" / "snapshots.md").read_text()
    example = re.search(r"```yaml\n(api:.*?)```", document, re.DOTALL)
    assert example is not None
    services = {name: {"image": "x:1", **each} for name, each in yaml.safe_load(example[1]).items()}
    hooks = parse_blueprint({"name": "env", "services": services}).service("db").snapshot
    pod = await started(environment, admin, "mariadb", {"MARIADB_ROOT_PASSWORD": "secret"})
    client = "MYSQL_PWD=secret mariadb -h 127.0.0.1 -u root -N"
    insert = f"{client} -e 'SET lock_wait_timeout = 1; INSERT INTO test.t VALUES (1)'"

    async def succeeds(script: str) -> bool:
        done = await pod.cluster.execute(environment.name, pod.name, ["sh", "-c", script], timeout=20)
        return done.exit_code == 0

    create = f"{client} -e 'CREATE DATABASE IF NOT EXISTS test; CREATE TABLE test.t (a int)'"
    await eventually_async(lambda: succeeds(create), "the server takes statements", within=90)
    assert await succeeds(insert)
    async with pod.cluster.frozen(Hold(environment.name, pod.name, hooks.quiesce, hooks.thaw)) as freeze:
        assert not await succeeds(insert)
        assert await succeeds(f"{client} -e 'SELECT * FROM test.t'")
    assert freeze.tries == 1
    assert await succeeds(insert)


@pytest.mark.cluster
class TestAllFrozen:
    async def test_in_order_and_back(self, environment: Environment, admin: Cluster) -> None:
        one, two = [await started(environment, admin, "tiny") for _ in range(2)]
        async with environment.cluster.all_frozen([one.hold(), two.hold()], seconds=20) as freezes:
            assert [(await each.journal()).words for each in (one, two)] == [("frozen",)] * 2
        first, second = [(await each.journal()).times for each in (one, two)]
        # One node, one clock, of hundredths of a second: first in, last out.
        assert first[0] <= second[0] < second[1] <= first[1]
        assert all(freeze.frozen_ms is not None and freeze.frozen_ms < 20_000 for freeze in freezes)

    async def test_one_that_fails_thaws_all(self, environment: Environment, admin: Cluster) -> None:
        one, two = [await started(environment, admin, "tiny") for _ in range(2)]
        with pytest.raises(QuiesceFailed):
            async with environment.cluster.all_frozen([one.hold(), two.hold(QUIESCE + "; exit 1")]):
                pytest.fail("they are not all held")
        assert [(await each.journal()).words for each in (one, two)] == [("frozen", "thawed")] * 2

    async def test_one_that_ends_breaks_the_body_off(self, environment: Environment, admin: Cluster) -> None:
        one, two = [await started(environment, admin, "tiny") for _ in range(2)]
        with pytest.raises(FreezeExpired):
            async with environment.cluster.all_frozen([one.hold(seconds=3), two.hold()]):
                await asyncio.Event().wait()
        assert [(await each.journal()).words for each in (one, two)] == [("frozen", "thawed")] * 2

    async def test_the_time_is_for_all_together(self, environment: Environment, admin: Cluster) -> None:
        one, two = [await started(environment, admin, "tiny") for _ in range(2)]
        slow = QUIESCE + "; sleep 3"
        # The first one's time may be over first.
        with pytest.raises((QuiesceFailed, FreezeExpired)):
            async with environment.cluster.all_frozen([one.hold(slow), two.hold(slow)], seconds=6):
                pytest.fail("there is no time for both")
        journals = [await each.journal() for each in (one, two)]
        assert [each.words for each in journals] == [("frozen", "thawed")] * 2
        assert journals[0].longest <= 6_000


async def broken_off(cluster: Cluster, pod: Pod, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Hold a pod, do something, and stay: it ends by what `frozen` does, long before the limit."""
    async with cluster.frozen(pod.hold(seconds=30)):
        await meanwhile()
        async with asyncio.timeout(15):
            await asyncio.Event().wait()


async def _wrote(pod: Pod, word: str) -> bool:
    return word in await pod.run("cat /tmp/log 2>/dev/null || true")
