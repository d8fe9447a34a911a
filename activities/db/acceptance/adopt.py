"""Taking back an environment that stands in a cluster and that the database does not know."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlmodel import col, update
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted
from activities.db.acceptance.create import Proposed, accept_new, rails_of, refuse_faults
from activities.db.errors import AlreadyDeleted, NameTaken
from activities.db.inserts import new_environment, new_secrets
from activities.db.records import Actor
from activities.db.recovery import EVENTS_AHEAD
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.secrets import NewSecret
from activities.db.tables import Environment
from activities.db.types import utc_now
from activities.db.usage import usage_of
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import GuardRails
from workflows.domain.operations import FENCES_PER_OPERATION


@dataclass(frozen=True, slots=True)
class FoundNamespace:
    """What a namespace says of itself. `values`: of its generated secrets, by name."""

    environment_id: str
    instance: str
    cluster: str
    namespace: str
    revision: int
    fence: int
    values: Mapping[str, str] = field(default_factory=dict, repr=False)


async def adopt_environment(
    session: AsyncSession,
    actor: Actor,
    blueprint: Blueprint,
    found: FoundNamespace,
    *,
    installation_id: str,
    keys: MasterKeys,
    guard_rails: GuardRails,
) -> Accepted:
    """Accept an environment over a namespace that is there, and a provision that makes it what is said here.

    Its id, names, revision number and generated secrets are those of the namespace; its fence goes on from
    there. Events begin far above what may have been given out. Raises AlreadyDeleted for one that was
    deleted, NameTaken, CapExceeded, or InvalidReferences.
    """
    organization = await locked_organization(session, actor.organization_id)
    known = await session.get(Environment, found.environment_id)
    if known is not None:
        if known.deleted_at is not None:
            raise AlreadyDeleted(known.id)
        raise NameTaken("environment", known.name, known.id)
    rails = rails_of(organization, guard_rails)
    usage = usage_of(blueprint, rails)
    await refuse_faults(session, organization, blueprint, usage)
    now = utc_now()
    fresh = new_environment(
        actor,
        blueprint,
        cluster=found.cluster,
        plan=None,
        installation_id=installation_id,
        guard_rails=rails,
        now=now,
    )
    environment = replace(
        fresh,
        id=found.environment_id,
        instance=found.instance,
        namespace=found.namespace,
        revision=found.revision,
        last_event=EVENTS_AHEAD + 1,
    )
    own = {
        name: NewSecret(found.values[name], generated=True) if new.generated and name in found.values else new
        for name, new in new_secrets(blueprint).items()
    }
    proposed = Proposed(environment, blueprint, usage, own, fence=found.fence + 1)
    accepted = await accept_new(session, actor, proposed, keys=keys, action="environment.adopt")
    await session.exec(
        update(Environment)
        .where(col(Environment.id) == environment.id)
        .values(last_fence=found.fence + FENCES_PER_OPERATION)
    )
    return accepted
