"""`perdure env status --watch`: the status printed anew whenever it differs, until it settles."""

import time
from collections.abc import Callable
from typing import Final

from cli import views
from cli.client import Answer, ApiClient
from cli.errors import ExitCode, Interrupted, WaitTimeout
from cli.models import EnvironmentStatus
from cli.output import OutputFormat, emit_again
from cli.problems import ApiError

PERIOD_SECONDS: Final = 2.0
"""The API keeps a status for so long, so that asking more often shows nothing new."""
_SETTLED_WELL: Final = frozenset({"running", "stopped", "deleted"})


def watch_status(
    client: ApiClient,
    name: str,
    environment_id: str,
    output: OutputFormat,
    *,
    timeout: float | None,
    sleep: Callable[[float], None] = time.sleep,
) -> ExitCode:
    """Print each change until the status is terminal. An environment that vanishes meanwhile was deleted.

    Raises WaitTimeout after `timeout` seconds, Interrupted on Ctrl-C.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    shown: list[str] | None = None
    try:
        while True:
            try:
                answer = client.status(environment_id)
            except ApiError as error:
                if shown is None or error.status != 404:
                    raise
                return ExitCode.DONE
            told = _told(answer)
            if told != shown:
                lines = views.environment_status(name, answer.value)
                emit_again(output, answer.raw, lines, again=shown is not None)
                shown = told
            if answer.value.terminal:
                return ExitCode.DONE if answer.value.status in _SETTLED_WELL else ExitCode.FAILED
            if deadline is not None and time.monotonic() + PERIOD_SECONDS > deadline:
                raise WaitTimeout(f"{name} has not settled after {timeout:g} s.")
            sleep(PERIOD_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted("Stopped watching; nothing else was changed.") from None


def _told(answer: Answer[EnvironmentStatus]) -> list[str]:
    """Return what counts as a change: all but the ages, which always differ."""
    value = answer.value.model_copy(
        update={
            "conditions": tuple(item.model_copy(update={"since": None}) for item in answer.value.conditions)
        }
    )
    return views.environment_status("", value)
