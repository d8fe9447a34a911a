"""From rows to the plan of an operation: whose objects these are, and the steps with their input hashes."""

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import EnvironmentRecord
from activities.db.repositories import environments, secrets
from activities.db.secret_material import digests, secret_material
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import EnvironmentContext
from workflows.domain.operations import PlannedStep
from workflows.domain.plan import input_hashes, plan_provision, provision_inputs


def context_of(
    environment: EnvironmentRecord, operation_id: str, *, revision: int, fence: int
) -> EnvironmentContext:
    """Return what every write of an operation has to know about its environment."""
    return EnvironmentContext(
        environment_id=environment.id,
        environment_name=environment.name,
        organization_id=environment.organization_id,
        installation_id=environment.installation_id,
        operation_id=operation_id,
        cluster=environment.cluster,
        namespace=environment.namespace,
        revision=revision,
        fence=fence,
    )


async def provision_steps(
    session: AsyncSession, environment: EnvironmentRecord, blueprint: Blueprint, keys: MasterKeys
) -> tuple[PlannedStep, ...]:
    """Return the steps of a provision with their input hashes, over the secrets as they are stored now.

    `blueprint` is the revision's. Raises SecretsError.
    """
    organization_id = environment.organization_id
    hash_key = (await secrets.data_key(session, organization_id, keys)).hash_key()
    material = await secret_material(session, organization_id, environment.id, blueprint, keys)
    inputs = provision_inputs(
        blueprint,
        # The operation and its fence take no part in the hashes.
        context_of(environment, "", revision=environment.revision, fence=0),
        environment.guard_rails,
        await environments.overrides(session, organization_id, environment.id),
        digests(hash_key, material.values),
        digests(hash_key, material.registry_credentials),
    )
    return plan_provision(blueprint, input_hashes(hash_key, inputs))
