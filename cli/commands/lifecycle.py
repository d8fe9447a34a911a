"""`perdure env`: change, pause, scale and copy environments that are there, and look at their revisions."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.environments import finish, finish_creation
from cli.errors import CliError, ExitCode
from cli.files import document_name, read_text
from cli.options import (
    BlueprintFile,
    EnvironmentArgument,
    LimitOption,
    OutputOption,
    PlanOption,
    SearchOption,
    ServiceArgument,
    SinceOption,
    TimeoutOption,
    WaitOption,
    moment_before,
    sort_option,
    whole_minutes,
)
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from cli.client import Answer, ApiClient
    from cli.models import Operation, Update

app = typer.Typer(rich_markup_mode=None)
"""Its commands are those of `perdure env`, beside `cli.commands.environments`."""

MessageOption = Annotated[
    str | None, typer.Option("--message", "-m", help="Why; it is kept with the revision.")
]
KeepOption = Annotated[
    bool,
    typer.Option("--keep-failed", help="When a service does not become ready, leave all as it is then."),
]


@app.command("up")
def up(
    context: typer.Context,
    file: BlueprintFile,
    name: Annotated[str | None, typer.Option("--name", help="Name instead of the Blueprint's own.")] = None,
    plan: PlanOption = None,
    message: MessageOption = None,
    keep_failed: KeepOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Bring an environment to what a Blueprint says: create it, update it, or leave it as it is.

    For pipelines: the same command for a branch's first run and every later one. A stopped environment runs
    afterwards. Exits as `env create` does.
    """
    blueprint = read_text(file)
    wanted = name or document_name(blueprint)
    with session_of(context).client() as client:
        answer = client.put_environment(
            wanted, blueprint, plan=plan, message=message, keep_failed=keep_failed
        )
        _finish_update(client, answer, wanted, wait, timeout, output)


@app.command("down")
def down(
    context: typer.Context,
    file: BlueprintFile,
    name: Annotated[str | None, typer.Option("--name", help="Name instead of the Blueprint's own.")] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Delete the environment of a Blueprint's name with all its data; one that is not there is fine."""
    from cli.lookup import environment_id

    wanted = name or document_name(read_text(file))
    with session_of(context).client() as client:
        try:
            identifier = environment_id(client, wanted, living=True)
        except CliError as error:
            if error.exit_code is not ExitCode.NOT_FOUND:
                raise
            tell(f"There is no environment {wanted}: nothing to do.")
            return
        finish(client, client.delete_environment(identifier, force=False), wanted, wait, timeout, output)


@app.command("update")
def update(
    context: typer.Context,
    environment: EnvironmentArgument,
    file: BlueprintFile,
    plan: PlanOption = None,
    message: MessageOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    keep_failed: KeepOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Update an environment to another Blueprint: what changes is rolled, what goes is removed last.

    When a service does not become ready, all goes back to the revision before (exit 1).
    """
    from cli import views
    from cli.lookup import environment_id

    blueprint = read_text(file)
    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        if dry_run:
            preview = client.preview_update(identifier, blueprint, plan=plan)
            emit(output, preview.raw, views.changes(preview.value.changes))
            raise typer.Exit(ExitCode.FAILED if preview.value.refused else 0)
        answer = client.update_environment(
            identifier, blueprint, plan=plan, message=message, keep_failed=keep_failed
        )
        _finish_update(client, answer, environment, wait, timeout, output)


@app.command("diff")
def diff(
    context: typer.Context,
    environment: EnvironmentArgument,
    source: Annotated[
        int | None, typer.Option("--from", min=1, help="Revision; --to's parent if absent.")
    ] = None,
    target: Annotated[
        int | None, typer.Option("--to", min=1, help="Revision; the present one if absent.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show what differs between two revisions."""
    from cli import views
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.diff(environment_id(client, environment), source=source, target=target)
    emit(output, answer.raw, views.changes(answer.value.changes))


@app.command("revisions")
def revisions(
    context: typer.Context,
    environment: EnvironmentArgument,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Only with this in the message.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Only what this one made (prn_...).")
    ] = None,
    named: Annotated[
        bool | None, typer.Option("--named/--unnamed", help="Only those with a checkpoint, or without.")
    ] = None,
    since: SinceOption = None,
    sort: Annotated[str | None, sort_option("number", "-number")] = None,
    limit: LimitOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the revisions of an environment, newest first unless `--sort` says otherwise."""
    from cli import views
    from cli.lookup import environment_id

    wanted: dict[str, JsonValue] = {
        "q": search,
        "principal": principal,
        "named": named,
        "since": moment_before(since),
        "sort": sort,
    }
    with session_of(context).client() as client:
        answer = client.revisions(environment_id(client, environment), wanted, limit=limit)
    emit(output, answer.raw, views.revisions(answer.value))


@app.command("revision")
def revision(
    context: typer.Context,
    environment: EnvironmentArgument,
    number: Annotated[int, typer.Argument(metavar="REVISION", min=1, help="Number of the revision.")],
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show one revision and its Blueprint as YAML; values of secrets are not in it."""
    from cli import views
    from cli.lookup import environment_id
    from cli.output import to_yaml

    with session_of(context).client() as client:
        answer = client.revision(environment_id(client, environment), number)
    blueprint = answer.raw.get("blueprint") if isinstance(answer.raw, dict) else None
    told = [f"# {line}" for line in views.revisions([answer.value])]
    emit(output, answer.raw, [*told, to_yaml(blueprint).rstrip("\n")])


@app.command("checkpoints")
def checkpoints(
    context: typer.Context,
    environment: EnvironmentArgument,
    search: SearchOption = None,
    sort: Annotated[str | None, sort_option("createdAt or name", "-createdAt")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the checkpoints of an environment."""
    from cli import views_readings
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.checkpoints(environment_id(client, environment), {"q": search, "sort": sort})
    emit(output, answer.raw, views_readings.checkpoints(answer.value))


@app.command("checkpoint")
def checkpoint(
    context: typer.Context,
    environment: EnvironmentArgument,
    name: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A name for the revision.")],
    revision: Annotated[
        int | None, typer.Option("--revision", min=1, help="The present one if absent.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the name away instead.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Name a revision, so that it is kept and can be gone back to by its name."""
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        if remove:
            client.remove_checkpoint(identifier, name)
            tell(f"Checkpoint {name} is gone; its revision stays until it is pruned.")
            return
        answer = client.add_checkpoint(identifier, name, revision)
    emit(output, answer.raw, [f"{answer.value.name}: revision {answer.value.revision}"])


@app.command("rollback")
def rollback(
    context: typer.Context,
    environment: EnvironmentArgument,
    target: Annotated[
        str, typer.Argument(metavar="REVISION|CHECKPOINT", help="Number of a revision, or a checkpoint.")
    ],
    keep_failed: KeepOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Go back to an earlier revision, with the secrets that it had; this makes a new revision."""
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.rollback(environment_id(client, environment), target, keep_failed=keep_failed)
        _finish_update(client, answer, environment, wait, timeout, output)


@app.command("clone")
def clone(
    context: typer.Context,
    environment: EnvironmentArgument,
    name: Annotated[str, typer.Argument(metavar="NEW-NAME", help="Name of the copy.")],
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Create another environment of the same Blueprint and scaling. Data is not copied."""
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.clone(environment_id(client, environment), name)
        finish_creation(client, answer, wait, timeout, output)


@app.command("stop")
def stop(
    context: typer.Context,
    environment: EnvironmentArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Take all pods away; volumes, secrets and numbers of replicas stay."""
    _act(context, environment, "stop", {}, wait, timeout, output)


@app.command("resume")
def resume(
    context: typer.Context,
    environment: EnvironmentArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let a stopped environment run again."""
    _act(context, environment, "resume", {}, wait, timeout, output)


@app.command("restart")
def restart(
    context: typer.Context,
    environment: EnvironmentArgument,
    service: ServiceArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Give one service new pods, rolled one after the other."""
    _act(context, environment, "restart", {"service": service}, wait, timeout, output)


@app.command("scale")
def scale(
    context: typer.Context,
    environment: EnvironmentArgument,
    service: ServiceArgument,
    replicas: Annotated[int, typer.Argument(metavar="REPLICAS", min=0, help="How many pods.")],
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Give one service another number of pods; kept over updates, taken back when they do not start."""
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.scale(environment_id(client, environment), service, replicas)
        _finish_update(client, answer, environment, wait, timeout, output)


@app.command("extend")
def extend(
    context: typer.Context,
    environment: EnvironmentArgument,
    by: Annotated[
        str, typer.Option("--by", metavar="DURATION", help="How long, in whole minutes, e.g. 4h.")
    ] = "1h",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Put off an environment's end: its expiry by this long, its shutdown as if it were used now."""
    from cli.lookup import environment_id

    minutes = whole_minutes("--by", by)
    with session_of(context).client() as client:
        answer = client.extend(environment_id(client, environment), minutes)
    end = answer.value.expires_at
    ends = "It has no end." if end is None else f"Its time is over at {end:%Y-%m-%d %H:%M} UTC."
    emit(output, answer.raw, [ends])


def _act(
    context: typer.Context,
    environment: str,
    action: str,
    body: dict[str, str],
    wait: bool,
    timeout: float | None,
    output: OutputFormat,
) -> None:
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.act(environment_id(client, environment), action, body)
        finish(client, answer, environment, wait, timeout, output)


def _finish_update(
    client: "ApiClient",
    answer: "Answer[Operation | Update]",
    environment: str,
    wait: bool,
    timeout: float | None,
    output: OutputFormat,
) -> None:
    """Say what changes, then wait for the operation; there is none when nothing changes."""
    from cli import views
    from cli.client import Answer as Answered
    from cli.models import Operation as AnOperation

    value = answer.value
    if not isinstance(value, AnOperation):
        if output is not OutputFormat.TABLE:
            emit(output, answer.raw, ())
        tell(f"{environment} is so already: nothing to do.")
        return
    if output is OutputFormat.TABLE and value.changes:
        tell(*views.changes(value.changes))
    finish(client, Answered(value, answer.raw), environment, wait, timeout, output)
