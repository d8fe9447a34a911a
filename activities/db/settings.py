"""An environment's settings in its row: what its Blueprint says at first, and what was set since."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

from pydantic import JsonValue
from pydantic.alias_generators import to_camel
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import JsonObject
from activities.db.repositories import events
from activities.db.tables import Environment, EventType
from activities.db.timers import expiry
from workflows.domain.blueprint import Blueprint
from workflows.domain.operations import SettingChange
from workflows.domain.timers import earliest_expiry

OF_BLUEPRINT: Final = (
    "auto_shutdown_delay_minutes",
    "auto_shutdown_enabled",
    "description",
    "labels",
    "protected",
    "ttl_minutes",
)
"""The settings that a Blueprint has, too, by the names that they have in both."""

Changes = dict[str, SettingChange]
"""What settings were and became, by field; those that were so already are not in it."""


def between(before: Blueprint, after: Blueprint) -> dict[str, JsonValue]:
    """Return the settings that a Blueprint has otherwise than the one before it."""
    return {
        field: cast(JsonValue, getattr(after, field))
        for field in OF_BLUEPRINT
        if getattr(before, field) != getattr(after, field)
    }


def set_settings(row: Environment, wanted: Mapping[str, JsonValue], now: datetime) -> Changes:
    """Set what is wanted on a locked row, and return what of it was otherwise.

    An end that would have passed, or be too near to be announced, is put off until it has been.
    """
    changes = {
        field: SettingChange(before=before, after=value)
        for field, value in wanted.items()
        if (before := cast(JsonValue, getattr(row, field))) != value
    }
    for field, change in changes.items():
        setattr(row, field, change.after)
    if "ttl_minutes" in changes:
        row.expires_at = expiry(row.created_at, row.ttl_minutes)
    if row.expires_at is not None and changes.keys() & {"ttl_minutes", "protected"}:
        row.expires_at = max(row.expires_at, earliest_expiry(row.created_at, now))
    return changes


def take_settings_back(row: Environment, changes: Changes, now: datetime) -> Changes:
    """Set settings to what they were before these changes, save those that were set anew since."""
    ours = {field: change.before for field, change in changes.items() if getattr(row, field) == change.after}
    return set_settings(row, ours, now)


async def tell_settings(
    session: AsyncSession, row: Environment, changes: Changes, changed_by: str | None
) -> JsonObject:
    """Append the event of settings that changed, if any did, and return what it tells."""
    told: JsonObject = {
        "changes": {to_camel(field): changes[field].model_dump(mode="json") for field in sorted(changes)}
    }
    if changes:
        await events.append(session, row, None, EventType.SETTINGS, {**told, "changedBy": changed_by})
    return told
