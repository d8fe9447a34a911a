"""`perdure doctor`: what works, what does not, and how to mend it."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from typing import TYPE_CHECKING

import typer

from cli.errors import ExitCode
from cli.options import OutputOption
from cli.output import OutputFormat, emit
from cli.session import session_of
from cli.text import plain

if TYPE_CHECKING:
    from pydantic import JsonValue

    from cli.models import Check


def doctor(context: typer.Context, output: OutputOption = OutputFormat.TABLE) -> None:
    """Check the installation: API, key, database, master keys, Temporal, clusters, object store, clocks.

    One line for each check, with how to mend it. Exit code 1 when one fails. Most of it takes an
    administrator's key.
    """
    from cli.doctor import examine
    from cli.main import version

    found = []
    for check in examine(session_of(context), version()):
        found.append(check)
        if output is OutputFormat.TABLE:
            emit(output, None, _lines(check))
    failed = sum(check.status == "fail" for check in found)
    warned = sum(check.status == "warn" for check in found)
    raw: JsonValue = {"ok": not failed, "checks": [check.model_dump(exclude_none=True) for check in found]}
    emit(output, raw, ["", f"{len(found)} checks, {failed} failed, {warned} with a warning."])
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def _lines(check: "Check") -> list[str]:
    lines = [f"{check.status.ljust(4)}  {plain(check.name)}: {plain(check.message)}"]
    if check.remedy and check.status != "ok":
        lines.append(f"      {plain(check.remedy)}")
    return lines
