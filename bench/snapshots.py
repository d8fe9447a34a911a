"""A volume's bytes out of a pod into the object store: by a worker, and by the pipe that one would type."""

import resource
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.clock import at_rest, spread
from bench.plain import Kubectl
from bench.process import forget_peak, peak_mebibytes, processor_seconds, resident_mebibytes
from tests.helpers.stack import Handle, Stack

IMAGE: Final = "10.111.0.1:5000/perdure/postgres:1"
"""It runs as root, and has GNU tar and what takes digests."""
GROWTH_BAR_MEBIBYTES: Final = 64.0
"""A worker's memory may grow by less than this, whatever the size of what it streams."""
RATIO_BAR: Final = 0.8
"""The pipe's seconds to ours, at least; `RATIO_AIM` is what is wanted."""
RATIO_AIM: Final = 1.0
_MOUNT: Final = "/data"
_MAKE: Final = """
line='INSERT INTO orders VALUES (1234567, "a customer", NULL, 2026);'
n=0
while [ $n -lt $1 ]; do
  mkdir -p $0/$((n / 128))
  head -c 4194304 /dev/urandom >$0/$((n / 128))/$n.bin
  yes "$n $line" | head -c 4194304 >$0/$((n / 128))/$n.sql
  n=$((n + 8))
done
sync
"""
"""Files of 4 MiB each: every other does not compress."""
_PIPE: Final = """
set -o pipefail
kubectl --kubeconfig "$0" -n "$1" exec "$2" -- tar --numeric-owner -cf - -C "$3" . |
  zstd -q -3 | openssl enc -aes-256-ctr -pbkdf2 -k secret >"$4"
"""
_LOST: Final = "discarding message"
"""kubectl says so of a message that comes before its stream is made; it goes on without, and ends with 0."""
_MOST_CUT: Final = 3
_ENDS_WITHIN: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Taken:
    """One way through. `seconds` of wall time; `processor_seconds` of what runs outside the cluster."""

    bytes: int
    seconds: float
    processor_seconds: float

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / 1e6 / self.seconds

    @property
    def processor_nanoseconds(self) -> float:
        """Per byte."""
        return self.processor_seconds * 1e9 / self.bytes


@dataclass(frozen=True, slots=True)
class _Snapshot(_Taken):
    """A snapshot. `seconds`: of the step that captures; `whole_seconds`: from the request to its end."""

    whole_seconds: float
    before_mebibytes: float
    peak_mebibytes: float


def beside_a_pipe(stack: Stack, kubectl: Kubectl, *, mebibytes: int, pairs: int) -> dict[str, Any]:
    """Take the same volume both ways, in turn: a snapshot through the API, and the pipe over the same tar."""
    files = _filled(stack, kubectl, mebibytes)
    ours: list[_Snapshot] = []
    plain: list[_Taken] = []
    cut = 0
    for pair in range(pairs):

        def by_perdure() -> None:
            ours.append(_by_perdure(files))

        def by_pipe() -> None:
            nonlocal cut
            target = files.stack.directory / "pipe"
            while (taken := piped(kubectl.kubeconfig, files.namespace, target)) is None:
                cut += 1
                assert cut <= _MOST_CUT, f"kubectl lost bytes in {cut} runs"
                at_rest()
            plain.append(taken)

        for one in (by_perdure, by_pipe) if pair % 2 == 0 else (by_pipe, by_perdure):
            at_rest()
            one()
    sizes = [each.bytes for each in ours], [each.bytes for each in plain]
    assert {*sizes[0]} == {*sizes[1]}, f"they did not take the same: {sizes}"
    files.delete().succeeded(_ENDS_WITHIN)
    ratios = [each.seconds / own.seconds for each, own in zip(plain, ours, strict=True)]
    # From before the first to the highest of all: what one does not give back counts, too.
    growth = max(each.peak_mebibytes for each in ours) - ours[0].before_mebibytes
    return {
        "mebibytes": mebibytes,
        "bar": verdict(growth, ratios),
        "perdureMegabytesPerSecond": spread([each.megabytes_per_second for each in ours]),
        "pipeMegabytesPerSecond": spread([each.megabytes_per_second for each in plain]),
        "ratio": spread(ratios),
        "growthMebibytes": [round(each.peak_mebibytes - each.before_mebibytes, 1) for each in ours],
        "beforeMebibytes": round(ours[0].before_mebibytes, 1),
        "wholeSeconds": spread([each.whole_seconds for each in ours]),
        "captureSeconds": spread([each.seconds for each in ours]),
        "pipeSeconds": spread([each.seconds for each in plain]),
        "pipeRunsCut": cut,
        "processorNanosecondsPerByte": {
            "perdure": spread([each.processor_nanoseconds for each in ours]),
            "pipe": spread([each.processor_nanoseconds for each in plain]),
        },
    }


def verdict(growth: float, ratios: Sequence[float]) -> dict[str, Any]:
    """Say whether both bars are reached.

    `growth` (MiB) has to stay below its bar, the median of the ratios has to be at least the other.
    """
    ratio = statistics.median(ratios)
    return {
        "verdict": "pass" if growth < GROWTH_BAR_MEBIBYTES and ratio >= RATIO_BAR else "fail",
        "growthMebibytes": round(growth, 1),
        "growthBarMebibytes": GROWTH_BAR_MEBIBYTES,
        "ratio": round(ratio, 3),
        "ratioBar": RATIO_BAR,
        "ratioAim": RATIO_AIM,
    }


def _filled(stack: Stack, kubectl: Kubectl, mebibytes: int) -> Handle:
    """Return an environment with one service that keeps so much in its volume."""
    service = {
        "image": IMAGE,
        # A shell as process 1 is not ended by a signal that it has no handler for.
        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
        "snapshot": {"store": "files"},
        "volumes": [{"name": "data", "mountPath": _MOUNT, "type": "pvc", "size": "4Gi"}],
    }
    files = stack.create({"name": f"b-{uuid.uuid4().hex[:8]}", "services": {"files": service}})
    files.succeeded(_ENDS_WITHIN)
    command = ("exec", "files-0", "--", "sh", "-c", _MAKE, _MOUNT, str(mebibytes))
    kubectl.run("-n", files.namespace, *command)
    return files


def _by_perdure(files: Handle) -> _Snapshot:
    """Ask for a snapshot and look at the worker while it takes it."""
    stack = files.stack
    assert stack.worker.handle is not None
    worker = stack.worker.handle.pid
    forget_peak(worker)
    before, used, began = resident_mebibytes(worker), processor_seconds(worker), time.perf_counter()
    answer = stack.client.post(f"/v1/environments/{files.environment_id}/snapshots", json={})
    assert answer.status_code == 202, answer.text
    accepted = answer.json()["data"]
    taking = Handle(stack, files.environment_id, files.namespace, accepted["id"])
    operation = taking.succeeded(_ENDS_WITHIN)
    whole = time.perf_counter() - began
    used, peak = processor_seconds(worker) - used, peak_mebibytes(worker)
    [step] = [each for each in operation["steps"] if each["kind"] == "capture"]
    manifest = stack.client.get(f"/v1/snapshots/{accepted['snapshotId']}/manifest").json()["data"]
    [component] = manifest["components"]
    assert component["engine"] == "live-copy", f"the cluster takes it by {component['engine']}: no bytes pass"
    [part] = component["parts"]
    # What is still to be written of it would be written while the pipe runs.
    shutil.rmtree(stack.directory / "objects" / part["prefix"])
    return _Snapshot(
        bytes=part["plainBytes"],
        seconds=(_moment(step["finishedAt"]) - _moment(step["startedAt"])).total_seconds(),
        processor_seconds=used,
        whole_seconds=whole,
        before_mebibytes=before,
        peak_mebibytes=peak,
    )


def piped(kubeconfig: Path, namespace: str, target: Path) -> _Taken | None:
    """Run `kubectl exec tar | zstd | openssl enc` into a file, where the object store is.

    None: kubectl has lost bytes on the way, of which the pipe itself knows nothing.
    """
    words = (str(kubeconfig), namespace, "files-0", _MOUNT, str(target))
    used, began = _children_seconds(), time.perf_counter()
    done = subprocess.run(
        ["bash", "-c", _PIPE, *words], check=False, stderr=subprocess.PIPE, text=True, timeout=_ENDS_WITHIN
    )
    seconds, used = time.perf_counter() - began, _children_seconds() - used
    sys.stderr.write(done.stderr)
    done.check_returncode()
    size = _content_bytes(target)
    target.unlink()
    return None if _LOST in done.stderr else _Taken(bytes=size, seconds=seconds, processor_seconds=used)


def _content_bytes(target: Path) -> int:
    """Return how long the tar is that the pipe has stored."""
    command = 'openssl enc -d -aes-256-ctr -pbkdf2 -k secret <"$0" | zstd -q -d | wc -c'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}", str(target)],
        check=True,
        capture_output=True,
        text=True,
        timeout=_ENDS_WITHIN,
    )
    return int(done.stdout)


def _children_seconds() -> float:
    """Return what all processes that we started, and that have ended, had of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _moment(written: str) -> datetime:
    return datetime.fromisoformat(written)
