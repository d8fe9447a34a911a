"""`perdure snapshot` against everything real: what docs/snapshots.md tells people to type."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.e2e.shop import psql, shop
from tests.helpers.stack import ROOT, Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]

ENDED_SECONDS = 240.0


def perdure(stack: Stack, *arguments: str, exit_code: int = 0) -> str:
    """Run a command as a process; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env={
            **os.environ,
            "PERDURE_URL": str(stack.client.base_url),
            "PERDURE_API_KEY": stack.client.headers["Authorization"].removeprefix("Bearer "),
        },
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDED_SECONDS,
        check=False,
    )
    assert done.returncode == exit_code, (arguments, done.stdout, done.stderr)
    return done.stdout


def visits(handle: Handle, sql: str = "select count(*) from visits") -> str:
    """Ask an environment's database."""
    return psql(handle.stack, handle.namespace, sql)


def handle_of(stack: Stack, name: str) -> Handle:
    """Find an environment by its name."""
    [found] = stack.client.get("/v1/environments", params={"name": name}).json()["data"]
    return Handle(stack, found["id"], found["namespace"], found["operation"]["id"])


def test_a_snapshot_is_taken_and_brought_back_from_the_command_line(stack: Stack, tmp_path: Path) -> None:
    name = f"t-{uuid.uuid4().hex[:8]}"
    handle = stack.create(shop(name))
    handle.succeeded(ENDED_SECONDS)
    visits(handle, "insert into visits values (2)")
    shown = perdure(stack, "snapshot", "create", name, "--name", "before", "--floor", "application")
    assert "available" in shown
    assert "exec-dump" in shown
    newest = json.loads(perdure(stack, "snapshot", "get", f"latest:{name}", "-o", "json"))
    assert newest["name"] == "before"
    assert newest["id"] in perdure(stack, "snapshot", "list", name)
    manifest = tmp_path / "manifest.json"
    perdure(stack, "snapshot", "manifest", newest["id"], "--file", str(manifest))
    assert json.loads(manifest.read_text())["snapshotId"] == newest["id"]

    visits(handle, "insert into visits values (3)")
    copy = f"t-{uuid.uuid4().hex[:8]}"
    perdure(stack, "snapshot", "restore", f"latest:{name}", "--into", copy)
    assert visits(handle_of(stack, copy)) == "2"
    assert visits(handle) == "3"
    perdure(stack, "snapshot", "restore", newest["id"], "--in-place", name, "--yes")
    assert visits(handle) == "2"

    perdure(stack, "snapshot", "delete", newest["id"], "--yes")
    eventually(lambda: newest["id"] not in perdure(stack, "snapshot", "list", name), "it is gone", within=60)
    perdure(stack, "snapshot", "restore", newest["id"], "--into", "other", exit_code=6)
    perdure(stack, "snapshot", "get", f"latest:{name}", exit_code=6)
    for each in (name, copy):
        perdure(stack, "env", "delete", each, "--yes")
