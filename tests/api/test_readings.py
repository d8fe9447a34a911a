"""One reading for all who ask at once, kept for its time, and never a failure."""

import asyncio

import pytest

from api.readings import Readings


class Source:
    """What is read: a number that counts the readings, each held until it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()
        self.fault: Exception | None = None

    async def read(self) -> int:
        self.count += 1
        number = self.count
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return number


async def asked(readings: Readings[str, int], source: Source, times: int) -> list[asyncio.Task[int]]:
    """Ask at once; return when each waits."""
    tasks = [asyncio.create_task(readings.get("a", source.read)) for _ in range(times)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_at_once_and_within_its_time_gets_the_same_reading() -> None:
    readings, source = Readings[str, int](60, most=10), Source()
    tasks = await asked(readings, source, 5)
    source.go.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert await readings.get("a", source.read) == 1
    assert await readings.get("b", source.read) == 2
    readings.forget("a")
    assert await readings.get("a", source.read) == 3


async def test_after_its_time_it_is_read_anew() -> None:
    readings, source = Readings[str, int](0, most=10), Source()
    source.go.set()
    assert [await readings.get("a", source.read) for _ in range(3)] == [1, 2, 3]


async def test_a_failure_is_told_to_who_waited_and_not_kept() -> None:
    readings, source = Readings[str, int](60, most=10), Source()
    tasks = await asked(readings, source, 2)
    source.fault = LookupError("away")
    source.go.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [source.fault] * 2
    source.fault = None
    assert await readings.get("a", source.read) == 2


async def test_who_hangs_up_takes_the_reading_from_nobody() -> None:
    readings, source = Readings[str, int](60, most=10), Source()
    first, other = await asked(readings, source, 2)
    first.cancel()
    source.go.set()
    assert await other == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_no_more_are_kept_than_there_is_room_for() -> None:
    readings, source = Readings[str, int](60, most=2), Source()
    source.go.set()
    assert [await readings.get(key, source.read) for key in "abca"] == [1, 2, 3, 4]
