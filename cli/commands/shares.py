"""`perdure env share|shares|unshare`: links that show an environment to guests."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
import sys
from typing import Annotated

import typer

from cli.errors import UsageFault
from cli.options import (
    EnvironmentArgument,
    OutputOption,
    parse_duration,
    several,
    several_option,
    sort_option,
)
from cli.output import OutputFormat, emit, tell
from cli.session import session_of


def share(
    context: typer.Context,
    environment: EnvironmentArgument,
    pin: Annotated[
        bool, typer.Option("--pin", help="Guests need a PIN too: it is asked for, or read from a pipe.")
    ] = False,
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires",
            metavar="DURATION",
            parser=parse_duration,
            help="How long the link opens, e.g. 24h or 7d. Default: 7 days.",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="For whom or what; shown by `env shares`.")
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Show the images of the services too.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a link that shows status, topology and endpoints to whoever has it.

    The link is printed once and kept nowhere; `env unshare` revokes it.
    """
    from cli import views
    from cli.lookup import environment_id

    secret = _pin() if pin else None
    with session_of(context).client() as client:
        answer = client.create_share(
            environment_id(client, environment),
            {
                "pin": secret,
                "expiresInSeconds": None if expires is None else max(1, round(expires)),
                "label": label,
                "showImages": True if images else None,
            },
        )
    emit(output, answer.raw, views.new_share(answer.value))


def shares(
    context: typer.Context,
    environment: EnvironmentArgument,
    state: Annotated[list[str] | None, several_option("--state", "open, locked, expired, revoked")] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Only with this in the label.")
    ] = None,
    sort: Annotated[str | None, sort_option("createdAt or expiresAt", "-createdAt")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List an environment's share links: whether they open, until when, and how often they were used."""
    from cli import views
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.shares(
            environment_id(client, environment), {"state": several(state), "q": search, "sort": sort}
        )
    emit(output, answer.raw, views.share_list(answer.value))


def unshare(
    context: typer.Context,
    environment: EnvironmentArgument,
    share_id: Annotated[str, typer.Argument(metavar="SHARE", help="Id of the link (shr_...).")],
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Revoke a share link: the next look through it is refused, open pages included."""
    from cli.lookup import environment_id

    with session_of(context).client() as client:
        answer = client.revoke_share(environment_id(client, environment), share_id)
    emit(output, answer.raw, ())
    tell(f"Share link {answer.value.id} revoked.")


def _pin() -> str:
    """Return a PIN from a prompt without echo, or the piped standard input without its line end."""
    if sys.stdin.isatty():
        pin: str = typer.prompt("PIN", hide_input=True, confirmation_prompt=True, err=True)
    else:
        pin = sys.stdin.read().rstrip("\r\n")
    if not pin:
        raise UsageFault("There is no PIN.", hints=["Type it at the prompt, or pipe it in."])
    return pin
