"""The page of an environment that wakes up, in a real browser: it looks again by itself, without a script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from sqlmodel import col, select

from activities.db.acceptance import stop_environment
from activities.db.engine import Database
from activities.db.records import SWEEPER, Actor
from activities.db.tables import Environment, Operation, Role
from clusters.tunnel import Tunnel
from tests.api.support import pod
from tests.helpers.browser import Page
from tests.helpers.tenants import begin, finish, record
from tests.pages.conftest import Served
from tests.pages.test_portal import service
from workflows.domain.operations import OperationKind, OperationState, StepChange, StepState

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ANSWER = b"<!doctype html><title>the shop</title><p>open</p>"


class Shop:
    """A tunnel to an application that says one thing."""

    def __init__(self) -> None:
        self.says = [b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n" + ANSWER]

    async def send(self, _: bytes) -> None:
        """Take it."""

    async def receive(self) -> bytes:
        """Say it."""
        return self.says.pop() if self.says else b""


@asynccontextmanager
async def tunnel(*_: object) -> AsyncIterator[Tunnel]:
    yield cast(Tunnel, Shop())


async def fall_asleep(url: str, environment_id: str) -> None:
    """End the provision and let the sweeper stop the environment."""
    database = Database(url)
    async with database.reading() as session:
        query = select(Operation.id).where(col(Operation.environment_id) == environment_id)
        provision = (await session.exec(query)).one()
        organization_id = (await session.get_one(Environment, environment_id)).organization_id
    await begin(database, provision)
    await finish(database, provision, OperationState.SUCCEEDED)
    async with database.transaction() as session:
        sweeper = Actor(organization_id, SWEEPER, None, Role.OWNER)
        stopping = (await stop_environment(session, sweeper, environment_id)).operation.id
    await begin(database, stopping)
    await finish(database, stopping, OperationState.SUCCEEDED)
    await database.dispose()


async def come_up(url: str, environment_id: str) -> str:
    """Let the resume bring `web` up; return its id."""
    database = Database(url)
    async with database.reading() as session:
        query = select(Operation.id).where(
            col(Operation.environment_id) == environment_id, col(Operation.kind) == OperationKind.RESUME
        )
        resume = (await session.exec(query)).one()
    await begin(database, resume)
    await record(database, resume, StepChange(step="service/web", state=StepState.SUCCEEDED))
    await database.dispose()
    return resume


def test_the_page_gives_way_to_the_application(served: Served, page: Page, sqlite_url: str) -> None:
    environment_id = served.create({"name": "shop", "services": [service("web")]})
    asyncio.run(fall_asleep(sqlite_url, environment_id))
    page.send("Network.enable")
    page.send(
        "Network.setExtraHTTPHeaders", headers={"Authorization": served.client.headers["Authorization"]}
    )
    page.open(f"{served.url}/v1/environments/{environment_id}/services/web/proxy/")
    assert page.evaluate("document.title") == "The environment is waking up"
    assert page.evaluate("getComputedStyle(document.body).maxWidth") == "512px", "its style is let in"
    shown = page.text()
    complaints = [each for each in page.complaints if "503" not in each]
    assert complaints == []
    assert {address.split("/")[2] for address in page.requested if address.startswith("http")} == {
        served.url.split("/")[2]
    }
    served.cluster.tunnel = tunnel  # type: ignore[method-assign,assignment]
    served.cluster.pods = [pod(environment_id, "web")]
    resume = asyncio.run(come_up(sqlite_url, environment_id))
    assert resume in shown
    page.wait_for("document.title === 'the shop'")
    assert page.evaluate("document.querySelector('p').textContent") == "open"
