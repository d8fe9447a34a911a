"""Environments by name or id, snapshots by id or as the newest of an environment."""

import re
from typing import Final

from cli.client import ApiClient
from cli.errors import CliError, ExitCode
from cli.models import Environment

_ENVIRONMENT_ID: Final = re.compile(r"env_[0-9A-Za-z]{26}")


def environment_id(client: ApiClient, name_or_id: str, *, living: bool = False) -> str:
    """Return the id of the environment of that name; an id is returned as it is (names hold no underscore).

    Of several environments of one name, the one that is not deleted is meant; `living`: no other. Raises
    CliError (exit code 6).
    """
    if _ENVIRONMENT_ID.fullmatch(name_or_id):
        return name_or_id
    found = client.environments(name=name_or_id).value
    alive = [item for item in found if item.status != "deleted"]
    chosen = _newest(alive if living else alive or found)
    if chosen is None:
        raise CliError(
            f"There is no environment named {name_or_id!r}.",
            exit_code=ExitCode.NOT_FOUND,
            hints=["`perdure env list` shows those that there are."],
        )
    return chosen.id


def snapshot_id(client: ApiClient, given: str) -> str:
    """Return the id of a snapshot; of `latest:NAME`, of that environment's newest that is available.

    Raises CliError (exit code 6).
    """
    latest, _, environment = given.partition(":")
    if latest != "latest" or not environment:
        return given
    found = client.snapshots(environment_id(client, environment), state="available", limit=1).value
    if not found:
        raise CliError(
            f"There is no snapshot of {environment!r} that is available.",
            exit_code=ExitCode.NOT_FOUND,
            hints=["`perdure snapshot list` shows those that there are."],
        )
    return found[0].id


def _newest(found: list[Environment]) -> Environment | None:
    # Ids sort by the time they were made.
    return max(found, key=lambda item: item.id, default=None)
