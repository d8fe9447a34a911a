"""How far data are, on the real cluster, payloads encrypted: it grows, stands still, ends with its try."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.lifecycle import VOLUME
from tests.e2e.snapshots import ENDED_SECONDS, new_name, restore, shown, take, taken
from tests.e2e.support import POSTGRES, idle
from tests.helpers.stack import ROOT, Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(900)]
GATED = True

MIB = 1 << 20
BLOB_MIB = 192
AHEAD = 16 * MIB
"""What may be on its way behind the gate: the worker's own buffers."""
_STREAM = r"/pods/files-0/exec"
SETTINGS = {
    "PERDURE_PAYLOAD_KEYS": f"p1:{base64.b64encode(os.urandom(32)).decode()}",
    "PERDURE_PAYLOAD_ENCRYPTION": "true",
}
"""Nobody reads the payloads."""


@pytest.fixture(scope="module")
def files(stack: Stack) -> Handle:
    """An environment with a large file."""
    keeper = idle(image=POSTGRES, snapshot={"store": "files"}, volumes=[VOLUME])
    handle = stack.create({"name": new_name(), "services": {"files": keeper}})
    handle.succeeded(ENDED_SECONDS)
    handle.sh("files-0", f"head -c {BLOB_MIB << 20} /dev/urandom > /data/blob; sync")
    return handle


def moved(handle: Handle, step: str, so: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """Return how far a step's data are, once that is so."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = handle.step(step).get("transfer", {})
        return found if found and so(found) else None

    return eventually(look, what, within=60)


def nothing_moves(handle: Handle, step: str) -> None:
    """Wait until nothing is known of a step's data."""
    eventually(lambda: "transfer" not in handle.step(step), f"no bytes of {step}", within=60)


def perdure(stack: Stack, *arguments: str) -> "subprocess.Popen[str]":
    """Run a command; its lines go to a pipe."""
    variables = {
        "PERDURE_URL": str(stack.client.base_url).rstrip("/"),
        "PERDURE_API_KEY": stack.client.headers["Authorization"].removeprefix("Bearer "),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        env={**stack.environment, **variables},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_bytes_of_a_held_dump_grow_stand_still_and_end_with_their_attempt(
    stack: Stack, files: Handle
) -> None:
    with stack.gate.hold_streams(_STREAM, 48 * MIB) as hold:
        taking, _ = take(files)
        watching = perdure(stack, "op", "watch", taking.operation_id)
        hold.wait_seen()
        first = moved(
            taking,
            "capture/files",
            lambda now: now.get("bytesPerSecond") == 0,
            "it is told as standing still",
        )
        assert 48 * MIB - AHEAD <= first["doneBytes"] <= 48 * MIB
        assert (first["kind"], first["service"], first["stream"]) == ("capture", "files", "files/volume-data")
        assert "totalBytes" not in first  # nobody knows how much tar has to say

        hold.stream_bytes = 96 * MIB
        second = moved(
            taking, "capture/files", lambda now: now["doneBytes"] >= 96 * MIB - AHEAD, "it has grown"
        )
        assert second["doneBytes"] <= 96 * MIB
        assert second["countedAt"] > first["countedAt"]

        # Another API process knows it just as well, and one without Temporal says nothing, in good order.
        stack.api.kill()
        stack.start_api()
        assert moved(taking, "capture/files", lambda _: True, "bytes")["doneBytes"] >= second["doneBytes"]

        stack.worker.kill()
        nothing_moves(taking, "capture/files")
        hold.stream_bytes = 24 * MIB
        stack.worker.start()
        anew = moved(taking, "capture/files", lambda now: now.get("bytesPerSecond") == 0, "another attempt")
        assert anew["doneBytes"] <= 24 * MIB

        stack.temporal.stop()
        nothing_moves(taking, "capture/files")
        stack.start_temporal()
        again = moved(taking, "capture/files", lambda _: True, "bytes again")
        assert again["doneBytes"] <= 24 * MIB
        hold.release.set()
        operation = taking.succeeded(ENDED_SECONDS)
    assert not any("transfer" in step for step in operation["steps"])
    told = watching.communicate(timeout=60)[1]
    assert watching.returncode == 0
    lines = [line for line in told.splitlines() if "MiB captured" in line]
    assert lines, told
    assert all("capture/files  files/volume-data: " in line and " of " not in line for line in lines)


def replay(stack: Stack, environment_id: str, snapshot: str) -> Handle:
    """Replay an environment in place with the data of a snapshot."""
    path = f"/v1/environments/{environment_id}"
    answer = stack.client.post(f"{path}/replay", json={"snapshotId": snapshot})
    assert answer.status_code == 202, answer.text
    namespace = stack.client.get(path).json()["data"]["namespace"]
    return Handle(stack, environment_id, namespace, answer.json()["data"]["id"])


@pytest.mark.parametrize("way", ["restore", "replay"])
def test_what_is_loaded_is_told_against_the_whole(stack: Stack, files: Handle, way: str) -> None:
    snapshot = taken(files)
    [component] = shown(stack, snapshot)["components"]
    whole = component["plainBytes"]
    assert whole > BLOB_MIB * MIB
    with stack.gate.hold_streams(_STREAM, 64 * MIB) as hold:
        if way == "restore":
            restored = restore(stack, snapshot, name=new_name())
        else:
            restored = replay(stack, files.environment_id, snapshot)
        hold.wait_seen(120)
        now = moved(restored, "load/files", lambda now: now.get("bytesPerSecond") == 0, "it stands still")
        assert (now["kind"], now["totalBytes"]) == ("load", whole)
        # Sent is sent: what sockets hold of it has not reached the pod yet, and they may hold much.
        assert 64 * MIB <= now["doneBytes"] < whole
        out, err = perdure(stack, "op", "get", restored.operation_id).communicate(timeout=60)
        [line] = [line for line in out.splitlines() if line.startswith("Data:")]
        assert f" of {whole / MIB:.0f} MiB loaded, 0 B/s" in line, (line, err)
    restored.succeeded(ENDED_SECONDS)
    verifying = perdure(stack, "snapshot", "verify", snapshot, "--level", "1")
    out, err = verifying.communicate(timeout=ENDED_SECONDS)
    assert verifying.returncode == 0, err
    assert "passed" in out
