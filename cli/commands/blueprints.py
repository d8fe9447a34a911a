"""`perdure blueprint`: check Blueprints, make them from Compose files, find them in projects."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import ExitCode, UsageFault
from cli.files import read_text
from cli.options import BlueprintFile, OutputOption, PlanOption, TimeoutOption, WaitOption, assignments
from cli.output import OutputFormat, emit, tell, to_yaml
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("validate")
def validate(
    context: typer.Context,
    file: BlueprintFile,
    plan: PlanOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Check a Blueprint: every error and warning with its place and a way out.

    Exits 2 when there are errors.
    """
    from cli import views

    blueprint = read_text(file)
    with session_of(context).client() as client:
        answer = client.validate(blueprint, plan=plan)
    emit(output, answer.raw, views.validation(answer.value))
    if answer.value.errors:
        raise typer.Exit(ExitCode.USAGE)


@app.command("import")
def import_compose(
    context: typer.Context,
    file: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="Compose file; - reads standard input.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the environment.")],
    env_file: Annotated[
        list[str] | None,
        typer.Option(
            "--env-file",
            metavar="[NAME=]PATH",
            help="A file that the Compose file names in env_file; NAME is its name there. May be repeated.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="SERVICE=REF",
            help="Image of a service that only has `build`. May be repeated.",
        ),
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="NAME=VALUE", help="Value of a ${NAME}. May be repeated."),
    ] = None,
    compose_profile: Annotated[
        list[str] | None,
        typer.Option("--compose-profile", help="Compose profile that is switched on. May be repeated."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Create the environment at once.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Turn a Compose file into a Blueprint, printed as YAML.

    What cannot be carried over is listed on standard error, each with its place.

    With --create it becomes an environment too, and the output is that of `perdure env create`. --wait and
    --timeout count only then.
    """
    from cli import views
    from cli.client import Answer
    from cli.commands.environments import finish_creation

    body: dict[str, JsonValue] = {
        "compose": read_text(file),
        "name": name,
        "envFiles": _env_files(env_file or []),
        "images": {**assignments("--image", image, "SERVICE=REF")},
        "variables": {**assignments("--var", variable)},
        "profiles": list(compose_profile or []),
        "create": create,
    }
    with session_of(context).client() as client:
        answer = client.import_compose(body)
        found = answer.value
        tell(*views.import_remarks(found))
        if found.environment is not None and isinstance(answer.raw, dict):
            raw = answer.raw.get("environment")
            finish_creation(client, Answer(found.environment, raw), wait, timeout, output)
            return
    emit(output, answer.raw, [(found.yaml or to_yaml(found.blueprint)).rstrip("\n")])


@app.command("discover")
def discover(
    context: typer.Context,
    project: Annotated[
        str,
        typer.Argument(
            metavar="DIRECTORY|URL", help="Directory of a project, or URL of a public repository."
        ),
    ] = ".",
    ref: Annotated[str | None, typer.Option("--ref", help="Branch, tag or commit of the repository.")] = None,
    path: Annotated[
        str | None, typer.Option("--path", help="Directory or file of the repository to look at.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the environment.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind", help="What to make it from: compose, kubernetes or dockerfile; else the first there is."
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="SERVICE=REF", help="Image of a service. May be repeated."),
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option(
            "--var", metavar="NAME=VALUE", help="Value of a ${NAME} in a Compose file. May be repeated."
        ),
    ] = None,
    compose_profile: Annotated[
        list[str] | None,
        typer.Option("--compose-profile", help="Compose profile that is switched on. May be repeated."),
    ] = None,
    env_files: Annotated[
        bool, typer.Option("--env-files", help="Send .env files too: their values may go into the Blueprint.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a Blueprint from what a project has: Compose, Kubernetes manifests or Dockerfiles.

    It is printed as YAML; notes, and what could not be carried over, go to standard error. Nothing is built
    and nothing is created. Exits 2 when the Blueprint has errors still.
    """
    from cli import views
    from cli.project import read_project
    from cli.text import plain

    body: dict[str, JsonValue] = {
        "name": name,
        "kind": kind,
        "images": {**assignments("--image", image, "SERVICE=REF")},
        "variables": {**assignments("--var", variable)},
        "profiles": list(compose_profile or []),
    }
    if "://" in project:
        repository: dict[str, JsonValue] = {"url": project}
        repository |= {key: value for key, value in (("ref", ref), ("path", path)) if value is not None}
        body["repository"] = repository
    else:
        if ref is not None or path is not None:
            raise UsageFault("--ref and --path are for repositories: name a directory itself.")
        found = read_project(Path(project), env_files=env_files)
        tell(*(plain(line) for line in found.skipped))
        body["files"] = [{"path": each, "content": text} for each, text in found.texts.items()]
        body["project"] = Path(project).resolve().name
    with session_of(context).client() as client:
        answer = client.discover(body)
    discovery = answer.value
    tell(*views.discovery_remarks(discovery))
    text = discovery.yaml or ""
    emit(output, answer.raw, [text.rstrip("\n")] if text else [])
    if discovery.errors:
        raise typer.Exit(ExitCode.USAGE)


def _env_files(given: list[str]) -> "dict[str, JsonValue]":
    files: dict[str, JsonValue] = {}
    for item in given:
        name, separator, path = item.partition("=")
        files[name] = read_text(Path(path if separator else name))
    return files
