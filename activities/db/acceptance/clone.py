"""What another environment of the same Blueprint is made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import AlreadyDeleted
from activities.db.records import Actor
from activities.db.repositories import environments, secrets
from activities.db.repositories._rows import locked_environment, locked_organization
from activities.db.repositories.revisions import current_blueprint
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, SecretRef, Service, parse_blueprint


@dataclass(frozen=True, slots=True)
class CloneSource:
    """A Blueprint with its literal secrets written out again, and the plan that was applied to it."""

    blueprint: Blueprint
    plan: str | None


async def blueprint_for_clone(
    session: AsyncSession, actor: Actor, environment_id: str, name: str, *, keys: MasterKeys
) -> CloneSource:
    """Return an environment's present Blueprint under another name, with its scaling written into it.

    Secrets that were written out come along; generated ones will be generated anew. The answer holds values
    in clear and is for `create_environment` alone, whose lock on the organisation is taken first, here.
    Raises NotFound, AlreadyDeleted, or BlueprintInvalid for a name that is none.
    """
    await locked_organization(session, actor.organization_id)
    environment = await locked_environment(session, environment_id, actor.organization_id)
    if environment.deleted_at is not None:
        raise AlreadyDeleted(environment.id)
    blueprint = await current_blueprint(session, environment)
    overrides = await environments.overrides(session, environment.organization_id, environment.id)
    own = await secrets.secret_values(
        session, environment.organization_id, environment.id, keys, revision=environment.revision
    )

    def cloned(service: Service) -> Service:
        return service.model_copy(
            update={
                "replicas": overrides.replicas.get(service.name, service.replicas),
                "secrets": tuple(written_out(secret, own) for secret in service.secrets),
            }
        )

    services = tuple(cloned(service) for service in blueprint.services)
    copied = blueprint.model_copy(update={"services": services})
    # Through the parser: the new name is checked like any other.
    document = copied.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return CloneSource(parse_blueprint(document, name=name), environment.plan)


def written_out(secret: SecretRef, own: Mapping[str, str]) -> SecretRef:
    """Return a secret with its value in it, where it is the environment's own and was written out once."""
    source = secret.value_from
    if source is None or source.secret != secret.name or secret.name not in own:
        return secret
    return secret.model_copy(update={"value": own[secret.name], "value_from": None})
