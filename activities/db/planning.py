"""From rows to the plan of an operation: whose objects these are, and the steps with their input hashes."""

from activities.db.records import EnvironmentRecord
from activities.db.secret_material import SecretMaterial, digests
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import EnvironmentContext, Overrides
from workflows.domain.operations import PlannedStep
from workflows.domain.plan import input_hashes, plan_provision, provision_inputs


def context_of(
    environment: EnvironmentRecord, operation_id: str, *, revision: int, fence: int
) -> EnvironmentContext:
    """Return what every write of an operation has to know about its environment."""
    return EnvironmentContext(
        environment_id=environment.id,
        environment_name=environment.instance,
        organization_id=environment.organization_id,
        installation_id=environment.installation_id,
        operation_id=operation_id,
        cluster=environment.cluster,
        namespace=environment.namespace,
        revision=revision,
        fence=fence,
    )


def provision_steps(
    environment: EnvironmentRecord,
    blueprint: Blueprint,
    overrides: Overrides,
    material: SecretMaterial,
    hash_key: bytes,
) -> tuple[PlannedStep, ...]:
    """Return the steps of a provision with their input hashes; `blueprint` is the revision's."""
    inputs = provision_inputs(
        blueprint,
        # The operation and its fence take no part in the hashes.
        context_of(environment, "", revision=environment.revision, fence=0),
        environment.guard_rails,
        overrides,
        digests(hash_key, material.values),
        digests(hash_key, material.registry_credentials),
    )
    return plan_provision(blueprint, input_hashes(hash_key, inputs))
