"""Putting off what an environment's timers bring: no operation, one transaction."""

from datetime import timedelta

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import standing
from activities.db.records import Actor, EnvironmentRecord, JsonObject, environment_record
from activities.db.repositories import events
from activities.db.repositories.audit import add_entry
from activities.db.repositories.environments import touch
from activities.db.settings import tell_settings
from activities.db.timers import used
from activities.db.types import utc_now
from workflows.domain.operations import SettingChange


async def extend_environment(
    session: AsyncSession, actor: Actor, environment_id: str, minutes: int
) -> EnvironmentRecord:
    """Put an environment's expiry off by so many minutes, from now when it is past, and count it as used now.

    A live operation does not mind. Raises NotFound, AlreadyDeleted, or Deleting.
    """
    environment = await standing(session, actor, environment_id)
    now = utc_now()
    if (before := environment.expires_at) is not None:
        environment.expires_at = after = max(before, now) + timedelta(minutes=minutes)
        change = SettingChange(before=before.isoformat(), after=after.isoformat())
        await tell_settings(session, environment, {"expires_at": change}, actor.principal_id)
        await events.announce(session, environment.id)
    used(environment, now)
    touch(environment, now)
    data: JsonObject = {"minutes": minutes}
    await add_entry(session, actor, "environment.extend", environment.id, data)
    await session.flush()
    return environment_record(environment)
