"""What containers use, as their own cgroups tell: the files that the kubelet reads, read from inside.

The kubelet itself is not asked: see `api.access.metrics`. A container may read its own cgroup, so a few lines
of shell in each print it twice. What they take themselves is in the figures: some thousandths of a core.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from activities.db.types import utc_now
from api.access.schemas import ContainerMetrics, PodMetrics, UnmeasuredPod
from clusters.errors import ClusterError
from clusters.objects import Manifest
from workflows.domain.json_reading import children, mapping, text

if TYPE_CHECKING:
    from clusters.gateway import Cluster

SECONDS: Final = 10.0
"""For all containers of an environment. Each takes about half a second, and what starting a command takes."""
_AT_ONCE: Final = 8
_OUTPUT_LIMIT: Final = 65_536
_LONGEST_REASON: Final = 300
_LINE: Final = re.compile(r"(\w+) (\d{1,18}(?:\.\d{1,9})?)")
SCRIPT: Final = """
cd /sys/fs/cgroup || exit
if [ -r memory.current ]; then
  use() { read -r _ used <cpu.stat && echo "usage_usec $used"; }
  held=memory.current stat=memory.stat
else
  use() { read -r used <cpuacct/cpuacct.usage && echo "usage_nsec $used"; }
  held=memory/memory.usage_in_bytes stat=memory/memory.stat
fi
look() { read -r at _ </proc/uptime && echo "at $at" && use; }
look || exit
sleep 0.5 2>/dev/null || sleep 1
look && read -r bytes <$held && echo "memory $bytes" && cat $stat
"""
"""Lines of a name and a number: the time and the CPU used until then, both twice, and memory.

Version 2 of cgroups, else version 1. The root of a node's hierarchy has no `memory.current`, so a container
that sees all of it in place of its own does not tell the node's figures as its own. What is read by the shell
itself starts no process, which would count. The fraction of a second is known to all shells but not to POSIX.
"""


@dataclass(frozen=True, slots=True)
class Use:
    """What a container uses, and over how long its CPU was measured."""

    cpu_cores: float
    memory_bytes: int
    window_seconds: float


def use_of(said: str) -> Use | None:
    """Read what the script said; None unless it is all there and makes sense.

    Memory is what the kubelet calls the working set: without the file cache that was not used lately.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for line in said.splitlines():
        if (match := _LINE.fullmatch(line)) is not None:
            found[match[1]].append(float(match[2]))
    match found:
        case {"at": [begin, end], "usage_usec": [before, after], "memory": [held]}:
            cache, seconds = found["inactive_file"], (after - before) / 1e6
        case {"at": [begin, end], "usage_nsec": [before, after], "memory": [held]}:
            # Of version 1, whose `inactive_file` leaves out the groups within.
            cache, seconds = found["total_inactive_file"], (after - before) / 1e9
        case _:
            return None
    if len(cache) != 1 or end <= begin or seconds < 0:
        return None
    return Use(
        cpu_cores=seconds / (end - begin),
        memory_bytes=max(int(held - cache[0]), 0),
        window_seconds=round(end - begin, 2),
    )


async def ask_pods(
    cluster: Cluster, namespace: str, pods: Iterable[Manifest]
) -> list[PodMetrics | UnmeasuredPod]:
    """Ask the running containers of these pods, some at once, for ten seconds in all.

    A pod has figures when each of its running containers told its own.
    """
    deadline = asyncio.get_running_loop().time() + SECONDS
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(pod: str, container: str) -> Use | str:
        try:
            async with asyncio.timeout_at(deadline), turns:
                result = await cluster.execute(
                    *(namespace, pod, ["sh", "-c", SCRIPT]),
                    container=container,
                    timeout=SECONDS,
                    output_limit=_OUTPUT_LIMIT,
                )
        except TimeoutError:
            return f"it did not tell in time ({SECONDS:g} s for all pods)"
        except ClusterError as error:
            return f"it cannot be asked: {error}"[:_LONGEST_REASON]
        return use_of(result.stdout.decode(errors="replace")) or "it cannot read its own cgroup"

    async def ask_all(pod: Manifest) -> PodMetrics | UnmeasuredPod:
        name, running = text(pod, "metadata", "name"), _running(pod)
        reason = _unasked(pod, running)
        if reason is not None:
            return UnmeasuredPod(pod=name, reason=reason)
        uses = []
        for container, told in zip(
            running, await asyncio.gather(*(ask(name, each) for each in running)), strict=True
        ):
            if isinstance(told, str):
                return UnmeasuredPod(pod=name, container=container, reason=told)
            uses.append((container, told))
        return PodMetrics.of(
            name,
            [
                ContainerMetrics(
                    container=container, cpu_cores=round(use.cpu_cores, 6), memory_bytes=use.memory_bytes
                )
                for container, use in uses
            ],
            window_seconds=max(use.window_seconds for _, use in uses),
            measured_at=utc_now(),
        )

    return await asyncio.gather(*(ask_all(pod) for pod in pods))


def _running(pod: Manifest) -> list[str]:
    """Names of the running containers; sidecars are among those that start first."""
    return [text(status, "name") for status in _statuses(pod) if mapping(status, "state", "running")]


def _unasked(pod: Manifest, running: list[str]) -> str | None:
    if text(pod, "metadata", "deletionTimestamp"):
        return "it is being deleted"
    if running:
        return None
    waiting = [text(status, "state", "waiting", "reason") for status in _statuses(pod)]
    why = next(filter(None, waiting), text(pod, "status", "phase"))
    return f"none of its containers is running ({why})"


def _statuses(pod: Manifest) -> list[Manifest]:
    return [
        *children(pod, "status", "containerStatuses"),
        *children(pod, "status", "initContainerStatuses"),
    ]
