"""Entry point of `perdure admin`: the commands, and how their errors become exit codes."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from admin import organization_commands, orphan_commands
from admin.errors import AdminError, NotUsable
from cli.errors import CliError, ExitCode, UsageFault
from cli.output import tell, tell_error

PASSPHRASE = "PERDURE_BACKUP_PASSPHRASE"  # noqa: S105 - the name of the variable
COMPLETE = "_PERDURE_ADMIN_COMPLETE"
"""Set by `perdure`, when a shell asks it what comes next."""
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
        except AdminError as error:
            tell_error(error.message, error.details, error.hints)
            code = ExitCode.USAGE if isinstance(error, NotUsable) else ExitCode.FAILED
            raise typer.Exit(code) from error
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
    """Keep the group a group, and for its owner alone what a command writes: keys, secrets, a database."""
    os.umask(0o077)


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help=f"First line: the passphrase of the sealed master keys. [{PASSPHRASE}]",
    ),
]


@app.command()
def backup(file: FileArgument, passphrase_file: PassphraseOption = None) -> None:
    """Write all that the database holds into one new file, while everything runs.

    The secrets in it are encrypted. The master keys that open them are left out, unless there is a passphrase
    to seal them with.
    """
    from admin.backup import BackedUp, back_up
    from admin.opened import open_database, read_master_keys, read_passphrase, read_settings, run

    settings = read_settings()
    passphrase = read_passphrase(settings, passphrase_file)
    sealing = None if passphrase is None else (read_master_keys(settings), passphrase)

    async def work() -> BackedUp:
        async with open_database(settings) as database:
            return await back_up(database, file, sealing=sealing)

    found = run(work)
    head = found.head
    tell(
        f"{file}: {sum(found.rows.values())} rows of {len(found.rows)} tables, {file.stat().st_size} bytes, "
        f"schema {head.schema_revision}, installation {head.installation}."
    )
    needed = ", ".join(head.master_keys) or "none"
    if head.sealed_keys is None:
        tell(f"The master keys are not in it. To restore it you need those with the ids: {needed}.")
    else:
        sealed = ", ".join(sealing[0].keys) if sealing else ""
        tell(f"The master keys ({sealed}) are in it, sealed with the passphrase. It needs: {needed}.")


@app.command()
def restore(
    file: FileArgument,
    passphrase_file: PassphraseOption = None,
    keys_to: Annotated[
        Path | None,
        typer.Option(
            "--keys-to",
            metavar="FILE",
            help="Write the master keys that are sealed in the backup to this new file, "
            "for PERDURE_MASTER_KEYS_FILE.",
        ),
    ] = None,
) -> None:
    """Restore a backup into an empty database, all or nothing. Stop API and workers before.

    The master keys have to be configured, or be sealed in the backup. Then start API and workers: the
    reconciler starts or ends the operations that were under way. docs/admin.md says what to look at.
    """
    from admin.backup_file import read_head
    from admin.opened import kept_keys, read_keys_to_restore, read_passphrase, read_settings, run
    from admin.restore import restore as restore_file

    if passphrase_file is not None and keys_to is None:
        raise UsageFault(
            "--passphrase-file opens the keys in the backup: say with --keys-to where to put them."
        )
    settings = read_settings()
    head = read_head(file)
    keys = read_keys_to_restore(settings, head, read_passphrase(settings, passphrase_file), keys_to)
    # Before the database: killed in between, the restore can be made again, and the keys are there.
    with kept_keys(keys_to, keys):
        found = run(lambda: restore_file(settings.database_url, file, keys))
    tell(
        f"Restored the state of {head.taken_at:%Y-%m-%d %H:%M:%S} UTC: {sum(found.rows.values())} rows, "
        f"{found.environments} environments, installation {head.installation}.",
        f"{found.not_begun} operations had not begun and are started by the next control worker; of "
        f"{found.under_way} that were under way, those that Temporal does not know are ended as failed.",
        "What happened since is not known: API keys and share links that were revoked since are good again "
        "(`perdure api-key list`), namespaces made since are orphans (`perdure admin orphans`).",
    )
    if keys_to is not None:
        tell(f"The master keys are in {keys_to}: set PERDURE_MASTER_KEYS_FILE.")


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


app.command("orphans")(orphan_commands.orphans)
app.command("adopt")(orphan_commands.adopt)
app.command("purge")(orphan_commands.purge)
app.add_typer(organization_commands.app, name="org", help="Organisations: make them, list them, cap them.")


def main() -> None:
    """Run with the process's arguments; ends the process."""
    if os.environ.get(COMPLETE):
        from cli.completion import enable

        enable()
    try:
        app(prog_name="perdure admin", complete_var=COMPLETE)
    except Exception as error:
        if os.environ.get("PERDURE_TRACEBACK"):
            raise
        tell(
            f"Error: perdure admin itself failed: {type(error).__name__}: {error}",
            "Set PERDURE_TRACEBACK=1 for where; please report it.",
        )
        sys.exit(ExitCode.FAILED)
