"""What `perdure doctor` checks from here: settings, the way to the API, key, clock; the API does the rest."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from cli.client import ApiClient
from cli.errors import ApiUnreachable, CliError
from cli.models import Check, Checks
from cli.problems import ApiError
from cli.session import Session

CLOCKS_APART: Final = timedelta(seconds=30)
"""How far this machine's clock may be off: only ages and expiry times are told by it."""


def examine(session: Session, own_version: str) -> Iterator[Check]:
    """Yield every finding as soon as there is one; without a way to the API it is the last."""
    try:
        client = session.client()
    except CliError as error:
        remedy = " ".join(error.hints) or "Set PERDURE_URL and PERDURE_API_KEY, or write a profile."
        yield _fail("settings", " ".join((error.message, *error.details)), remedy)
        return
    yield _ok("settings", f"{session.connection.url} ({'; '.join(session.connection.origins)})")
    with client:
        try:
            version = client.live().value.version
        except CliError as error:
            yield _fail("api", error.message, " ".join(error.hints) or "Look at the API's log.")
            return
        yield _version(version, own_version)
        yield from _with_key(client)


def _with_key(client: ApiClient) -> Iterator[Check]:
    began = datetime.now(UTC)
    try:
        found = client.checks().value
    except ApiUnreachable as error:
        yield _fail("key", error.message, " ".join(error.hints))
    except ApiError as error:
        yield from _without_checks(client, error)
    else:
        yield _ok("key", f"good, role {found.role}")
        yield from _clock(found, began)
        yield from found.checks


def _without_checks(client: ApiClient, error: ApiError) -> Iterator[Check]:
    """Say what the refusal means for the key, and what everybody may see."""
    match error.status:
        case 401:
            yield _fail("key", error.message, " ".join(error.hints))
            return
        case 403 if error.code == "policy_denied":
            yield _warn("key", f"good; {error.message}", "Use an administrator's key to see all checks.")
        case 404:
            remedy = "Upgrade the API, or check the URL."
            yield _warn("key", "this API has no checks, or not for this organisation", remedy)
        case _:
            yield _fail("key", error.message, " ".join(error.hints) or "Look at the API's log.")
    try:
        parts = client.health().value.parts
    except CliError as unwell:
        yield _fail("health", unwell.message, "Look at the API's log.")
        return
    for name, part in parts.items():
        if part.status == "up":
            yield _ok(name, "answers")
        else:
            yield _fail(name, part.reason or part.status, "Ask an administrator to run `perdure doctor`.")


def _version(version: str, own: str) -> Check:
    if version != own:
        remedy = "Use the command line of the API's version; others mostly work."
        return _warn("api", f"answers, version {version}; this command line is {own}", remedy)
    return _ok("api", f"answers, version {version}")


def _clock(found: Checks, began: datetime) -> Iterator[Check]:
    if found.observed_at is None:
        return
    ended = datetime.now(UTC)
    apart = max(began - found.observed_at, found.observed_at - ended)
    if apart > CLOCKS_APART:
        message = f"this machine's clock and the API's are {apart.total_seconds():.0f} s apart"
        yield _warn("clock", message, "Let both machines follow the same time servers (NTP).")
    else:
        yield _ok("clock", "this machine's clock is like the API's")


def _ok(name: str, message: str) -> Check:
    return Check(name=name, status="ok", message=message)


def _warn(name: str, message: str, remedy: str) -> Check:
    return Check(name=name, status="warn", message=message, remedy=remedy or None)


def _fail(name: str, message: str, remedy: str) -> Check:
    return Check(name=name, status="fail", message=message, remedy=remedy or None)
