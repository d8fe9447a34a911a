"""`perdure stub generate`: a stand-in for a service, from its OpenAPI document or from recorded requests."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import UsageFault
from cli.files import read_text
from cli.options import OutputOption
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from cli.models_readings import Stub

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class Mode(StrEnum):
    """How the stub stands in."""

    REPLACE = "replace"
    SIDECAR = "sidecar"
    MIRROR = "mirror"


@app.callback()
def stub() -> None:
    """Stand-ins for services."""


@app.command("generate")
def generate(
    context: typer.Context,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Name of the service.")],
    openapi: Annotated[
        Path | None,
        typer.Option("--openapi", metavar="FILE", help="OpenAPI 3.0 or 3.1; - reads standard input."),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            metavar="FILE",
            help="Recorded requests: a list of {method, path, status, headers, body} in YAML or JSON.",
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where the stub listens.")] = 8080,
    mode: Annotated[Mode, typer.Option("--mode", help="How it stands in.")] = Mode.REPLACE,
    image: Annotated[str | None, typer.Option("--image", help="Image of the stub server.")] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="DIR", help="Write SERVICE.yaml and the stub's own files here; made if missing."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a stub and print the service for a Blueprint as YAML, or write it with its files to --dir.

    What of the input the stub does not do is listed on standard error, each with its place.
    """
    from cli.views_readings import not_in_stub

    if (openapi is None) == (examples is None):
        raise UsageFault("Give either --openapi or --examples.")
    body: dict[str, JsonValue] = {"service": service, "port": port, "mode": mode.value, "image": image}
    if openapi is not None:
        body["openapi"] = read_text(openapi)
    if examples is not None:
        body["examples"] = _examples(examples)
    with session_of(context).client() as client:
        answer = client.generate_stub(body)
    tell(*not_in_stub(answer.value))
    if directory is not None:
        for path in _write(answer.value, service, directory, force=force):
            tell(f"Wrote {path}.")
        if output is OutputFormat.TABLE:
            return
    emit(output, answer.raw, [answer.value.yaml.rstrip("\n")])


def _examples(path: Path) -> "list[JsonValue]":
    import yaml

    try:
        found = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UsageFault(f"{path} is neither YAML nor JSON: {error}") from error
    if not isinstance(found, list):
        raise UsageFault(f"{path} is not a list of examples.")
    return found


def _write(stub: "Stub", service: str, directory: Path, *, force: bool) -> list[Path]:
    """Write the service and the mock's files; nothing when one of them is there already, unless `force`."""
    texts = {f"{service}.yaml": stub.yaml}
    files = stub.mock.get("files")
    if isinstance(files, dict):
        texts |= {name: text for name, text in files.items() if isinstance(text, str)}
    paths = {directory / Path(name).name: text for name, text in texts.items()}
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise UsageFault(f"There is already {', '.join(there)}.", hints=["--force writes over it."])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageFault(f"{directory} cannot be written: {error.strerror}.") from error
    return list(paths)
