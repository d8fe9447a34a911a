"""Entry point of `perdure`: global options, the commands, and how errors become exit codes."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli.commands import (
    access_keys,
    admin,
    blueprints,
    doctor,
    environments,
    lifecycle,
    operations,
    readings,
    registry,
    replays,
    seeds,
    shares,
    snapshots,
    stubs,
    templates,
)
from cli.completion import VARIABLE, Shell, enable, script
from cli.errors import CliError, ExitCode
from cli.output import tell, tell_error
from cli.session import Session
from cli.settings import API_KEY, ORGANIZATION, URL

EPILOG = """\
Exit codes: 0 done, 1 failed, 2 wrong usage or invalid input, 5 --timeout passed while waiting, 6 not found, \
7 refused by a policy, a role or `protected`, 130 interrupted."""


class RootGroup(TyperGroup):
    """The root command: whatever goes wrong below it ends in a sentence and an exit code, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn its errors into exit codes."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            tell_error(error.message, error.details, error.hints)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            tell("Interrupted. If a change had been sent, `perdure op list` shows whether it was accepted.")
            raise typer.Exit(ExitCode.INTERRUPTED) from error


app = typer.Typer(
    name="perdure",
    cls=RootGroup,
    help="Environments on Kubernetes from Blueprints; every change is an operation that survives crashes.",
    epilog=EPILOG,
    no_args_is_help=True,
    # Rich help costs 0.4 s of start-up.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    # `completion` prints the script; nothing is to be written into people's start-up files.
    add_completion=False,
)
environments.app.add_typer(lifecycle.app)
readings.add_to(environments.app)
environments.app.command("replays")(replays.replays)
environments.app.command("share")(shares.share)
environments.app.command("shares")(shares.shares)
environments.app.command("unshare")(shares.unshare)
app.add_typer(environments.app, name="env", help="Make, look at, change, share and delete environments.")
app.add_typer(blueprints.app, name="blueprint", help="Check Blueprints; make them from what a project has.")
app.add_typer(templates.app, name="template", help="Blueprints with parameters: keep them, use them.")
app.add_typer(
    seeds.app, name="seed", help="Put data into environments, once: packages and seeds of one's own."
)
app.add_typer(snapshots.app, name="snapshot", help="Keep environments with their data, and restore them.")
app.command("replay")(replays.replay)
app.add_typer(operations.app, name="op", help="Look at operations, watch them, cancel them.")
app.command("stats")(readings.stats)
app.add_typer(stubs.app, name="stub", help="Stand-ins for services, from OpenAPI or recorded requests.")
app.add_typer(access_keys.principals, name="principal", help="Whose keys act: people and programs.")
app.add_typer(access_keys.api_keys, name="api-key", help="Keys: make, list, revoke.")
app.add_typer(access_keys.secrets, name="secret", help="Secrets for `valueFrom` in Blueprints.")
app.add_typer(access_keys.audit, name="audit", help="Who did what.")
app.command("doctor")(doctor.doctor)
app.command(
    "admin",
    cls=admin.AdminCommand,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
)(admin.admin)
app.add_typer(registry.app, name="registry", help="Logins for container registries (imagePullSecrets).")


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell: `source <(perdure completion bash)`."""
    typer.echo(script(shell))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"perdure {version()}")
        raise typer.Exit()


def version() -> str:
    """Return the installed version; in a checkout that is not installed, `development`."""
    # Reading what is installed takes longer than all the rest of --help.
    from importlib import metadata  # noqa: PLC0415

    try:
        return metadata.version("perdure")
    except metadata.PackageNotFoundError:
        return "development"


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[str | None, typer.Option("--url", help=f"Address of the API. [{URL}]")] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", help=f"API key; others on this machine can see it here. [{API_KEY}]"),
    ] = None,
    organization: Annotated[
        str | None,
        typer.Option(
            "--organization", help=f"Id of the organisation, if the key has several. [{ORGANIZATION}]"
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Profile of ~/.config/perdure/config.toml. [PERDURE_PROFILE]"),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say which API is used and why, and show each request.")
    ] = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the global options. Without any, a checkout's own development API (`make dev-up`) is used."""
    context.obj = Session(
        options={URL: url, API_KEY: api_key, ORGANIZATION: organization}, profile=profile, verbose=verbose
    )


def main() -> None:
    """Run `perdure` with the process's arguments; ends the process."""
    if os.environ.get(VARIABLE):
        enable()
    try:
        app(prog_name="perdure")
    except Exception as error:
        if os.environ.get("PERDURE_TRACEBACK"):
            raise
        tell(
            f"Error: perdure itself failed: {type(error).__name__}: {error}",
            "Set PERDURE_TRACEBACK=1 for where; please report it.",
        )
        sys.exit(ExitCode.FAILED)
