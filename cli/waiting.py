"""Waiting for an operation, and saying how it ended."""

import typer

from cli.client import Answer, ApiClient
from cli.errors import ApiUnreachable, ExitCode, Interrupted, WaitTimeout
from cli.follow import follow
from cli.models import Operation
from cli.output import tell
from cli.progress import progress_view
from cli.report import failure_report


def wait_for(client: ApiClient, operation_id: str, *, timeout: float | None) -> Answer[Operation]:
    """Show an operation's progress until it is over.

    Raises WaitTimeout and Interrupted, both of which say that it goes on and how to come back to it.
    """
    hints = [
        f"Watch it:   perdure op watch {operation_id}",
        f"Cancel it:  perdure op cancel {operation_id} [--cleanup]   (unless it is a delete)",
    ]
    try:
        with progress_view() as view:
            return follow(client, operation_id, view, timeout=timeout)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped waiting. Operation {operation_id} goes on.", hints=hints) from None
    except WaitTimeout as late:
        raise WaitTimeout(f"{late.message} It goes on.", hints=hints) from None
    except ApiUnreachable as away:
        raise ApiUnreachable(
            away.message, hints=[*away.hints, "The operation does not need the API to go on.", *hints[:1]]
        ) from away


def conclude(operation: Operation, environment: str) -> None:
    """Return when the operation succeeded; else explain the failure on stderr and exit with its code."""
    if operation.state == "succeeded":
        return
    tell(*failure_report(operation, environment))
    refused = operation.failure is not None and operation.failure.kind == "policy_denied"
    raise typer.Exit(ExitCode.REFUSED if refused else ExitCode.FAILED)
