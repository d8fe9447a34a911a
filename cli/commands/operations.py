"""`perdure op`: look at operations, watch them, cancel them."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import environment_names
from cli.options import (
    OperationArgument,
    OutputOption,
    SinceOption,
    TimeoutOption,
    WaitOption,
    moment_before,
    several,
    several_option,
    sort_option,
)
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("get")
def get(
    context: typer.Context, operation: OperationArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show one operation with its steps, and why it failed if it did."""
    from cli import views
    from cli.report import failure_report

    with session_of(context).client() as client:
        answer = client.operation(operation)
    found = answer.value
    lines = views.operation(found)
    if found.terminal and found.state != "succeeded":
        lines += failure_report(found, found.environment_name or found.environment_id)
    emit(output, answer.raw, lines)


@app.command("list")
def list_operations(
    context: typer.Context,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            "-e",
            metavar="NAME|ID",
            help="Only of this environment.",
            autocompletion=environment_names,
        ),
    ] = None,
    kind: Annotated[list[str] | None, several_option("--kind", "as update")] = None,
    state: Annotated[list[str] | None, several_option("--state", "as failed")] = None,
    since: SinceOption = None,
    sort: Annotated[str | None, sort_option("createdAt", "-createdAt")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List operations, newest first unless `--sort` says otherwise."""
    from cli import views
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        identifier = environment_id(client, environment) if environment else None
        wanted: dict[str, JsonValue] = {
            "environmentId": identifier,
            "kind": several(kind),
            "state": several(state),
            "since": moment_before(since),
            "sort": sort,
        }
        answer = client.operations(wanted, limit=limit)
    emit(output, answer.raw, views.operation_list(answer.value))


@app.command("watch")
def watch(
    context: typer.Context,
    operation: OperationArgument,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Follow an operation to its end; exits 0 when it succeeds, 1 when not, 5 when --timeout passes."""
    from cli.waiting import conclude, wait_for

    with session_of(context).client() as client:
        answer = wait_for(client, operation, timeout=timeout)
    if output is not OutputFormat.TABLE:
        emit(output, answer.raw, ())
    conclude(answer.value, answer.value.environment_name or answer.value.environment_id)


@app.command("cancel")
def cancel(
    context: typer.Context,
    operation: OperationArgument,
    cleanup: Annotated[
        bool,
        typer.Option(
            "--cleanup", help="Also take back what the operation made; what was there before stays."
        ),
    ] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Stop an operation. Without --cleanup what it made stays, and `perdure env retry` goes on from there.

    Exits 0 when it is cancelled, 1 when it ended otherwise before that, or when the clean-up left something.
    """
    from cli import views
    from cli.errors import ExitCode
    from cli.waiting import wait_for

    with session_of(context).client() as client:
        answer = client.cancel_operation(operation, cleanup=cleanup)
        if wait and not answer.value.terminal:
            answer = wait_for(client, operation, timeout=timeout)
    ended = answer.value
    emit(output, answer.raw, views.operation(ended))
    left = (*ended.cleanup.left, *ended.cleanup.not_undone) if ended.cleanup is not None else ()
    if left:
        tell("Not everything could be taken back; left:", *(f"  {name}" for name in left))
    whole = ended.cleanup is None or ended.cleanup.complete
    if ended.terminal and (not whole or ended.state not in {"cancelled", "rolled_back"}):
        tell(f"The operation {ended.state.replace('_', ' ')}.")
        raise typer.Exit(ExitCode.FAILED)
