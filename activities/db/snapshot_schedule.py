"""What policies bring about: snapshots whose time has come, by the same door as a request."""

import logging
from datetime import datetime, timedelta
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance import Accepted, SnapshotWish, snapshot_environment
from activities.db.errors import Busy, DomainError
from activities.db.records import SWEEPER, Actor
from activities.db.repositories import snapshot_policies
from activities.db.repositories._rows import locked_environment
from activities.db.tables import Role
from activities.secrets import MasterKeys
from workflows.domain.snapshot_policy import BUSY_AGAIN, next_time

_log = logging.getLogger(__name__)
NAME: Final = "scheduled"
"""What such a snapshot is called."""


async def take_due(
    session: AsyncSession, environment_id: str, now: datetime, *, keys: MasterKeys
) -> Accepted | None:
    """Take the snapshot of an environment whose policy is due; None when there is none to be taken now.

    Twice takes one: the policy's next time is set in the same transaction. A busy environment is asked again
    in a minute; one that does not run, at the policy's next time. Both are noted in the policy.
    """
    await locked_environment(session, environment_id)  # first, as whoever changes the policy does
    record = await snapshot_policies.take_up(session, environment_id, now)
    if record is None or record.next_at is None:
        return None
    policy = record.policy
    # By the last one, not by when it was asked again: who is busy now and then keeps to the policy's times.
    following = next_time(min(record.last_at or record.next_at, now), policy.every_minutes, now)
    planned = following - timedelta(minutes=policy.every_minutes)
    days = policy.expires_in_days
    wish = SnapshotWish(
        name=NAME,
        floor=policy.floor,
        lifetime=None if days is None else timedelta(days=days),
        scheduled=True,
    )
    actor = Actor(record.organization_id, SWEEPER, None, Role.OWNER)
    try:
        async with session.begin_nested():
            taken = await snapshot_environment(session, actor, environment_id, wish, keys=keys)
    except Busy as busy:
        await snapshot_policies.note(
            session,
            environment_id,
            now=now,
            next_at=min(now + BUSY_AGAIN, following),
            result=f"skipped: {busy}",
        )
        return None
    except DomainError as refused:
        await snapshot_policies.note(
            session, environment_id, now=now, next_at=following, result=f"skipped: {refused}"
        )
        return None
    except ValueError:
        # What one row holds is nobody else's matter: the other policies have their turn.
        _log.exception("an environment cannot be read, and is not taken a snapshot of: %s", environment_id)
        unreadable = "skipped: its Blueprint cannot be read by this version"
        await snapshot_policies.note(session, environment_id, now=now, next_at=following, result=unreadable)
        return None
    await snapshot_policies.note(
        session, environment_id, now=now, next_at=following, result=taken.snapshot.id, at=planned
    )
    return taken.accepted
