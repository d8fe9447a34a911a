"""The real cluster, and one whole stack per test module."""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.missing import missing
from tests.helpers.stack import ROOT, Stack, running_stack

TINY = "10.111.0.1:5000/perdure/tiny:1"


@pytest.fixture(scope="session")
def cluster_files() -> tuple[Path, Path]:
    """The kubeconfigs of the worker's service account and of the administrator."""
    directory = ROOT / ".dev" / "cluster"
    ours, admin = directory / "perdure.kubeconfig", directory / "admin.kubeconfig"
    if given := os.environ.get("PERDURE_TEST_KUBECONFIG"):
        ours = admin = Path(given)
    if not ours.exists():
        missing("no Kubernetes cluster: run `make dev-up`, or set PERDURE_TEST_KUBECONFIG")
    return ours, admin


@pytest.fixture(scope="session")
def registry() -> dict[str, Any]:
    """The development cluster's registry: addresses and the login of its private half."""
    path = ROOT / ".dev" / "cluster" / "registry.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@contextmanager
def own_stack(
    factory: pytest.TempPathFactory,
    files: tuple[Path, Path],
    extra: Mapping[str, str] | None = None,
    *,
    gated: bool = True,
) -> Iterator[Stack]:
    """A stack of a test's own, as `running_stack` makes one; the namespaces that it leaves go with it."""
    ours, admin = files
    directory = factory.mktemp("stack")
    with running_stack(
        directory, kubeconfig=ours, admin_kubeconfig=admin, extra=extra, gated=gated
    ) as running:
        yield running
    running.delete_namespaces()


@pytest.fixture(scope="module")
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cluster_files: tuple[Path, Path]
) -> Iterator[Stack]:
    """A stack of this module's own, with its `SETTINGS` if it has some, and a gate if it is `GATED`."""
    extra: Mapping[str, str] | None = getattr(request.module, "SETTINGS", None)
    gated: bool = getattr(request.module, "GATED", False)
    with own_stack(tmp_path_factory, cluster_files, extra, gated=gated) as running:
        yield running


@pytest.fixture
def name() -> str:
    """A name for an environment that no other test uses."""
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def _all_well_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: nothing is held, every process runs."""
    yield
    if "stack" in request.fixturenames:
        stack: Stack = request.getfixturevalue("stack")
        if stack.through is not None:
            stack.through.open()
            stack.through.release_all()
        stack.start_temporal()
        stack.start_api()
        stack.worker.start()
