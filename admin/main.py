"""Entry point of `perdure admin`: the commands, and how their errors become exit codes."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from cli.errors import CliError, ExitCode
from cli.output import tell, tell_error

HELP = """Administer an installation, with its database: for whoever runs it. Procedures: docs/admin.md.

Takes the settings of the API: PERDURE_DATABASE_URL, PERDURE_MASTER_KEYS and so on, and no API key."""


class AdminGroup(TyperGroup):
    """The root command: whatever goes wrong below it ends in a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn its errors into exit codes."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            tell_error(error.message, error.details, error.hints)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            tell("Interrupted. What was not finished has changed nothing, or goes on when it is run again.")
            raise typer.Exit(ExitCode.INTERRUPTED) from error


app = typer.Typer(
    name="perdure admin",
    cls=AdminGroup,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def root() -> None:
    """Keep the group a group, however many commands it has."""


@app.command("rotate-keys")
def rotate_keys() -> None:
    """Wrap every data key by the current master key, the first of PERDURE_MASTER_KEYS.

    The old keys have to be listed behind it, here and at every API and control worker, until this says that
    nothing is left under them. Can be killed and run again.
    """
    from admin.opened import open_database, read_master_keys, read_settings, run
    from admin.rotation import Rotated, rotate

    settings = read_settings()
    keys = read_master_keys(settings)

    async def work() -> Rotated:
        async with open_database(settings) as database:
            return await rotate(database, keys, lambda name, count: tell(f"{name}: {count} data keys"))

    found = run(work)
    tell(f"{found.rewrapped} data keys are now under {found.current_id!r}.")
    for organization, reason in found.closed.items():
        tell(f"{organization}: {reason}.")
    for key, count in found.left.items():
        tell(f"{count} data keys are still under {key!r}: keep that key.")
    for links in found.links:
        tell(
            f"{links.count} share links were signed with {links.key_id!r} and stop working without it. "
            f"The last expires {links.last_expires_at:%Y-%m-%d %H:%M} UTC."
        )
    if not found.complete:
        raise typer.Exit(ExitCode.FAILED)
    tell("Done: no data key needs another master key.")


def main() -> None:
    """Run with the process's arguments; ends the process."""
    try:
        app(prog_name="perdure admin")
    except Exception as error:
        if os.environ.get("PERDURE_TRACEBACK"):
            raise
        tell(
            f"Error: perdure admin itself failed: {type(error).__name__}: {error}",
            "Set PERDURE_TRACEBACK=1 for where; please report it.",
        )
        sys.exit(ExitCode.FAILED)
