"""What every command shares: the connection chosen by the global options, and the client over it."""

# ruff: noqa: PLC0415 - HTTP and models are loaded by commands that need them, not by --help
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import typer

from cli.errors import UsageFault
from cli.settings import Connection, resolve

if TYPE_CHECKING:
    from cli.client import ApiClient


@dataclass
class Session:
    """One run of `perdure`. `options`: by variable name, what the global options say."""

    options: dict[str, str | None] = field(default_factory=dict)
    profile: str | None = None
    verbose: bool = False

    @cached_property
    def connection(self) -> Connection:
        """Which API, as whom. Raises UsageFault."""
        connection = resolve(self.options, profile=self.profile)
        self.trace(f"API {connection.url} ({'; '.join(connection.origins)})")
        return connection

    def client(self) -> "ApiClient":
        """Return a client to be used as a context manager."""
        from cli.client import ApiClient

        return ApiClient(self.connection, trace=self.trace)

    def trace(self, line: str) -> None:
        """Print a line to stderr when `-v` was given."""
        if self.verbose:
            typer.echo(line, err=True)


def session_of(context: typer.Context) -> Session:
    """Return the session that the root command made."""
    session = context.find_object(Session)
    if session is None:
        raise UsageFault("This command has to be called through `perdure`.")
    return session
