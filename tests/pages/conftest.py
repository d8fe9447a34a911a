"""An API that serves, and a browser that looks at it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from structlog.testing import capture_logs

from activities.db.engine import Database
from api.app import create_app
from api.settings import ApiSettings
from api.state import Dependencies
from tests.api.support import FakeCluster, FakeObjects, Recorder
from tests.helpers.browser import Browser, Page, chromium, running_browser
from tests.helpers.databases import sqlite_template, sqlite_url
from tests.helpers.missing import missing
from tests.helpers.serving import serving
from tests.helpers.tenants import KEYS, make_tenant

__all__ = ["sqlite_template", "sqlite_url"]


@dataclass(frozen=True)
class Served:
    """A running API with somebody who may use it, and the cluster behind it."""

    url: str
    client: httpx2.Client
    cluster: FakeCluster
    logs: list[Any]

    def create(self, blueprint: dict[str, Any]) -> str:
        """Create an environment; return its id."""
        answer = self.client.post("/v1/environments", json={"blueprint": blueprint})
        assert answer.status_code == 202, answer.text
        identifier: str = answer.json()["data"]["id"]
        return identifier

    def share(self, environment_id: str, **wish: Any) -> dict[str, Any]:
        """Make a link."""
        answer = self.client.post(f"/v1/environments/{environment_id}/share", json=wish)
        assert answer.status_code == 201, answer.text
        link: dict[str, Any] = answer.json()["data"]
        return link


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of the process."""
    executable = chromium()
    if executable is None:
        missing("no Chromium: run `sh tests/browser-packages.sh` as root")
    with running_browser(executable, tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of this test's own."""
    with browser.page() as opened:
        opened.look(1100, 900)
        yield opened


@pytest.fixture
def served(sqlite_url: str, tmp_path: Path) -> Iterator[Served]:
    """A running API on SQLite whose pages look again each second."""
    cluster, tokens = FakeCluster(), []
    settings = ApiSettings(
        database_url=sqlite_url,
        object_store=str(tmp_path),
        status_cache_seconds=0,
        ingress_class="traefik",
        share_refresh_seconds=1,
        wake_hold_seconds=0,
    )

    @asynccontextmanager
    async def dependencies(_: ApiSettings) -> AsyncIterator[Dependencies]:
        database = Database(sqlite_url)
        tokens.append((await make_tenant(database)).token)
        yield Dependencies(database, Recorder(), cluster, FakeObjects(), KEYS)
        await database.dispose()

    config = uvicorn.Config(
        create_app(settings, dependencies=dependencies),
        port=0,
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    with capture_logs() as logs, serving(uvicorn.Server(config)) as url:
        headers = {"Authorization": f"Bearer {tokens[0]}"}
        with httpx2.Client(base_url=url, headers=headers, trust_env=False) as client:
            yield Served(url, client, cluster, logs)
