"""`perdure admin`: another program, with the database instead of the API; nothing of it is imported."""

import os
import sys
from typing import Annotated

import typer

from cli.errors import CliError
from cli.output import tell


def admin(
    context: typer.Context,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="COMMAND...")] = None,
) -> None:
    """Administer an installation, with its database: backup, restore, keys, orphans."""
    # -P: no folder that happens to be called `admin` where this is run takes its place.
    command = [sys.executable, "-P", "-m", "admin", *(arguments or []), *context.args]
    tell()
    try:
        os.execv(sys.executable, command)  # noqa: S606 - our own program, and no shell
    except OSError as error:
        raise CliError(f"`python -m admin` cannot be started: {error.strerror}.") from error
