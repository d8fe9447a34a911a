"""`perdure env metrics|stores|cost` and `perdure stats`: what is measured and estimated."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from typing import Annotated

import typer

from cli.options import EnvironmentArgument, OutputOption
from cli.output import OutputFormat, emit
from cli.session import session_of


def add_to(app: typer.Typer) -> None:
    """Add the commands to `perdure env`."""
    app.command("metrics")(metrics)
    app.command("stores")(stores)
    app.command("cost")(cost)


def metrics(
    context: typer.Context,
    environment: EnvironmentArgument,
    pods: Annotated[bool, typer.Option("--pods", help="A line for each pod.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Print each change until Ctrl-C; json is one per line.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show the CPU (in cores) and memory that each service uses, as the cluster measures it."""
    from cli import views_readings
    from cli.lookup import environment_id
    from cli.repeating import print_changes

    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        if watch:
            print_changes(
                lambda: client.metrics(identifier),
                lambda found: views_readings.metrics(found, by_pod=pods),
                output,
            )
        answer = client.metrics(identifier)
    emit(output, answer.raw, views_readings.metrics(answer.value, by_pod=pods))


def stores(
    context: typer.Context, environment: EnvironmentArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show what the volumes of each service hold, and how fast they fill."""
    from cli import views_readings
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.store_stats(environment_id(client, environment))
    emit(output, answer.raw, views_readings.store_stats(answer.value))


def cost(
    context: typer.Context, environment: EnvironmentArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show what an environment is estimated to cost as it stands, and what that rests on."""
    from cli import views_readings
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.cost(environment_id(client, environment))
    emit(output, answer.raw, views_readings.cost(answer.value))


def stats(context: typer.Context, output: OutputOption = OutputFormat.TABLE) -> None:
    """Show figures of environments, of the last day's operations, and of the workers."""
    from cli import views_readings

    with session_of(context).client() as client:
        answer = client.statistics()
    emit(output, answer.raw, views_readings.statistics(answer.value))
