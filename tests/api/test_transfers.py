"""How far data are: shown while a step moves some, by what Temporal says; never in the way of an answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from activities.db.repositories import verifications
from activities.temporal import TemporalServer, TransferReading
from api import transfers
from api.transfers import AWAY_SECONDS, FRESH_SECONDS, Transfers, transfer_out
from tests.api.support import Api, Recorder
from tests.api.test_lifecycle import running
from tests.api.test_snapshots import restore, take, taken, verify
from tests.helpers.tenants import Tenant, begin, make_tenant, record
from tests.helpers.waiting import eventually_async
from workflows.domain.operations import StepChange, StepState
from workflows.domain.transfer import TransferKind, TransferProgress


def reading(done: int = 4_000_000, ago: float = 0.0, **more: Any) -> TransferReading:
    """What an attempt has said so many seconds ago."""
    progress = {"kind": TransferKind.CAPTURE, "service": "db", "stream": "db/shop", "attempt": 1, **more}
    said = TransferProgress.model_validate({**progress, "done_bytes": done})
    return TransferReading(said, datetime.now(UTC) - timedelta(seconds=ago))


@pytest.fixture(autouse=True)
def _never_fresh(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the API ask for each answer anew, as it does when a second has passed."""
    if "api" in request.fixturenames:
        monkeypatch.setattr(transfers, "FRESH_SECONDS", 0.0)


async def shown(api: Api, operation_id: str) -> dict[str, Any]:
    """Read an operation; return its steps' transfers by name."""
    answer = await api.client.get(f"/v1/operations/{operation_id}")
    assert answer.status_code == 200, answer.text
    steps = answer.json()["data"]["steps"]
    return {step["name"]: step["transfer"] for step in steps if "transfer" in step}


async def step(api: Api, operation_id: str, name: str, state: StepState) -> None:
    """Write down a step's state."""
    await record(api.database, operation_id, StepChange(step=name, state=state, attempt=1))


async def test_bytes_are_shown_with_the_step_that_moves_them(api: Api, tenant: Tenant) -> None:
    operation = await take(api, (await running(api))["id"])
    identifier, workflow_id = operation["id"], operation["workflowId"]
    api.recorder.moving[workflow_id] = [reading(total_bytes=None, bytes_per_second=2_000_000)]
    await begin(api.database, identifier)
    await step(api, identifier, "survey", StepState.RUNNING)
    assert await shown(api, identifier) == {}
    assert api.recorder.asked == []  # nothing moves: nobody is asked

    await step(api, identifier, "survey", StepState.SUCCEEDED)
    await step(api, identifier, "capture/db", StepState.RUNNING)
    one = await shown(api, identifier)
    assert one["capture/db"].pop("countedAt")
    assert one == {
        "capture/db": {
            "kind": "capture",
            "service": "db",
            "stream": "db/shop",
            "doneBytes": 4_000_000,
            "bytesPerSecond": 2_000_000,
        }
    }
    listed = (await api.client.get("/v1/operations")).json()["data"]
    assert "steps" not in listed[0]

    await step(api, identifier, "capture/db", StepState.SUCCEEDED)
    assert await shown(api, identifier) == {}
    assert api.recorder.asked == [workflow_id]


async def test_an_attempt_that_is_silent_has_no_rate(api: Api, tenant: Tenant) -> None:
    operation = await take(api, (await running(api))["id"])
    await begin(api.database, operation["id"])
    await step(api, operation["id"], "capture/db", StepState.RUNNING)
    said = reading(ago=30, total_bytes=9_000_000, bytes_per_second=2_000_000)
    api.recorder.moving[operation["workflowId"]] = [said]
    one = (await shown(api, operation["id"]))["capture/db"]
    assert (one["doneBytes"], one["totalBytes"]) == (4_000_000, 9_000_000)
    assert datetime.fromisoformat(one["countedAt"]) == said.counted_at
    assert "bytesPerSecond" not in one


async def test_a_restore_shows_each_of_its_steps(api: Api, tenant: Tenant) -> None:
    snapshot = await taken(api, (await running(api))["id"])
    operation = (await restore(api, snapshot, name="copy")).json()["data"]
    await begin(api.database, operation["id"])
    await step(api, operation["id"], "load/db", StepState.RUNNING)
    load: dict[str, Any] = {"kind": "load", "total_bytes": 4096}
    api.recorder.moving[operation["workflowId"]] = [
        reading(1024, **load),
        reading(1, service="other", **load),  # of no step that runs
    ]
    found = await shown(api, operation["id"])
    assert {name: (each["kind"], each["doneBytes"]) for name, each in found.items()} == {
        "load/db": ("load", 1024)
    }


async def test_without_temporal_there_are_no_bytes_and_nothing_waits(api: Api, tenant: Tenant) -> None:
    operation = await take(api, (await running(api))["id"])
    await begin(api.database, operation["id"])
    await step(api, operation["id"], "capture/db", StepState.RUNNING)
    api.recorder.moving[operation["workflowId"]] = [reading()]
    api.recorder.away = True
    assert await shown(api, operation["id"]) == {}
    assert await shown(api, operation["id"]) == {}
    assert api.recorder.asked == [operation["workflowId"]]  # it is known to be away


async def test_others_learn_nothing_and_nobody_is_asked(api: Api, tenant: Tenant) -> None:
    operation = await take(api, (await running(api))["id"])
    await begin(api.database, operation["id"])
    await step(api, operation["id"], "capture/db", StepState.RUNNING)
    api.client.headers["Authorization"] = f"Bearer {(await make_tenant(api.database)).token}"
    assert (await api.client.get(f"/v1/operations/{operation['id']}")).status_code == 404
    assert api.recorder.asked == []


async def test_a_verification_shows_its_own_bytes_and_those_of_its_restore(api: Api, tenant: Tenant) -> None:
    snapshot = await taken(api, (await running(api))["id"])
    asked = await verify(api, snapshot, level=2)
    path = f"/v1/snapshots/{snapshot}/verifications/{asked['id']}"

    async def now() -> Any:
        found = (await api.client.get(path)).json()["data"].get("transfer")
        return found and (found["kind"], found["doneBytes"])

    assert await now() is None
    own = f"verify/{snapshot}/{asked['id']}"
    assert api.recorder.asked == [own]
    api.recorder.moving[own] = [reading(7, kind="read")]
    assert await now() == ("read", 7)

    operation = (await restore(api, snapshot, name="trial")).json()["data"]
    async with api.database.transaction() as session:
        await verifications.note_trial(session, asked["id"], operation["environmentId"], operation["id"])
    api.recorder.moving = {operation["workflowId"]: [reading(8, kind="load")]}
    assert await now() == ("load", 8)
    listed = (await api.client.get(f"/v1/snapshots/{snapshot}/verifications")).json()["data"]
    assert "transfer" not in listed[0]


@dataclass
class SlowTemporal(Recorder):
    """Answers when it is let."""

    let: asyncio.Event = field(default_factory=asyncio.Event)

    async def transfers(self, workflow_id: str) -> Sequence[TransferReading]:
        """Wait, then answer."""
        self.asked.append(workflow_id)
        await self.let.wait()
        return [reading(len(self.asked))]


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


async def test_many_who_ask_are_one_question_a_second() -> None:
    slow, clock = SlowTemporal(), Clock()
    known = Transfers(cast(TemporalServer, slow), clock=clock)
    waiting = [asyncio.create_task(known.of("w")) for _ in range(50)]

    async def asked() -> bool:
        return slow.asked == ["w"]

    await eventually_async(asked, "one question")
    waiting[0].cancel()  # who hangs up does not take the answer away from the others
    slow.let.set()
    answers = await asyncio.gather(*waiting[1:])
    assert {each.progress.done_bytes for [each] in answers} == {1}
    clock.now += FRESH_SECONDS / 2
    assert [each.progress.done_bytes for each in await known.of("w")] == [1]
    clock.now += FRESH_SECONDS
    assert [each.progress.done_bytes for each in await known.of("w")] == [2]
    assert [each.progress.done_bytes for each in await known.of("other")] == [3]
    await known.close()


async def test_a_temporal_that_hangs_holds_up_one_answer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "PATIENCE_SECONDS", 0.01)
    slow, clock = SlowTemporal(), Clock()
    known = Transfers(cast(TemporalServer, slow), clock=clock)
    assert list(await known.of("w")) == []
    monkeypatch.setattr(transfers, "PATIENCE_SECONDS", 3600.0)
    assert list(await asyncio.wait_for(known.of("w"), 10)) == []
    assert list(await asyncio.wait_for(known.of("other"), 10)) == []
    assert slow.asked == ["w"]
    slow.let.set()
    clock.now += AWAY_SECONDS
    assert len(await known.of("other")) == 1
    await known.close()


async def test_what_is_asked_no_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_MOST_KEPT", 10)
    slow = SlowTemporal()
    slow.let.set()
    known = Transfers(cast(TemporalServer, slow))
    for number in range(100):
        assert len(await known.of(f"w{number}")) == 1
    assert len(known._asked) <= 10
    await known.close()


def test_silence_is_told_by_the_servers_clock() -> None:
    said = reading(bytes_per_second=5)
    assert transfer_out(said, said.counted_at + timedelta(seconds=5)).bytes_per_second == 5
    assert transfer_out(said, said.counted_at + timedelta(seconds=8)).bytes_per_second is None
