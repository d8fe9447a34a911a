"""`make bench`: measures, prints JSON, and writes the same into docs/benchmarks.md."""

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.lists import thousand
from bench.load import apart
from bench.plain import Kubectl
from bench.provisioning import beside_kubectl, cost, document, many_at_once
from bench.report import write
from bench.snapshots import beside_a_pipe
from tests.helpers.stack import ROOT, Process, Stack, running_stack

TARGET = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    """Run everything on a stack of its own, beside the development cluster."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one pair each: to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    given = parser.parse_args()
    directory = ROOT / ".dev" / "cluster"
    kubectl = Kubectl(directory / "admin.kubeconfig")
    with (
        tempfile.TemporaryDirectory(prefix="perdure-bench-") as state,
        running_stack(
            Path(state),
            kubeconfig=directory / "perdure.kubeconfig",
            admin_kubeconfig=kubectl.kubeconfig,
            # Straight to the API server: the tests' gate would be measured too.
            extra={"PERDURE_CLUSTER_KUBECONFIG": str(directory / "perdure.kubeconfig")},
        ) as stack,
    ):
        results = measure(stack, kubectl, pairs=1 if given.quick else 5)
    sys.stdout.write(json.dumps(results, indent=2) + "\n")
    if given.write:
        write(TARGET, results)


def measure(stack: Stack, kubectl: Kubectl, *, pairs: int) -> dict[str, Any]:
    """Measure everything; the first provision of all is not counted."""
    beside_kubectl(stack, kubectl, 1, 1)
    fewer = max(1, pairs // 2 + 1)
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "beside": [
            # A pod is seen to be ready once a second: short runs differ by that, and take more pairs.
            beside_kubectl(stack, kubectl, 1, 2 * pairs),
            beside_kubectl(stack, kubectl, 10, fewer),
            beside_kubectl(stack, kubectl, 30, fewer),
            beside_kubectl(stack, kubectl, 5, pairs, chained=True),
        ],
        "cost": [cost(stack, 1), cost(stack, 10)],
        "atOnce": many_at_once(stack, 20, 3),
        "memoryMegabytes": {"api": _resident(stack.api), "worker": _resident(stack.worker)},
    }
    results["api"] = _load(stack, requests=500 if pairs == 1 else 5000)
    results["thousand"] = thousand(stack, rounds=1 if pairs == 1 else 5)
    results["snapshot"] = beside_a_pipe(kubectl, mebibytes=128 if pairs == 1 else 2048, pairs=min(pairs, 3))
    results["memoryMegabytesAfterLoad"] = {"api": _resident(stack.api), "worker": _resident(stack.worker)}
    return results


def _load(stack: Stack, requests: int) -> dict[str, Any]:
    made = stack.create(document(1))
    made.succeeded()
    return {
        "status": apart(stack, "status", made.environment_id, str(requests)),
        "createPaced": apart(stack, "create", str(min(requests, 500)), "5"),
        "createBurst": apart(stack, "create", "50", "0"),
        "createWithoutRest": apart(stack, "create", str(min(requests, 500)), "0"),
    }


def _resident(process: Process) -> float:
    """Return a process's resident memory in MB (1,000,000 bytes), from /proc."""
    assert process.handle is not None
    pages = int(Path(f"/proc/{process.handle.pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


if __name__ == "__main__":
    main()
