"""Environments by name or id, snapshots by id or as the newest of an environment."""

import re
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from cli.client import ApiClient
from cli.client.transport import Answer
from cli.errors import CliError, ExitCode
from cli.models import Environment
from cli.models_snapshots import Snapshot

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
        raise _unknown(name_or_id)
    return chosen.id


def snapshot_id(client: ApiClient, given: str) -> str:
    """Return the id of a snapshot; of `latest:NAME`, of the newest that is available of that name.

    Raises CliError (exit code 6).
    """
    latest, _, environment = given.partition(":")
    if latest != "latest" or not environment:
        return given
    found = snapshots_of(client, environment, {"state": "available"}, limit=1).value
    if not found:
        raise CliError(
            f"There is no snapshot of {environment!r} that is available.",
            exit_code=ExitCode.NOT_FOUND,
            hints=["`perdure snapshot list` shows those that there are."],
        )
    return found[0].id


def snapshots_of(
    client: ApiClient, name_or_id: str, wanted: Mapping[str, JsonValue], *, limit: int | None = None
) -> Answer[list[Snapshot]]:
    """Return the snapshots of all environments of that name, the newest first; of an id, of that one.

    Of those that were deleted, too: that is when a snapshot is needed. `wanted`: as the API takes it.
    Raises CliError (exit code 6).
    """
    if _ENVIRONMENT_ID.fullmatch(name_or_id):
        return client.snapshots(name_or_id, wanted, limit=limit)
    living = client.environments(name=name_or_id).value
    gone = client.environments(name=name_or_id, status=["deleted"]).value
    # One that was deleted between the two questions is in both.
    named = dict.fromkeys(each.id for each in (*living, *gone))
    if not named:
        raise _unknown(name_or_id)
    answers = [client.snapshots(each, wanted, limit=limit) for each in named]
    if len(answers) == 1:
        return answers[0]
    found = [
        each
        for answer in answers
        if isinstance(answer.raw, list)
        for each in zip(answer.value, answer.raw, strict=True)
    ]
    sort = str(wanted.get("sort") or "-createdAt")
    by_size = sort.endswith("storedBytes")
    # Ids sort by the time they were made.
    found.sort(
        key=lambda each: (each[0].stored_bytes if by_size else 0, each[0].id), reverse=sort.startswith("-")
    )
    return Answer([each for each, _ in found[:limit]], [raw for _, raw in found[:limit]])


def _unknown(name: str) -> CliError:
    return CliError(
        f"There is no environment named {name!r}.",
        exit_code=ExitCode.NOT_FOUND,
        hints=["`perdure env list` shows those that there are."],
    )


def _newest(found: list[Environment]) -> Environment | None:
    # Ids sort by the time they were made.
    return max(found, key=lambda item: item.id, default=None)
