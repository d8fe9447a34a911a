"""How far an attempt is: counted over its streams, told with each heartbeat, never more than it knows."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from activities import _step
from activities._step import Life, alive
from activities.snapshots.meter import Meter
from clusters.errors import LeaseLost
from clusters.lease import Lease
from tests.helpers.attempts import handed_out
from workflows.domain.operations import StepKind
from workflows.domain.transfer import TransferKind, TransferProgress, step_of


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Attempt:
    """A meter in an activity's second attempt."""

    clock: Clock = field(default_factory=Clock)
    life: Life = field(default_factory=lambda: Life(Lease()))

    def meter(self, total: int | None = None) -> Meter:
        return Meter(self.life, TransferKind.LOAD, total, self.clock)

    def told(self, after: float = 2.0) -> Any:
        """What the next heartbeat says."""
        self.clock.now += after

        async def tell() -> Any:
            return self.life.told()

        return handed_out(2).run(tell)


async def test_bytes_are_those_of_all_streams_of_the_attempt() -> None:
    attempt = Attempt()
    async with attempt.life.lease:
        meter = attempt.meter(total=1000)
        assert attempt.life.told() == ""  # it waits for its turn, and has moved nothing
        first = meter.stream("db", "db/one")
        first(300)
        told = await attempt.told()
        assert told == TransferProgress(
            kind=TransferKind.LOAD,
            service="db",
            stream="db/one",
            attempt=2,
            done_bytes=300,
            total_bytes=1000,
            bytes_per_second=150,
        )
        first(400)
        meter.stream("files", "files/two")(100)
        told = await attempt.told()
    assert (told.service, told.stream, told.done_bytes) == ("files", "files/two", 500)


async def test_a_rate_is_that_of_the_last_seconds_and_ends_with_the_flow() -> None:
    attempt = Attempt()
    async with attempt.life.lease:
        flow = attempt.meter().stream("db", "db/one")
        assert (await attempt.told(after=0.2)).bytes_per_second is None
        for second in range(1, 11):
            flow(second * 2_000)
            told = await attempt.told()
        assert (told.done_bytes, told.bytes_per_second, told.total_bytes) == (20_000, 1_000, None)
        rates = [(await attempt.told()).bytes_per_second for _ in range(6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-2:] == [0, 0]


async def test_what_is_counted_on_its_way_is_all_there() -> None:
    attempt = Attempt()

    async def source() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"defg"

    async with attempt.life.lease:
        pieces = [piece async for piece in attempt.meter().counting("db", "db/one", source())]
        assert pieces == [b"abc", b"defg"]
        assert (await attempt.told()).done_bytes == 7


async def test_an_attempt_that_is_over_moves_nothing_more() -> None:
    attempt = Attempt()
    async with attempt.life.lease:
        flow = attempt.meter().stream("db", "db/one")
    with pytest.raises(LeaseLost):
        flow(1)


async def test_every_heartbeat_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_step, "BEAT_SECONDS", 0.01)
    beats: list[Any] = []
    grown = asyncio.Event()

    def heard(*details: Any) -> None:
        beats.extend(details)
        if isinstance(details[0], TransferProgress) and details[0].done_bytes == 2:
            grown.set()

    async def body() -> None:
        async with alive() as life:
            flow = Meter(life, TransferKind.CAPTURE).stream("db", "db/one")
            flow(1)
            flow(2)
            await grown.wait()

    environment = handed_out()
    environment.on_heartbeat = heard
    await asyncio.wait_for(environment.run(body), timeout=10)
    assert beats[-1] == TransferProgress(
        kind=TransferKind.CAPTURE, service="db", stream="db/one", attempt=1, done_bytes=2
    )


def _of(service: str) -> TransferProgress:
    return TransferProgress(
        kind=TransferKind.CAPTURE, service=service, stream=f"{service}/x", attempt=1, done_bytes=1
    )


def test_bytes_belong_to_the_step_of_their_service() -> None:
    loads = [(f"load/{each}", StepKind.LOAD, each) for each in ("db", "cache")]
    beside = ("service/api", StepKind.SERVICE, "db")
    assert step_of(_of("cache"), [beside, *loads]) == "load/cache"
    # Held still together, all are taken by the step of one.
    capture = ("capture/db", StepKind.CAPTURE, "db")
    assert step_of(_of("cache"), [beside, capture]) == "capture/db"
    assert step_of(_of("other"), [capture, ("capture/cache", StepKind.CAPTURE, "cache")]) is None
    assert step_of(_of("other"), loads) is None
    loaded = _of("other").model_copy(update={"kind": TransferKind.LOAD})
    assert step_of(loaded, [capture]) is None
    assert step_of(_of("db"), [beside]) is None
    # Whether rules fit is seen for all services in one step, beside which others are read.
    checks = [("check/db", StepKind.CHECK, "db"), ("masking", StepKind.CHECK, None)]
    assert step_of(_of("cache").model_copy(update={"kind": TransferKind.MEASURE}), checks) == "masking"
    assert step_of(_of("cache").model_copy(update={"kind": TransferKind.READ}), checks) is None
