"""What each part of the benchmark needs: a stack of its own, and what is said of every part alike."""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.formats import facts, masking
from bench.lists import thousand
from bench.load import apart
from bench.plain import Kubectl
from bench.process import resident_megabytes
from bench.provisioning import beside_kubectl, cost, document, many_at_once, warmed
from bench.snapshots import beside_a_pipe
from tests.helpers.stack import ROOT, Stack, running_stack
from tests.helpers.waiting import eventually

Result = dict[str, Any]

_CLEANED_SECONDS: Final = 900.0
_CLUSTER: Final = ROOT / ".dev" / "cluster"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where it is measured. `quick`: as little as shows that it works."""

    quick: bool
    kubectl: Kubectl

    @property
    def pairs(self) -> int:
        """How often two things are measured in turn."""
        return 1 if self.quick else 5

    @contextmanager
    def stack(self) -> Iterator[Stack]:
        """Start a stack beside the development cluster, in which one environment has come and gone."""
        with (
            tempfile.TemporaryDirectory(prefix="perdure-bench-") as state,
            running_stack(
                Path(state),
                kubeconfig=_CLUSTER / "perdure.kubeconfig",
                admin_kubeconfig=self.kubectl.kubeconfig,
                gated=False,
                forked=False,
            ) as stack,
        ):
            warmed(stack)
            yield stack
            # What is left behind would slow down the parts that follow.
            for process in (stack.worker, stack.api):
                process.kill()
            stack.delete_namespaces()
            eventually(lambda: not stack.namespaces(), "its namespaces are gone", within=_CLEANED_SECONDS)


def measured(name: str, bench: Bench) -> Result:
    """Measure a part of `PARTS`; return it with its own time, and the machine that it was measured on.

    One that has a bar says whether that was reached: `met`.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    found = PARTS[name](bench)
    met = {"met": found["bar"]["verdict"] == "pass"} if "bar" in found else {}
    return {"at": at, "machine": machine, **met, **found}


def here() -> Bench:
    """Return the bench on the development cluster, with all that it has."""
    return Bench(quick=False, kubectl=Kubectl(_CLUSTER / "admin.kubeconfig"))


def _beside(bench: Bench) -> Result:
    fewer = max(1, bench.pairs // 2 + 1)
    with bench.stack() as stack:
        beside_kubectl(stack, bench.kubectl, 1, 1)  # which kubectl has to have done, too
        runs = [
            # A pod is seen to be ready once a second: short runs differ by that, and take more pairs.
            beside_kubectl(stack, bench.kubectl, 1, 2 * bench.pairs),
            beside_kubectl(stack, bench.kubectl, 10, fewer),
            beside_kubectl(stack, bench.kubectl, 30, fewer),
            beside_kubectl(stack, bench.kubectl, 5, bench.pairs, chained=True),
        ]
        return {"runs": runs, **_memory(stack)}


def _cost(bench: Bench) -> Result:
    with bench.stack() as stack:
        return {"runs": [cost(stack, 1), cost(stack, 10)]}


def _at_once(bench: Bench) -> Result:
    with bench.stack() as stack:
        return {**many_at_once(stack, 20, 3), **_memory(stack)}


def _snapshot(bench: Bench) -> Result:
    with bench.stack() as stack:
        return beside_a_pipe(
            stack, bench.kubectl, mebibytes=64 if bench.quick else 2048, pairs=min(bench.pairs, 3)
        )


def _api(bench: Bench) -> Result:
    requests = 500 if bench.quick else 5000
    with bench.stack() as stack:
        made = stack.create(document(1))
        made.succeeded()
        loads = {
            "status": apart(stack, "status", made.environment_id, str(requests)),
            "createPaced": apart(stack, "create", str(min(requests, 500)), "5"),
            "createBurst": apart(stack, "create", "50", "0"),
            "createWithoutRest": apart(stack, "create", str(min(requests, 500)), "0"),
        }
        return {"loads": loads, **_memory(stack)}


def _thousand(bench: Bench) -> Result:
    with bench.stack() as stack:
        return {**thousand(stack, rounds=1 if bench.quick else 5), **_memory(stack)}


def _facts(bench: Bench) -> Result:
    return facts((2 if bench.quick else 64) << 20, rounds=1 if bench.quick else 3)


def _masking(bench: Bench) -> Result:
    return masking((2 if bench.quick else 32) << 20, rounds=1 if bench.quick else 3)


def _memory(stack: Stack) -> Result:
    """Return what the processes that run have in memory by now."""
    processes = {"api": stack.api, "worker": stack.worker}
    return {
        "memoryMegabytes": {
            name: resident_megabytes(each.handle.pid)
            for name, each in processes.items()
            if each.alive and each.handle is not None
        }
    }


PARTS: Final[Mapping[str, Callable[[Bench], Result]]] = {
    "beside": _beside,
    "cost": _cost,
    "atOnce": _at_once,
    "snapshot": _snapshot,
    "facts": _facts,
    "masking": _masking,
    "api": _api,
    # Last, for these leave much behind them.
    "thousand": _thousand,
}
"""By name, in the order in which they are measured and written."""
