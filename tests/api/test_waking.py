"""Use wakes what nobody used: one resume, however many ask and through however many processes."""

import asyncio
from typing import Any

import httpx2
import pytest
from sqlmodel import col, select
from starlette.types import Message

from activities.db.acceptance import Accepted, resume_environment, stop_environment, wake_environment
from activities.db.records import SWEEPER, Actor, OperationRecord, operation_record
from activities.db.repositories import audit, events
from activities.db.tables import EventType, Operation, Role
from api.access import waking, waking_page
from api.settings import ApiSettings
from api.state import AppState
from tests.api.support import Api, pod, problem, running_api
from tests.api.test_access import token_with
from tests.api.test_lifecycle import end
from tests.api.test_service_proxy import OK, Application, application, says
from tests.helpers.clock import JumpingClock
from tests.helpers.tenants import KEYS, Tenant, begin, finish, make_tenant, record
from tests.helpers.waiting import eventually_async, until
from workflows.domain.operations import OperationKind, OperationState, StepChange, StepState

SWEEP = "the sweeper"
IN_PAGE = {"Accept": "text/html,application/xhtml+xml"}


def environment_of(made: Application) -> str:
    return made.url.split("/")[3]


async def stop(api: Api, environment_id: str, actor: Actor) -> str:
    """Accept and begin a stop; return its id."""
    async with api.database.transaction() as session:
        accepted = await stop_environment(session, actor, environment_id)
    await begin(api.database, accepted.operation.id)
    return accepted.operation.id


def sweeper(tenant: Tenant) -> Actor:
    return Actor(tenant.id, SWEEPER, None, Role.OWNER)


async def asleep(api: Api, tenant: Tenant, *, stopped: bool = True) -> Application:
    """An environment that the sweeper stopped, or is stopping; it answers `ok` once it has pods."""
    made = await application(api, says(OK))
    environment_id = environment_of(made)
    await end(api, (await operations(api, environment_id))[0].id)
    stopping = await stop(api, environment_id, sweeper(tenant))
    if stopped:
        await finish(api.database, stopping, OperationState.SUCCEEDED)
        api.cluster.pods = []
    return made


async def operations(api: Api, environment_id: str) -> list[OperationRecord]:
    """The environment's operations, oldest first."""
    async with api.database.reading() as session:
        query = select(Operation).where(col(Operation.environment_id) == environment_id)
        rows = await session.exec(query.order_by(col(Operation.fence)))
        return [operation_record(row) for row in rows]


async def resume_of(api: Api, environment_id: str) -> OperationRecord:
    """The resume of the environment, once there is one."""
    async with asyncio.timeout(20):
        while True:
            found = await operations(api, environment_id)
            if found[-1].kind is OperationKind.RESUME:
                return found[-1]
            await asyncio.sleep(0.02)


async def come_up(api: Api, environment_id: str, resume: OperationRecord) -> None:
    """Let `web` be ready, while the resume goes on."""
    if resume.started_at is None:
        await begin(api.database, resume.id)
    api.cluster.pods = [pod(environment_id, "web"), pod(environment_id, "db")]
    await record(api.database, resume.id, StepChange(step="service/web", state=StepState.SUCCEEDED))


async def test_fifty_requests_at_once_are_one_resume_and_all_are_carried_through(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await asleep(api, tenant)
    environment_id = environment_of(made)
    accepting: list[str] = []

    async def counted(*arguments: Any, **more: Any) -> Accepted | None:
        accepting.append(environment_id)
        return await wake_environment(*arguments, **more)

    monkeypatch.setattr(waking, "wake_environment", counted)
    asked = [asyncio.create_task(api.client.post(f"{made.url}/x", content=b"once")) for _ in range(50)]
    resume = await resume_of(api, environment_id)
    assert made.opened == []
    await come_up(api, environment_id, resume)
    answers = await asyncio.gather(*asked)
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "ok")}
    assert len(made.opened) == 50, "each was sent once"
    assert len(accepting) == 1, "they share one transaction"
    kinds = [each.kind for each in await operations(api, environment_id)]
    assert kinds == [OperationKind.PROVISION, OperationKind.STOP, OperationKind.RESUME]
    assert resume.requested_by == tenant.actor.principal_id
    assert [each.operation_id for each in await api.started()].count(resume.id) == 1
    async with api.database.reading() as session:
        entries = (
            await audit.list_entries(
                session, tenant.id, wanted=audit.AuditFilter(action="environment.resume")
            )
        ).items
        told = await events.after(session, tenant.id, environment_id, 0)
    assert [(each.principal_id, each.data) for each in entries] == [
        (tenant.actor.principal_id, {"operation": resume.id, "wokenFor": "web"})
    ]
    woken = [each.data for each in told if each.type is EventType.TIMER]
    assert [(each["timer"], each["action"], each["service"]) for each in woken] == [("idle", "wake", "web")]


async def test_two_processes_over_one_database_accept_one_resume(
    settings: ApiSettings, postgres_url: str
) -> None:
    shared = settings.model_copy(update={"database_url": postgres_url, "wake_hold_seconds": 0})
    async with running_api(shared) as one, running_api(shared) as two:
        tenant = await make_tenant(one.database)
        one.use(tenant)
        two.use(tenant)
        made = await asleep(one, tenant)
        answers = await asyncio.gather(
            *(api.client.get(f"{made.url}/") for _ in range(10) for api in (one, two))
        )
        found = await operations(one, environment_of(made))
    assert [each.kind for each in found].count(OperationKind.RESUME) == 1
    assert {problem(each, 503, "waking")["operationId"] for each in answers} == {found[-1].id}


async def test_what_takes_longer_is_a_503_with_the_operation(
    settings: ApiSettings, clock: JumpingClock
) -> None:
    async with running_api(settings.model_copy(update={"wake_hold_seconds": 0})) as api:
        tenant = await make_tenant(api.database)
        api.use(tenant)
        made = await asleep(api, tenant)
        answer = await api.client.get(f"{made.url}/")
        body = problem(answer, 503, "waking")
        resume = await resume_of(api, environment_of(made))
        assert (body["operationId"], body["operationKind"]) == (resume.id, "resume")
        assert answer.headers["retry-after"] == str(waking.RETRY_SECONDS)
        assert answer.headers["x-perdure-answered-by"] == "perdure"

        shown = await api.client.get(f"{made.url}/", headers=IN_PAGE)
        assert (shown.status_code, shown.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert shown.headers["content-security-policy"] == waking_page.POLICY
        assert shown.headers["retry-after"] == str(waking.RETRY_SECONDS)
        assert f'http-equiv="refresh" content="{waking.RETRY_SECONDS}"' in shown.text
        assert resume.id in shown.text
        assert "worker" not in body["detail"], "it was accepted just now"
        clock.jump(seconds=waking.UNBEGUN_SECONDS + 1)
        late = problem(await api.client.get(f"{made.url}/"), 503, "waking")
        assert "No worker has begun that" in late["detail"]
        await begin(api.database, resume.id)

        async def taken_up() -> bool:
            told = problem(await api.client.get(f"{made.url}/"), 503, "waking")
            return "worker" not in told["detail"]

        await eventually_async(taken_up, "the begin is seen")
        # What must not be repeated by itself gets no page that does.
        problem(await api.client.post(f"{made.url}/", headers=IN_PAGE), 503, "waking")

        await come_up(api, environment_of(made), resume)
        assert (await api.client.get(f"{made.url}/")).text == "ok"


@pytest.mark.parametrize(
    "how", ["stopped by somebody", "stopped while it slept", "resume cancelled", "stop repeated by somebody"]
)
async def test_what_somebody_decided_is_not_undone_by_use(api: Api, tenant: Tenant, how: str) -> None:
    made = await application(api, says(OK))
    environment_id = environment_of(made)
    await end(api, (await operations(api, environment_id))[0].id)
    if how == "stopped by somebody":
        stopping = await stop(api, environment_id, tenant.actor)
        await finish(api.database, stopping, OperationState.SUCCEEDED)
    else:
        first = await stop(api, environment_id, sweeper(tenant))
        ends = OperationState.FAILED if how == "stop repeated by somebody" else OperationState.SUCCEEDED
        await finish(api.database, first, ends)
        if how == "resume cancelled":
            async with api.database.transaction() as session:
                resume = await resume_environment(session, tenant.actor, environment_id, keys=KEYS)
            cancelled = await api.client.post(f"/v1/operations/{resume.operation.id}/cancel")
            assert cancelled.is_success
        else:
            await finish(
                api.database, await stop(api, environment_id, tenant.actor), OperationState.SUCCEEDED
            )
    api.cluster.pods = []
    before = await api.row_counts()
    problem(await api.client.get(f"{made.url}/"), 503, "service_not_ready")
    assert await api.row_counts() == before
    assert made.opened == []


async def test_nothing_is_woken_for_what_cannot_be_reached(
    api: Api, tenant: Tenant, stranger: Tenant
) -> None:
    made = await asleep(api, tenant)
    base = made.url.removesuffix("/web/proxy")
    before = await api.row_counts()
    problem(await api.client.get(f"{base}/nobody/proxy/"), 404, "not_found")
    problem(await api.client.get(f"{base}/web:81/proxy/"), 404, "not_found")
    problem(await api.client.get(f"{made.url}/%2e%2e/x"), 400, "bad_request")
    api.use(stranger)
    problem(await api.client.get(f"{made.url}/"), 404, "not_found")
    api.client.headers.pop("Authorization")
    problem(await api.client.get(f"{made.url}/"), 401, "unauthenticated")
    assert await api.row_counts() == before


async def test_a_viewer_wakes_nothing(api: Api) -> None:
    owner = await make_tenant(api.database)
    api.use(owner)
    made = await asleep(api, owner)
    api.client.headers["Authorization"] = f"Bearer {await token_with(api, owner, Role.VIEWER)}"
    problem(await api.client.get(f"{made.url}/"), 403, "policy_denied")
    assert len(await operations(api, environment_of(made))) == 2


async def test_a_stop_under_way_is_waited_for_and_then_undone(api: Api, tenant: Tenant) -> None:
    made = await asleep(api, tenant, stopped=False)
    environment_id = environment_of(made)
    asked = asyncio.create_task(api.client.get(f"{made.url}/"))
    await until(lambda: bool(api.state.wakes._under_way), "it is waited for")
    stopping = (await operations(api, environment_id))[-1]
    assert made.opened == [], "the pods that are still there are about to go"
    await finish(api.database, stopping.id, OperationState.SUCCEEDED)
    api.cluster.pods = []
    resume = await resume_of(api, environment_id)
    await come_up(api, environment_id, resume)
    assert (await asked).text == "ok"


@pytest.mark.parametrize("pods", ["there", "gone"])
async def test_a_stop_that_fails_leaves_the_service_where_it_was(api: Api, tenant: Tenant, pods: str) -> None:
    made = await asleep(api, tenant, stopped=False)
    asked = asyncio.create_task(api.client.get(f"{made.url}/"))
    await until(lambda: bool(api.state.wakes._under_way), "it is waited for")
    stopping = (await operations(api, environment_of(made)))[-1]
    if pods == "gone":
        api.cluster.pods = []
        api.forget_targets()
    await finish(api.database, stopping.id, OperationState.FAILED)
    if pods == "there":
        assert (await asked).text == "ok"
    else:
        problem(await asked, 503, "service_not_ready")
    assert len(await operations(api, environment_of(made))) == 2


async def test_a_resume_that_fails_is_said_and_not_tried_over_and_over(api: Api, tenant: Tenant) -> None:
    made = await asleep(api, tenant)
    environment_id = environment_of(made)
    asked = asyncio.create_task(api.client.get(f"{made.url}/"))
    resume = await resume_of(api, environment_id)
    await begin(api.database, resume.id)
    await finish(api.database, resume.id, OperationState.FAILED)
    body = problem(await asked, 503, "service_not_ready")
    assert body["operationId"] == resume.id
    assert "failed" in body["detail"]
    problem(await api.client.get(f"{made.url}/"), 503, "service_not_ready")
    assert len(await operations(api, environment_id)) == 3


async def test_a_client_that_leaves_cancels_nothing_and_is_not_forwarded(api: Api, tenant: Tenant) -> None:
    made = await asleep(api, tenant)
    environment_id = environment_of(made)
    sent: list[Message] = []

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"{made.url}/orders",
        "raw_path": f"{made.url}/orders".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", f"Bearer {tenant.token}".encode()), (b"host", b"api.test")],
        "client": ("127.0.0.1", 1),
        "server": ("api.test", 80),
        "state": {"app": api.state},
    }
    asked = asyncio.create_task(api.app(scope, gone, send))
    resume = await resume_of(api, environment_id)
    await come_up(api, environment_id, resume)
    await asked
    assert (made.opened, sent) == ([], [])

    # One that is cut off while it waits, too.
    await finish(api.database, resume.id, OperationState.SUCCEEDED)
    await until(lambda: not api.state.wakes._under_way, "it is awake")
    api.forget_targets()
    await finish(api.database, await stop(api, environment_id, sweeper(tenant)), OperationState.SUCCEEDED)
    api.cluster.pods = []
    cut = asyncio.create_task(api.client.get(f"{made.url}/"))
    await until(lambda: bool(api.state.wakes._under_way), "it waits")
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    assert (await resume_of(api, environment_id)).state is OperationState.ACCEPTED


async def test_who_comes_while_it_wakes_waits_for_the_same(api: Api, tenant: Tenant) -> None:
    """As another process would, which has not seen how it began."""
    made = await asleep(api, tenant)
    environment_id = environment_of(made)
    async with api.database.transaction() as session:
        accepted = await resume_environment(session, tenant.actor, environment_id, keys=KEYS)
    await begin(api.database, accepted.operation.id)
    done = StepChange(step="service/db", state=StepState.SUCCEEDED)
    await record(api.database, accepted.operation.id, done)
    api.cluster.pods = [pod(environment_id, "db")]
    db = f"{made.url.removesuffix('/web/proxy')}/db/proxy/"
    assert (await api.client.get(db)).text == "ok", "what is up is up"
    api.cluster.pods = []
    asked = asyncio.create_task(api.client.get(f"{made.url}/"))
    await until(lambda: bool(api.state.wakes._under_way), "it is waited for")
    api.cluster.pods = [pod(environment_id, "db"), pod(environment_id, "web")]
    await finish(api.database, accepted.operation.id, OperationState.SUCCEEDED)
    assert (await asked).text == "ok"


async def test_more_than_are_held_are_answered_at_once_and_still_one_resume(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "MOST_HELD_OF_ONE", 2)
    made = await asleep(api, tenant)
    environment_id = environment_of(made)
    asked = [asyncio.create_task(api.client.get(f"{made.url}/")) for _ in range(5)]
    done = await first_done(asked, 3)
    resume = await resume_of(api, environment_id)
    assert {problem(each, 503, "waking")["operationId"] for each in done} == {resume.id}
    await come_up(api, environment_id, resume)
    answers = await asyncio.gather(*asked)
    assert sorted(each.status_code for each in answers) == [200, 200, 503, 503, 503]
    await finish(api.database, resume.id, OperationState.SUCCEEDED)
    await until(lambda: not api.state.wakes._under_way, "nothing is followed any longer")
    assert api.state.wakes._held == 0


async def first_done(tasks: list[asyncio.Task[httpx2.Response]], count: int) -> list[httpx2.Response]:
    """The answers of as many tasks as are the first to end."""
    await until(lambda: sum(task.done() for task in tasks) >= count, f"{count} are answered")
    return [task.result() for task in tasks if task.done()]


async def test_when_the_process_stops_who_waits_is_told_so(api: Api, tenant: Tenant) -> None:
    made = await asleep(api, tenant)
    asked = asyncio.create_task(api.client.get(f"{made.url}/"))
    resume = await resume_of(api, environment_of(made))
    state: AppState = api.state
    await state.tail.close()
    assert problem(await asked, 503, "waking")["operationId"] == resume.id
