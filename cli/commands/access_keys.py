"""`perdure principal|api-key|secret|audit`: who may act, what is kept for Blueprints, and who did what."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.registry import secret_from_stdin
from cli.options import (
    OutputOption,
    SearchOption,
    SinceOption,
    moment_before,
    parse_duration,
    several,
    several_option,
    sort_option,
)
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue

api_keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
principals = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
secrets = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
audit = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@principals.command("list")
def list_principals(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option("--kind", help="Only those: service or person.")] = None,
    search: SearchOption = None,
    sort: Annotated[str | None, sort_option("createdAt or name", "createdAt")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the people and programs that keys can belong to."""
    from cli import views_readings

    with session_of(context).client() as client:
        answer = client.principals({"kind": kind, "q": search, "sort": sort})
    emit(output, answer.raw, views_readings.principals(answer.value))


@principals.command("create")
def create_principal(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    kind: Annotated[str, typer.Option("--kind", help="service (a program) or person.")] = "service",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a principal; `perdure api-key create --principal` then gives it a key."""
    from cli import views_readings

    with session_of(context).client() as client:
        answer = client.create_principal({"name": name, "kind": kind})
    emit(output, answer.raw, views_readings.principals([answer.value]))


@api_keys.command("create")
def create_key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    role: Annotated[
        str, typer.Option("--role", help="viewer, developer, admin or owner; at most your own.")
    ] = "developer",
    principal: Annotated[
        str | None, typer.Option("--principal", help="Whose it is (prn_...); your own if absent.")
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option("--expires", metavar="DURATION", parser=parse_duration, help="How long it is good."),
    ] = None,
    unlimited: Annotated[
        bool, typer.Option("--unlimited", help="Exempt from the rate limit; only an owner gives that.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a key. Its token is printed once, alone on a line."""
    end = None if expires is None else (datetime.now(UTC) + timedelta(seconds=expires)).isoformat()
    with session_of(context).client() as client:
        wanted = {
            "name": name,
            "role": role,
            "principalId": principal,
            "unlimited": unlimited or None,
            "expiresAt": end,
        }
        answer = client.create_api_key(wanted)
    tell(f"Key {answer.value.id}: the token is not shown again.")
    emit(output, answer.raw, [answer.value.token or ""])


@api_keys.command("list")
def list_keys(
    context: typer.Context,
    state: Annotated[list[str] | None, several_option("--state", "good, expired, revoked")] = None,
    role: Annotated[list[str] | None, several_option("--role", "viewer, developer, admin, owner")] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Only those of this one (prn_...).")
    ] = None,
    search: SearchOption = None,
    sort: Annotated[str | None, sort_option("createdAt or name", "-createdAt")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List all keys, revoked ones too, without tokens."""
    from cli import views

    wanted: dict[str, JsonValue] = {
        "state": several(state),
        "role": several(role),
        "principal": principal,
        "q": search,
        "sort": sort,
    }
    with session_of(context).client() as client:
        answer = client.api_keys(wanted)
    emit(output, answer.raw, views.api_keys(answer.value))


@api_keys.command("revoke")
def revoke_key(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of the key (key_...).")],
) -> None:
    """Make a key useless. To rotate: create another one, put it in place, then revoke the old one."""
    with session_of(context).client() as client:
        client.revoke_api_key(key)
    tell(f"Key {key} revoked.")


SecretName = Annotated[str, typer.Argument(metavar="NAME", help="What `valueFrom: {secret: NAME}` names.")]


@secrets.command("set")
def set_secret(
    context: typer.Context,
    name: SecretName,
    value_stdin: Annotated[
        bool, typer.Option("--value-stdin", help="Read the value from standard input without asking.")
    ] = False,
) -> None:
    """Store a secret for Blueprints. The value is asked for or piped in, never an argument."""
    value = secret_from_stdin("value", ask=not value_stdin)
    with session_of(context).client() as client:
        client.put_secret(name, value)
    tell(f"Secret {name} stored.")


@secrets.command("list")
def list_secrets(
    context: typer.Context,
    search: SearchOption = None,
    sort: Annotated[str | None, sort_option("name or updatedAt", "name")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the secrets, without values."""
    from cli import views

    with session_of(context).client() as client:
        answer = client.secrets({"q": search, "sort": sort})
    emit(output, answer.raw, views.secret_list(answer.value))


@secrets.command("delete")
def delete_secret(context: typer.Context, name: SecretName) -> None:
    """Destroy a secret; refused while an environment's Blueprint refers to it."""
    with session_of(context).client() as client:
        client.delete_secret(name)
    tell(f"Secret {name} destroyed.")


@audit.command("list")
def list_audit(
    context: typer.Context,
    subject: Annotated[str | None, typer.Option("--subject", help="Only what was done to this id.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this, as environment.update.")] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Only what this one did (prn_..., operator).")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Only what was done with this API key (key_...).")
    ] = None,
    since: SinceOption = None,
    until: Annotated[
        float | None,
        typer.Option("--until", metavar="DURATION", parser=parse_duration, help="Older than this, e.g. 30m."),
    ] = None,
    sort: Annotated[str | None, sort_option("at", "-at")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many entries.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List who did what, newest first unless `--sort` says otherwise."""
    from cli import views

    with session_of(context).client() as client:
        wanted = {
            "subject": subject,
            "action": action,
            "principal": principal,
            "key": key,
            "since": moment_before(since),
            "until": moment_before(until),
            "sort": sort,
        }
        answer = client.audit(wanted, limit=limit)
    emit(output, answer.raw, views.audit_list(answer.value))
