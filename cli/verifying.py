"""Waiting for a verification, and saying how it ended."""

import time
from collections.abc import Callable
from typing import Final

import typer

from cli.client import Answer, ApiClient
from cli.errors import ApiUnreachable, ExitCode, Interrupted, WaitTimeout
from cli.models_snapshots import Verification
from cli.output import tell
from cli.transfers import TransferView

PERIOD_SECONDS: Final = 1.0
_RUNNING: Final = "running"


def wait_for(
    client: ApiClient,
    verification: Verification,
    *,
    timeout: float | None,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer[Verification]:
    """Ask for a verification until it is over.

    Raises WaitTimeout, Interrupted and ApiUnreachable, which say that it goes on and how to see its end.
    """
    snapshot_id = verification.snapshot_id
    hints = [f"See what becomes of it: perdure snapshot verifications {snapshot_id}"]
    deadline = None if timeout is None else time.monotonic() + timeout
    tell(f"Verification {verification.id} of {snapshot_id} accepted.")
    try:
        with TransferView(f"verifying {snapshot_id}", verification.created_at) as view:
            while True:
                answer = client.verification(snapshot_id, verification.id)
                view.updated(answer.value.transfer)
                if answer.value.state != _RUNNING:
                    return answer
                if deadline is not None and time.monotonic() + PERIOD_SECONDS > deadline:
                    late = f"Verification {verification.id} is not over after {timeout:g} s. It goes on."
                    raise WaitTimeout(late, hints=hints)
                sleep(PERIOD_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped waiting. Verification {verification.id} goes on.", hints=hints) from None
    except ApiUnreachable as away:
        raise ApiUnreachable(
            away.message, hints=[*away.hints, "The verification does not need the API to go on.", *hints]
        ) from away


def conclude(verification: Verification) -> None:
    """Return when the verification passed; else say what that means, and exit."""
    if verification.state == "passed":
        tell(f"Snapshot {verification.snapshot_id} is what it says: passed level {verification.level}.")
        return
    if verification.state == "failed":
        tell(f"Error: Snapshot {verification.snapshot_id} is not what it says.")
    else:
        tell(
            f"Error: It could not be told whether snapshot {verification.snapshot_id} is what it says "
            f"({verification.state}). Verify it again."
        )
    raise typer.Exit(ExitCode.FAILED)
