"""`perdure admin`: another program, with the database instead of the API; nothing of it is imported."""

# ruff: noqa: PLC0415 - loaded on a Tab only
import os
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from cli.errors import CliError
from cli.output import tell

# -P: no folder that happens to be called `admin` where this is run takes its place.
_PROGRAM: Final = (sys.executable, "-P", "-m", "admin")
_COMPLETE_SECONDS: Final = 5.0
"""For its start; it asks nobody."""


class AdminCommand(TyperCommand):
    """What comes after `perdure admin` is the other program's, and so are the names of it that a Tab gets."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return what the other program offers for a word, an option of its own for one."""
        from typer._click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in complete(ctx, incomplete)]


def complete(ctx: Any, incomplete: str) -> list[str]:
    """Return the other program's commands and options that begin so, in the place where the word stands."""
    import shlex
    import subprocess

    words = ["perdure", *(ctx.params.get("arguments") or ()), *ctx.args, incomplete]
    asked = {
        "_PERDURE_ADMIN_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own program, and no shell
            _PROGRAM,
            env={**os.environ, **asked},
            capture_output=True,
            text=True,
            timeout=_COMPLETE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split()


def admin(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND...", autocompletion=complete)
    ] = None,
) -> None:
    """Administer an installation, with its database: backup, restore, keys, orphans, organisations."""
    command = [*_PROGRAM, *(arguments or []), *context.args]
    tell()
    try:
        os.execv(sys.executable, command)  # noqa: S606 - our own program, and no shell
    except OSError as error:
        raise CliError(f"`python -m admin` cannot be started: {error.strerror}.") from error
