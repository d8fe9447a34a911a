"""Changing an environment's settings: no operation, no workflow, one transaction."""

from dataclasses import dataclass
from typing import TypedDict, cast

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import standing
from activities.db.errors import NameTaken
from activities.db.records import Actor, EnvironmentRecord, JsonObject, environment_record
from activities.db.repositories import events
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.repositories.environments import find_environment, touch
from activities.db.settings import Changes, set_settings, tell_settings
from activities.db.timers import reschedule
from activities.db.types import utc_now


class Settings(TypedDict, total=False):
    """The settings that a request names, checked; those that it does not name stay as they are."""

    name: str
    description: str
    auto_shutdown_enabled: bool
    auto_shutdown_delay_minutes: int
    auto_shutdown_unmeasured: bool
    ttl_minutes: int | None
    labels: dict[str, str]
    protected: bool


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """An environment as it is now; `changes` is empty when it was so already."""

    environment: EnvironmentRecord
    changes: Changes


async def change_settings(
    session: AsyncSession, actor: Actor, environment_id: str, wanted: Settings
) -> SettingsChanged:
    """Set what `wanted` has set; what is so already is left, and without any change nothing is written.

    A live operation does not mind: it reads none of these. Namespace, objects and workflows keep the names
    that they were made under, whatever the environment is called now.

    Raises NotFound, AlreadyDeleted, Deleting, or NameTaken.
    """
    if "name" in wanted:
        # Under the organisation's lock nobody takes the name between the look and the write.
        await locked_organization(session, actor.organization_id)
    environment = await standing(session, actor, environment_id)
    name = wanted.get("name", environment.name)
    if name != environment.name:
        holder = await find_environment(session, actor.organization_id, name)
        if holder is not None:
            raise NameTaken("environment", name, holder)
    now = utc_now()
    changes = set_settings(environment, cast(JsonObject, wanted), now)
    if not changes:
        return SettingsChanged(environment_record(environment), {})
    reschedule(environment)
    touch(environment, now)
    told = await tell_settings(session, environment, changes, actor.principal_id)
    await add_entry(session, actor, "environment.update_settings", environment.id, told)
    await events.announce(session, environment.id)
    await session.flush()
    return SettingsChanged(environment_record(environment), changes)
