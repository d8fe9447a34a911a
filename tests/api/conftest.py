"""The API over a real database, with a recorder in Temporal's place and a cluster of our own making."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from activities.db.tables import Role
from activities.storage.directory import Directory
from api.settings import ApiSettings
from tests.api.support import Api, running_api
from tests.helpers.clock import clock
from tests.helpers.databases import postgres_server, postgres_url, sqlite_template, sqlite_url
from tests.helpers.tenants import Tenant, make_tenant

__all__ = ["clock", "postgres_server", "postgres_url", "sqlite_template", "sqlite_url"]


@pytest.fixture
def settings(sqlite_url: str, tmp_path: Path) -> ApiSettings:
    """Settings as the tests want them: no cache hides a change. A worker has made the object store."""
    Directory(tmp_path / "objects", patience=0).make()
    return ApiSettings(
        database_url=sqlite_url,
        object_store=str(tmp_path / "objects"),
        auth_cache_seconds=0,
        status_cache_seconds=0,
        ingress_class="traefik",
    )


@pytest_asyncio.fixture
async def api(settings: ApiSettings) -> AsyncIterator[Api]:
    """A running API on SQLite."""
    async with running_api(settings) as running:
        yield running


@pytest_asyncio.fixture
async def postgres_api(settings: ApiSettings, postgres_url: str) -> AsyncIterator[Api]:
    """A running API on Postgres."""
    async with running_api(settings.model_copy(update={"database_url": postgres_url})) as running:
        yield running


@pytest_asyncio.fixture
async def tenant(api: Api) -> Tenant:
    """An organisation with an owner's key; `api.client` sends it."""
    made = await make_tenant(api.database)
    api.use(made)
    return made


@pytest_asyncio.fixture
async def stranger(api: Api) -> Tenant:
    """Another organisation."""
    return await make_tenant(api.database, "two", role=Role.OWNER, unlimited=True)
