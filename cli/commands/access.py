"""`perdure env exec|port-forward|open|endpoints`: into the services of an environment."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import service_names
from cli.errors import CliError, ExitCode, UsageFault
from cli.options import EnvironmentArgument, OutputOption, ServiceArgument
from cli.output import OutputFormat, emit, tell
from cli.session import Session, session_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cli.models import Endpoint


def add_to(app: typer.Typer) -> None:
    """Add the commands to `perdure env`."""
    app.command("endpoints")(endpoints)
    app.command("exec")(execute)
    app.command("port-forward")(port_forward)
    app.command("open")(open_service)


def endpoints(
    context: typer.Context, environment: EnvironmentArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show how each service is reached, and whether it answers (one GET to each exposed port)."""
    from cli.lookup import environment_id
    from cli.views import endpoint_list

    with session_of(context).client() as client:
        answer = client.endpoints(environment_id(client, environment), check="http")
    emit(output, answer.raw, endpoint_list(answer.value))


def execute(
    context: typer.Context,
    environment: EnvironmentArgument,
    service: ServiceArgument,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="Command and arguments.")],
    stdin: Annotated[bool, typer.Option("--stdin", "-i", help="Hand on standard input.")] = False,
    tty: Annotated[
        bool,
        typer.Option("--tty", "-t", help="With a terminal. By itself when this is one and -i is not given."),
    ] = False,
    pod: Annotated[str | None, typer.Option("--pod", help="This pod of the service.")] = None,
) -> None:
    """Run a command in a container of a service; exits as the command does."""
    from cli.lookup import environment_id
    from cli.sockets import run_command

    session = session_of(context)
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and not stdin
    with session.client() as client:
        path = f"{_services(environment_id(client, environment), service)}/exec"
    code = run_command(
        session.connection,
        path,
        command,
        stdin=stdin or tty or interactive,
        tty=tty or interactive,
        pod=pod,
    )
    raise typer.Exit(code)


def port_forward(
    context: typer.Context,
    environment: EnvironmentArgument,
    service: ServiceArgument,
    ports: Annotated[
        str,
        typer.Argument(
            metavar="[LOCAL:]PORT",
            help="A declared port's number or name; LOCAL is this machine's (default: the same, 0: any).",
        ),
    ],
) -> None:
    """Open a port of this machine that leads to a service's, until interrupted. Any TCP goes through."""
    local, colon, remote = ports.rpartition(":")
    if colon and not (local.isdigit() and int(local) < 65_536):
        raise UsageFault(f"{ports!r} is not [LOCAL:]PORT: LOCAL is a number from 0 to 65535.")
    session = session_of(context)
    identifier, found = _endpoints(session, environment)
    endpoint = _declared(found, service, remote)
    _forward(
        session, identifier, endpoint, int(local) if colon else endpoint.port, ready=_tell_forwarded(endpoint)
    )


def open_service(
    context: typer.Context,
    environment: EnvironmentArgument,
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="[SERVICE]", help="Default: the one that is exposed.", autocompletion=service_names
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Print a service's address and open it in a browser.

    Where the cluster gives it none, a port of this machine leads to it until interrupted.
    """
    session = session_of(context)
    identifier, found = _endpoints(session, environment)
    endpoint = _chosen(found, service)

    def show(url: str) -> None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        if browser:
            _open_browser(url)

    if endpoint.url:
        show(endpoint.url)
        return
    tell("The cluster gives it no address from outside; it is open here until you press Ctrl-C.")
    _forward(session, identifier, endpoint, 0, ready=lambda port: show(f"http://127.0.0.1:{port}/"))


def _endpoints(session: Session, environment: str) -> "tuple[str, Sequence[Endpoint]]":
    from cli.lookup import environment_id

    with session.client() as client:
        identifier = environment_id(client, environment)
        return identifier, client.endpoints(identifier, check="ready").value.endpoints


def _declared(found: "Sequence[Endpoint]", service: str, port: str) -> "Endpoint":
    own = [each for each in found if each.service == service and each.proxy]
    for each in own:
        if port in (str(each.port), each.port_name):
            return each
    declared = ", ".join(str(each.port) for each in own)
    raise CliError(
        f"The environment has no service {service!r} with a TCP port {port!r}.",
        exit_code=ExitCode.NOT_FOUND,
        hints=[f"It declares: {declared}." if declared else "`perdure env endpoints` shows what there is."],
    )


def _chosen(found: "Sequence[Endpoint]", service: str | None) -> "Endpoint":
    """The exposed port of the service, else its first; without a service the one that is exposed."""
    own = [each for each in found if each.proxy and service in (None, each.service)]
    exposed = [each for each in own if each.exposed]
    if service is None and len(exposed) != 1:
        names = ", ".join(each.service for each in exposed) or "none"
        raise UsageFault(f"Name the service: of those that are exposed there is not just one ({names}).")
    chosen = next(iter(exposed or own), None)
    if chosen is None:
        raise CliError(
            f"The environment has no service {service!r} with a TCP port.", exit_code=ExitCode.NOT_FOUND
        )
    return chosen


def _forward(
    session: Session,
    identifier: str,
    endpoint: "Endpoint",
    local_port: int,
    *,
    ready: "Callable[[int], None]",
) -> None:
    from cli.interrupts import run_until_interrupted
    from cli.sockets import forward

    path = f"{_services(identifier, f'{endpoint.service}:{endpoint.port}')}/tunnel"
    run_until_interrupted(forward(session.connection, path, local_port, ready=ready, tell=tell))


def _tell_forwarded(endpoint: "Endpoint") -> "Callable[[int], None]":
    return lambda port: tell(
        f"127.0.0.1:{port} leads to {endpoint.service}:{endpoint.port} until you press Ctrl-C."
    )


def _open_browser(url: str) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(url)
    except webbrowser.Error:
        opened = False
    if not opened:
        tell("There is no browser here to open it in.")


def _services(identifier: str, service: str) -> str:
    from urllib.parse import quote

    return f"/v1/environments/{quote(identifier, safe='')}/services/{quote(service, safe=':')}"
