"""`perdure replay`: the steps of an earlier operation once more, and the list of such replays."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from typing import Annotated

import typer

from cli.asking import confirm
from cli.commands.environments import finish
from cli.completion import operation_ids, snapshot_ids
from cli.errors import UsageFault
from cli.options import (
    EnvironmentArgument,
    MaskingOption,
    OutputOption,
    SinceOption,
    TimeoutOption,
    WaitOption,
    moment_before,
    several,
    several_option,
    sort_option,
)
from cli.output import OutputFormat, emit
from cli.session import session_of


def replay(
    context: typer.Context,
    environment: EnvironmentArgument,
    operation: Annotated[
        str | None,
        typer.Option(
            "--operation",
            metavar="ID",
            help="Which operation; the newest that made it what it is if absent.",
            autocompletion=operation_ids,
        ),
    ] = None,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from-step", metavar="STEP", help="Run this step (as service/api) and all that depends on it."
        ),
    ] = None,
    into: Annotated[
        str | None, typer.Option("--into", metavar="NAME", help="As a new environment of this name.")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            metavar="SNAPSHOT",
            autocompletion=snapshot_ids,
            help="Load this snapshot's data (snap_..., or latest:NAME) before what depends on it starts.",
        ),
    ] = None,
    masking: MaskingOption = None,
    run_init: Annotated[
        bool,
        typer.Option(
            "--run-init", help="With --snapshot: run init over the data that are loaded, whether it ever ran."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which steps would run, which not, and why.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Run the steps of an earlier operation again, where something changed since or is gone.

    What is unchanged and still there is skipped, unless it depends on what is run, or on --from-step. Data in
    volumes stays, unless --snapshot replaces it.
    """
    from cli import views_replays
    from cli.files import read_masking
    from cli.lookup import environment_id, snapshot_id
    from cli.models_replays import ReplayWish

    if masking is not None and snapshot is None:
        raise UsageFault("--masking goes with --snapshot: without one no data are loaded.")
    if run_init and snapshot is None:
        raise UsageFault("--run-init goes with --snapshot: without one no data are loaded.")
    rules = None if masking is None else read_masking(masking)
    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        data = None if snapshot is None else snapshot_id(client, snapshot)
        wish = ReplayWish(operation, from_step, into, data, rules, run_init)
        if dry_run:
            preview = client.preview_replay(identifier, wish)
            emit(output, preview.raw, views_replays.preview(preview.value))
            return
        if data is not None and into is None:
            confirm(f"Replace the data of environment {environment} by that of {data}?", yes=yes)
        answer = client.replay(identifier, wish)
        finish(client, answer, into or environment, wait, timeout, output, views_replays.outcome)


def replays(
    context: typer.Context,
    environment: EnvironmentArgument,
    state: Annotated[list[str] | None, several_option("--state", "as failed")] = None,
    since: SinceOption = None,
    sort: Annotated[str | None, sort_option("createdAt", "-createdAt")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the replays of an environment, and those of its operations into new ones."""
    from cli import views_replays
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.replays(
            environment_id(client, environment),
            {"state": several(state), "since": moment_before(since), "sort": sort},
        )
    emit(output, answer.raw, views_replays.replay_list(answer.value))
