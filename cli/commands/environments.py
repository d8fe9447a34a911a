"""`perdure env`: make, look at, retry and delete environments."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import confirm
from cli.commands import access
from cli.completion import service_names, snapshot_ids
from cli.errors import UsageFault
from cli.files import read_text
from cli.options import (
    BlueprintFile,
    EnvironmentArgument,
    LimitOption,
    OutputOption,
    PlanOption,
    SearchOption,
    TimeoutOption,
    WaitOption,
    parse_duration,
    sort_option,
    whole_minutes,
)
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

    from cli.client import Answer, ApiClient
    from cli.models import Environment, Operation

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
access.add_to(app)


@app.command("create")
def create(
    context: typer.Context,
    file: BlueprintFile,
    name: Annotated[str | None, typer.Option("--name", help="Name instead of the Blueprint's own.")] = None,
    plan: PlanOption = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            metavar="ID|latest:ENVIRONMENT",
            help="Begin with this snapshot's data.",
            autocompletion=snapshot_ids,
        ),
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Create an environment from a Blueprint and wait until it runs.

    Exits 1 when provisioning fails, 2 when the Blueprint has faults (all of them are listed), 5 when
    --timeout passes, 7 when a policy refuses it.
    """
    from cli.lookup import snapshot_id

    blueprint = read_text(file)
    with session_of(context).client() as client:
        data = None if snapshot is None else snapshot_id(client, snapshot)
        made = client.create_environment(blueprint, name=name, plan=plan, snapshot_id=data)
        finish_creation(client, made, wait, timeout, output)


def finish_creation(
    client: "ApiClient",
    answer: "Answer[Environment]",
    wait: bool,
    timeout: float | None,
    output: OutputFormat,
) -> None:
    """Wait for the provisioning of an environment that was accepted, and print what became of it."""
    from cli import views
    from cli.waiting import conclude, wait_for

    environment = answer.value
    if wait and environment.operation is not None:
        tell(f"Environment {environment.name} ({environment.id}) accepted.")
        ended = wait_for(client, environment.operation.id, timeout=timeout).value
        answer = client.environment(environment.id)
        if ended.state == "succeeded" or output is not OutputFormat.TABLE:
            emit(output, answer.raw, views.environment(answer.value))
        conclude(ended, environment.name)
        return
    emit(output, answer.raw, views.environment(answer.value))
    if environment.operation is not None:
        tell(f"Watch it: perdure op watch {environment.operation.id}")


@app.command("list")
def list_environments(
    context: typer.Context,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", metavar="STATUS", help="Only those; repeatable. `deleted` ones only when asked for."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="KEY[=VALUE]", help="Only those that have it; repeatable: all of them."
        ),
    ] = None,
    search: SearchOption = None,
    sort: Annotated[str | None, sort_option("createdAt, name or updatedAt", "-createdAt")] = None,
    limit: LimitOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the organisation's environments."""
    from cli import views

    with session_of(context).client() as client:
        answer = client.environments(status=status or (), label=label or (), q=search, sort=sort, limit=limit)
    if not answer.value and (status or label or search):
        emit(output, answer.raw, ["No such environments."])
    else:
        emit(output, answer.raw, views.environment_list(answer.value))


@app.command("get")
def get(
    context: typer.Context, environment: EnvironmentArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show one environment: its services, endpoints and conditions."""
    from cli import views
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.environment(environment_id(client, environment))
    emit(output, answer.raw, views.environment(answer.value))


@app.command("status")
def status(
    context: typer.Context,
    environment: EnvironmentArgument,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Print each change until nothing more happens by itself."),
    ] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show the live status: phase, reason, what blocks it, and each service.

    With --watch, json is one document per line; exits 0 when the environment settles running, stopped or
    deleted, else 1.
    """
    from cli import views
    from cli.lookup import environment_id
    from cli.status import watch_status

    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        if watch:
            raise typer.Exit(watch_status(client, environment, identifier, output, timeout=timeout))
        answer = client.status(identifier)
    emit(output, answer.raw, views.environment_status(environment, answer.value))


@app.command("logs")
def logs(
    context: typer.Context,
    environment: EnvironmentArgument,
    service: Annotated[
        str | None, typer.Option("--service", "-s", help="Only this service.", autocompletion=service_names)
    ] = None,
    tail: Annotated[int | None, typer.Option("--tail", min=1, help="Last lines of each container.")] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the containers before their last restart.")
    ] = False,
    since: Annotated[
        float | None,
        typer.Option(
            "--since", metavar="DURATION", parser=parse_duration, help="Not older than this, e.g. 10m."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written, pods that come later too.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Print recent log lines of the environment's services, each with the service before it.

    With --follow, json is one document per line; ends with Ctrl-C.
    """
    from cli import views
    from cli.lookup import environment_id

    if follow and (previous or output is OutputFormat.YAML):
        raise UsageFault("--follow goes with neither --previous nor -o yaml.")
    with session_of(context).client() as client:
        if follow:
            from cli.watching import print_logs

            seconds = None if since is None else max(1, round(since))
            params: dict[str, str | int | None] = {"service": service, "tail": tail, "sinceSeconds": seconds}
            print_logs(
                client,
                environment_id(client, environment),
                params,
                as_json=output is OutputFormat.JSON,
                prefix=service is None,
            )
        answer = client.logs(
            environment_id(client, environment),
            {
                "service": service,
                "tail": tail,
                "previous": True if previous else None,
                "sinceSeconds": None if since is None else max(1, round(since)),
            },
        )
    emit(output, answer.raw, views.log_lines(answer.value, prefix=service is None))


@app.command("watch")
def watch(
    context: typer.Context,
    environment: EnvironmentArgument,
    once: Annotated[
        bool, typer.Option("--once", help="End with the operation: 0 when it succeeded, 1 when not.")
    ] = False,
) -> None:
    """Show the steps of what runs on the environment, and of whatever runs next, until Ctrl-C.

    On a terminal it takes the whole screen and shows which step waits for which, elsewhere it prints one
    line per change. It goes on over cut connections and restarts of the API.
    """
    from cli.lookup import environment_id
    from cli.waiting import conclude
    from cli.watching import watch_environment

    with session_of(context).client() as client:
        last = watch_environment(client, environment_id(client, environment), once=once)
    conclude(last, last.environment_name or environment)


@app.command("topology")
def topology(
    context: typer.Context, environment: EnvironmentArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show which service depends on which, and how each is reached."""
    from cli import views
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.topology(environment_id(client, environment))
    emit(output, answer.raw, views.topology(answer.value))


@app.command("delete")
def delete(
    context: typer.Context,
    environment: EnvironmentArgument,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Do not ask, and take off foreign finalizers that hold the deletion up."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Delete an environment with everything in it, volumes too; what runs on it is cancelled first.

    A deletion that runs already is taken up again, and --force reaches it.
    """
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        confirm(f"Delete environment {environment} with all its data?", yes=yes or force)
        answer = client.delete_environment(identifier, force=force)
        finish(client, answer, environment, wait, timeout, output)


@app.command("set")
def set_(
    context: typer.Context,
    environment: EnvironmentArgument,
    name: Annotated[str | None, typer.Option("--name", help="Another name; nothing else is renamed.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="What it is for.")] = None,
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", metavar="DURATION|none", help="Delete it so long after it was made, 8h."),
    ] = None,
    auto_shutdown: Annotated[
        str | None,
        typer.Option("--auto-shutdown", metavar="DURATION|off", help="Stop it when idle so long, e.g. 30m."),
    ] = None,
    unmeasured: Annotated[
        bool | None,
        typer.Option(
            "--unmeasured/--measured",
            help="Whether it may be stopped as idle though it has an ingress, whose use is not measured.",
        ),
    ] = None,
    protect: Annotated[
        bool | None, typer.Option("--protect/--no-protect", help="Refuse delete and stop.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE|KEY-", help="Set a label, or take it off; repeatable."),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Change an environment's settings; what is not named stays, and nothing in the cluster changes."""
    from cli import views
    from cli.lookup import environment_id

    settings: dict[str, JsonValue] = {}
    if name is not None:
        settings["name"] = name
    if description is not None:
        settings["description"] = description
    if ttl is not None:
        settings["ttlMinutes"] = None if ttl == "none" else whole_minutes("--ttl", ttl)
    if auto_shutdown is not None:
        settings["autoShutdownEnabled"] = auto_shutdown != "off"
        if auto_shutdown != "off":
            settings["autoShutdownDelayMinutes"] = whole_minutes("--auto-shutdown", auto_shutdown)
    if unmeasured is not None:
        settings["autoShutdownUnmeasured"] = unmeasured
    if protect is not None:
        settings["protected"] = protect
    if not settings and not label:
        raise typer.BadParameter("name at least one setting; --help lists them")
    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        if label:
            settings["labels"] = changed_labels(client.environment(identifier).value.labels, label)
        answer = client.change_environment(identifier, settings)
    emit(output, answer.raw, views.environment(answer.value))


def changed_labels(labels: "Mapping[str, str]", changes: list[str]) -> "dict[str, JsonValue]":
    """Return the labels with `key=value` set and `key-` taken off."""
    result: dict[str, JsonValue] = dict(labels)
    for change in changes:
        key, equals, value = change.partition("=")
        if equals and key:
            result[key] = value
        elif key.endswith("-") and not equals:
            result.pop(key[:-1], None)
        else:
            raise typer.BadParameter(f"{change!r} is neither KEY=VALUE nor KEY-")
    return result


@app.command("retry")
def retry(
    context: typer.Context,
    environment: EnvironmentArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Go on from the step that failed; what succeeded and is unchanged is skipped.

    A degraded environment is repaired: every step is taken again, what is there and unchanged stays as it is.
    """
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.retry_environment(environment_id(client, environment))
        finish(client, answer, environment, wait, timeout, output)


def finish(
    client: "ApiClient",
    answer: "Answer[Operation]",
    environment: str,
    wait: bool,
    timeout: float | None,
    output: OutputFormat,
    said: "Callable[[Operation, str], str] | None" = None,
) -> None:
    """Wait for an accepted operation if asked to, print it, and exit by how it ended.

    `said`: what is said of one that succeeded in the environment; that it did, if absent.
    """
    from cli import views
    from cli.problems import warning_lines
    from cli.waiting import conclude, wait_for

    operation = answer.value
    if operation.warnings:
        tell(*(line for each in operation.warnings for line in warning_lines(each)))
    if not wait:
        emit(output, answer.raw, views.operation(operation))
        tell(f"Watch it: perdure op watch {operation.id}")
        return
    answer = wait_for(client, operation.id, timeout=timeout)
    if output is not OutputFormat.TABLE:
        emit(output, answer.raw, ())
    conclude(answer.value, environment)
    if output is OutputFormat.TABLE:
        usual = f"{answer.value.kind.capitalize()} of {environment} succeeded."
        tell(said(answer.value, environment) if said is not None else usual)
