"""`perdure registry`: logins for container registries, used by `imagePullSecrets`."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
import sys
from typing import Annotated

import typer

from cli.errors import UsageFault
from cli.options import OutputOption, SearchOption, sort_option
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name under which Blueprints refer to it.")]


@app.command("add")
def add(
    context: typer.Context,
    name: NameArgument,
    registry: Annotated[
        str, typer.Option("--registry", metavar="HOST[:PORT]", help="Where it is, e.g. registry.example.com.")
    ],
    username: Annotated[str, typer.Option("--username", "-u", help="User name at the registry.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input without asking.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Store a login for a container registry. The password is asked for or piped in, never an argument."""
    from cli import views

    password = secret_from_stdin("password", ask=not password_stdin)
    with session_of(context).client() as client:
        answer = client.add_registry_credential(
            name=name, registry=registry, username=username, password=password
        )
    emit(output, answer.raw, views.registry_list([answer.value]))


@app.command("list")
def list_credentials(
    context: typer.Context,
    registry: Annotated[
        str | None, typer.Option("--registry", metavar="HOST", help="Only those for this registry.")
    ] = None,
    search: SearchOption = None,
    sort: Annotated[str | None, sort_option("name or updatedAt", "name")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the logins, without passwords."""
    from cli import views

    with session_of(context).client() as client:
        answer = client.registry_credentials({"registry": registry, "q": search, "sort": sort})
    emit(output, answer.raw, views.registry_list(answer.value))


@app.command("get")
def get(context: typer.Context, name: NameArgument, output: OutputOption = OutputFormat.TABLE) -> None:
    """Show one login, without its password."""
    from cli import views

    with session_of(context).client() as client:
        answer = client.registry_credential(name)
    emit(output, answer.raw, views.registry_list([answer.value]))


@app.command("replace")
def replace(
    context: typer.Context,
    name: NameArgument,
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="HOST[:PORT]", help="Another host; the same if absent."),
    ] = None,
    username: Annotated[
        str | None, typer.Option("--username", "-u", help="Another user name; the same if absent.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input without asking.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Give a login another password. Environments take it up with their next restart, update or retry."""
    from cli import views

    password = secret_from_stdin("password", ask=not password_stdin)
    with session_of(context).client() as client:
        known = client.registry_credential(name).value
        answer = client.replace_registry_credential(
            name,
            registry=registry or known.registry,
            username=username or known.username,
            password=password,
        )
    emit(output, answer.raw, views.registry_list([answer.value]))


@app.command("remove")
def remove(context: typer.Context, name: NameArgument) -> None:
    """Remove a login; refused while an environment's Blueprint names it."""
    with session_of(context).client() as client:
        client.remove_registry_credential(name)
    tell(f"Registry credential {name} removed.")


def secret_from_stdin(what: str, *, ask: bool) -> str:
    """Return a secret from a prompt without echo, or the piped standard input without its line end."""
    if ask and sys.stdin.isatty():
        secret: str = typer.prompt(what.capitalize(), hide_input=True, err=True)
    else:
        secret = sys.stdin.read().rstrip("\r\n")
    if not secret:
        raise UsageFault(
            f"There is no {what}.",
            hints=[f"Type it at the prompt, or pipe it in: `... --{what}-stdin < file`."],
        )
    return secret
