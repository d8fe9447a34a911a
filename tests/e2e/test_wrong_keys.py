"""A worker with the wrong keys: what it cannot open it says, at once, and nothing is published or changed."""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from activities.secrets import new_private_key
from tests.e2e.lifecycle import VOLUME
from tests.e2e.snapshots import ENDED_SECONDS, new_name, objects, restore, shown, take, taken
from tests.e2e.support import POSTGRES, idle
from tests.helpers.stack import Handle, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

_ENDED_SECONDS = 60.0
"""No second attempt: the same worker has the same keys."""


@pytest.fixture(scope="module")
def files(stack: Stack) -> Handle:
    """An environment with a file on a volume."""
    keeper = idle(image=POSTGRES, snapshot={"store": "files"}, volumes=[VOLUME])
    handle = stack.create({"name": new_name(), "services": {"files": keeper}})
    handle.succeeded(ENDED_SECONDS)
    handle.sh("files-0", "echo kept > /data/file")
    return handle


def _settings(key: str, directory: Path) -> Mapping[str, str]:
    if key == "master":
        return {"PERDURE_MASTER_KEYS": f"test:{base64.b64encode(os.urandom(32)).decode()}"}
    path = directory / "other-seal.key"
    path.write_text(new_private_key())
    return {"PERDURE_SEAL_PRIVATE_KEY_FILE": str(path)}


@contextmanager
def _worker_with(stack: Stack, settings: Mapping[str, str]) -> Iterator[None]:
    """Let the worker be one with other settings while the body runs."""
    before = stack.worker.env
    stack.worker.stop()
    stack.worker.env = {**before, **settings}
    stack.worker.start()
    try:
        yield
    finally:
        stack.worker.stop()
        stack.worker.env = before
        stack.worker.start()


@pytest.mark.parametrize("key", ["master", "seal"])
def test_what_it_cannot_open_it_says_and_nothing_is_published(
    stack: Stack, files: Handle, tmp_path: Path, key: str
) -> None:
    whole = taken(files)
    with _worker_with(stack, _settings(key, tmp_path)):
        taking, snapshot = take(files)
        failed = taking.ended(_ENDED_SECONDS)
        restoring = restore(stack, whole, name=new_name())
        not_restored = restoring.ended(_ENDED_SECONDS)
    for operation in (failed, not_restored):
        assert operation["state"] == "failed"
        assert (operation["failure"]["kind"], operation["failure"]["retryable"]) == ("key_unavailable", False)
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert shown(stack, whole)["state"] == "available"
    # With its own keys again it carries on where it stood.
    restored = restoring.retry()
    restored.succeeded(ENDED_SECONDS)
    assert restored.sh("files-0", "cat /data/file").strip() == "kept"
