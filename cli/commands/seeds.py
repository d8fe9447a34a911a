"""`perdure seed`: data for running environments, once: packages, and seeds of one's own."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import confirm
from cli.completion import package_names, service_names
from cli.errors import UsageFault
from cli.files import read_mapping, read_text
from cli.options import EnvironmentArgument, OutputOption, TimeoutOption, WaitOption, assignments
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
PackageArgument = Annotated[
    str,
    typer.Argument(metavar="PACKAGE", help="Name of the seed package.", autocompletion=package_names),
]
VersionOption = Annotated[str | None, typer.Option("--version", help="The newest release if absent.")]
ServiceOption = Annotated[
    str | None,
    typer.Option(
        "--service",
        help="Against which service; the package's own if absent.",
        autocompletion=service_names,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run it although it has run before.")]
SecretOption = Annotated[
    list[str] | None,
    typer.Option(
        "--secret", metavar="NAME=SECRET", help="Name of a secret that the environment uses. May be repeated."
    ),
]


@app.command("publish")
def publish(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Option("--file", "-f", metavar="FILE", help="Package in YAML or JSON; - reads standard input."),
    ],
    script: Annotated[
        Path | None,
        typer.Option("--script", metavar="FILE", help="What `script` is to be; - reads standard input."),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Publish a version of a seed package (name, version, type, script, parameters); it never changes."""
    from cli import views_seeds

    body = read_mapping(file, "package", "It has `name`, `version`, `type`, `script` and more.")
    if script is not None:
        body["script"] = read_text(script)
    with session_of(context).client() as client:
        answer = client.publish_seed(body)
    emit(output, answer.raw, views_seeds.package(answer.value))


@app.command("search")
def search(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="All of them in name or description.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the newest version of each package; without words of all of them."""
    from cli import views_seeds

    with session_of(context).client() as client:
        answer = client.search_seeds(" ".join(words or []))
    emit(output, answer.raw, views_seeds.package_list(answer.value))


@app.command("show")
def show(
    context: typer.Context,
    package: PackageArgument,
    version: VersionOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show a package with its parameters and what it runs."""
    from cli import views_seeds

    with session_of(context).client() as client:
        answer = client.seed_package(package, version)
    emit(output, answer.raw, views_seeds.package(answer.value))


@app.command("versions")
def versions(
    context: typer.Context, package: PackageArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """List the versions of a package, the highest first."""
    from cli import views_seeds

    with session_of(context).client() as client:
        answer = client.seed_versions(package)
    emit(output, answer.raw, views_seeds.package_list(answer.value))


@app.command("delete")
def delete(
    context: typer.Context,
    package: PackageArgument,
    version: Annotated[
        str | None, typer.Option("--version", help="This version alone; all versions if absent.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked.")] = False,
) -> None:
    """Delete a seed package, or a version of it. What it has put into environments stays."""
    confirm(f"Delete {f'{package}@{version}' if version else f'all versions of {package}'}?", yes=yes)
    with session_of(context).client() as client:
        gone = client.delete_seed(package, version).value
    tell(f"Deleted: {', '.join(f'{each.name}@{each.version}' for each in gone)}.")


@app.command("run")
def run(
    context: typer.Context,
    package: PackageArgument,
    environment: EnvironmentArgument,
    version: VersionOption = None,
    service: ServiceOption = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Value of a parameter. May be repeated."),
    ] = None,
    secret: SecretOption = None,
    force: ForceOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Run a package into an environment: once for its content and its parameters, unless forced."""
    from cli import views_seeds
    from cli.commands.environments import finish
    from cli.lookup import environment_id
    from cli.text import typed_values

    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        found = client.seed_package(package, version).value
        body: dict[str, JsonValue] = {
            # The one that was just looked at, whatever is published meanwhile.
            "version": found.version,
            "service": service,
            "parameters": {
                **typed_values(
                    {each.name: each.type for each in found.parameters}, assignments("--set", given)
                ),
                **assignments("--secret", secret),
            },
            "force": force,
        }
        answer = client.run_seed(package, identifier, body)
        finish(client, answer, environment, wait, timeout, output, said=views_seeds.outcome)


@app.command("once")
def once(
    context: typer.Context,
    environment: EnvironmentArgument,
    service: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE", help="Against which service it runs.", autocompletion=service_names
        ),
    ],
    sql: Annotated[
        Path | None,
        typer.Option("--sql", metavar="FILE", help="SQL, in one transaction; - reads standard input."),
    ] = None,
    shell: Annotated[
        Path | None,
        typer.Option(
            "--shell", metavar="FILE", help="A script for /bin/sh, as a Job of the service's image."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="A Job of this image, with the service's environment.")
    ] = None,
    http: Annotated[
        Path | None,
        typer.Option(
            "--http",
            metavar="FILE",
            help="A request to the service in YAML or JSON: `path`, `body` and more.",
        ),
    ] = None,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Command of the --image.")
    ] = None,
    secret: SecretOption = None,
    force: ForceOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Run a seed of your own: --sql, --shell, --image or --http. The same one runs once, unless forced."""
    from cli import views_seeds
    from cli.commands.environments import finish
    from cli.lookup import environment_id

    if sum(each is not None for each in (sql, shell, image, http)) != 1:
        raise UsageFault("One of --sql, --shell, --image and --http says what is to be run.")
    if command and image is None:
        raise UsageFault("Only an --image takes a command.")
    body: dict[str, JsonValue] = {
        "service": service,
        "secrets": {**assignments("--secret", secret)},
        "force": force,
    }
    script = sql if sql is not None else shell
    if script is not None:
        body |= {"type": "sql" if sql is not None else "shell", "script": read_text(script)}
    elif http is not None:
        request = read_mapping(http, "request", "It has `path`, and as needed `method`, `headers`, `body`.")
        body |= {"type": "http", "http": request}
    else:
        body |= {"type": "job", "image": image, "command": [*(command or [])]}
    with session_of(context).client() as client:
        answer = client.seed(environment_id(client, environment), body)
        finish(client, answer, environment, wait, timeout, output, said=views_seeds.outcome)
