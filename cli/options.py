"""Options that several commands share, spelt once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.completion import environment_names, operation_ids, service_names
from cli.errors import UsageFault
from cli.output import OutputFormat
from cli.text import seconds_of

if TYPE_CHECKING:
    from pydantic import JsonValue


def assignments(option: str, given: Sequence[str] | None, form: str = "NAME=VALUE") -> dict[str, str]:
    """Take apart what an option that may be repeated was given. Raises UsageFault."""
    values: dict[str, str] = {}
    for item in given or ():
        name, separator, value = item.partition("=")
        if not name or not separator:
            # The value is not repeated: it may be a password.
            raise UsageFault(f"{option} {name!r} has to be {form}.")
        values[name] = value
    return values


def parse_duration(text: str) -> float:
    """Read an option's duration in seconds; a fault of usage names the form."""
    try:
        return seconds_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def whole_minutes(option: str, text: str) -> int:
    """Read an option's duration in minutes; a fault of usage says so unless it is a whole number of them."""
    return _whole(option, text, 60, "minutes", "30m, 1d")


def whole_hours(option: str, text: str) -> int:
    """Read an option's duration in hours, as `whole_minutes` does in minutes."""
    return _whole(option, text, 3600, "hours", "12h, 7d")


def _whole(option: str, text: str, seconds: int, units: str, examples: str) -> int:
    count = parse_duration(text) / seconds
    if count < 1 or not count.is_integer():
        raise UsageFault(f"{option} is a whole number of {units}, at least one: {examples}.")
    return int(count)


def moment_before(seconds: float | None) -> str | None:
    """Return the moment so long ago as the API takes it; None for none."""
    return None if seconds is None else (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def sort_option(fields: str, usual: str) -> Any:
    """Return the option for the order of a list; `usual`: the one that it has without."""
    return typer.Option(
        "--sort", metavar="FIELD", help=f"{fields}; with - before it the greatest first. Default: {usual}."
    )


def several_option(name: str, words: str) -> Any:
    """Return the option for a word that may be one of several; it may be repeated."""
    metavar = name.removeprefix("--").upper()
    return typer.Option(name, metavar=metavar, help=f"Only those: {words}; repeatable.")


def several(given: Sequence[str] | None) -> "list[JsonValue] | None":
    """Return what an option that may be repeated was given as the API takes it; None for nothing."""
    return [*given] if given else None


EnvironmentArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|ID", help="Name or id of the environment.", autocompletion=environment_names
    ),
]
OperationArgument = Annotated[
    str,
    typer.Argument(metavar="OPERATION", help="Id of the operation (op_...).", autocompletion=operation_ids),
]
ServiceArgument = Annotated[
    str, typer.Argument(metavar="SERVICE", help="Name of the service.", autocompletion=service_names)
]
"""Of the environment that stands before it, as `environment`."""
BlueprintFile = Annotated[
    Path,
    typer.Option("--file", "-f", metavar="FILE", help="Blueprint in YAML or JSON; - reads standard input."),
]
MaskingOption = Annotated[
    Path | None,
    typer.Option(
        "--masking", metavar="FILE", help="Rules by which values are replaced on the way; - reads stdin."
    ),
]
PlanOption = Annotated[str | None, typer.Option("--plan", help="One of the Blueprint's named plans.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until the operation is over.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        parser=parse_duration,
        help="Wait no longer (45s, 10m, 1h30m), then exit 5; the operation goes on. Default: no limit.",
    ),
]
SinceOption = Annotated[
    float | None,
    typer.Option("--since", metavar="DURATION", parser=parse_duration, help="Not older than this, e.g. 2h."),
]
SearchOption = Annotated[
    str | None, typer.Option("--search", metavar="TEXT", help="Only with this in the name.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]
OutputOption = Annotated[
    OutputFormat,
    typer.Option(
        "--output", "-o", help="Form of the result on standard output; progress goes to standard error."
    ),
]
