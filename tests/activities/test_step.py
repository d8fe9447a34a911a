"""An attempt begins only where it is this worker's to make, and ends with a kind."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from activities import _step
from activities._step import alive, reports_failures
from activities.secrets import Opener, Sealer, new_private_key
from tests.helpers.attempts import handed_out
from workflows.domain.failures import FailureKind


class Body:
    """An activity that notes whether it got to its work."""

    def __init__(self) -> None:
        self.entered = False

    async def __call__(self) -> None:
        async with alive():
            self.entered = True


async def test_an_attempt_that_was_given_away_before_it_began_does_nothing() -> None:
    environment, body = handed_out(ago=timedelta(minutes=1)), Body()
    # What Temporal answers to the heartbeat of an attempt that it has given to somebody else.
    environment.on_heartbeat = lambda *_: environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await environment.run(body)
    assert not body.entered


async def test_a_late_attempt_that_is_still_ours_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_step, "ANSWER_SECONDS", 0.01)
    beats: list[object] = []
    environment, body = handed_out(ago=timedelta(minutes=1)), Body()
    environment.on_heartbeat = lambda *details: beats.append(details)
    await environment.run(body)
    assert body.entered
    assert beats


async def test_an_attempt_just_handed_out_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_step, "ANSWER_SECONDS", 3600.0)
    environment, body = handed_out(), Body()
    await asyncio.wait_for(environment.run(body), timeout=10)
    assert body.entered


class Opens:
    """An activity that opens what was sealed for another cluster."""

    @reports_failures
    async def run(self) -> str:
        """Return what it opened."""
        sealed = Sealer(Opener(new_private_key()).public_key).seal("a value")
        return Opener(new_private_key()).open(sealed)


async def test_what_no_key_opens_is_not_tried_again() -> None:
    with pytest.raises(ApplicationError, match="with this cluster's key") as failed:
        await Opens().run()
    assert (failed.value.type, failed.value.non_retryable) == (FailureKind.KEY_UNAVAILABLE, True)
