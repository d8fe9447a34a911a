"""What accepting a restore and a replay from a snapshot share: do the data fit, what is written of them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted
from activities.db.acceptance.clone import CloneSource
from activities.db.acceptance.create import Proposed, Site, accept_new, rails_of, refuse_faults
from activities.db.inserts import Asked, new_environment, new_secrets
from activities.db.records import Actor
from activities.db.repositories import environments, snapshots
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.revisions import current_blueprint
from activities.db.repositories.secrets import NewSecret
from activities.db.tables import Environment
from activities.db.types import utc_now
from activities.db.usage import usage_of
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, Service
from workflows.domain.blueprint_models import VolumeType, data_store
from workflows.domain.environment import Overrides
from workflows.domain.errors import FieldError
from workflows.domain.manifests import running_as
from workflows.domain.masking import MaskingRules, masking_faults
from workflows.domain.plan import plan_restore
from workflows.domain.snapshot import Component, Engine, in_pods_alone
from workflows.domain.snapshot_manifest import SnapshotManifest, SnapshotRun, StoredComponent


@dataclass(frozen=True, slots=True)
class Loading:
    """What of a locked snapshot goes into a new environment. `values`: its secrets, by name."""

    components: Mapping[str, StoredComponent]
    values: Mapping[str, str] = field(repr=False)
    run: SnapshotRun


async def create_loaded(
    session: AsyncSession,
    actor: Actor,
    source: CloneSource,
    site: Site,
    loading: Loading,
    *,
    keys: MasterKeys,
    asked: Asked,
    action: str,
) -> Accepted:
    """Accept a new environment of a Blueprint, with a snapshot's data in it before anything depends on them.

    Raises NameTaken, CapExceeded, or InvalidReferences; the last one lists all faults when there are several.
    """
    organization = await locked_organization(session, actor.organization_id)
    blueprint, components = source.blueprint, loading.components
    rails = rails_of(organization, site.guard_rails)
    usage = usage_of(blueprint, rails)
    await refuse_faults(session, organization, blueprint, usage)
    environment = new_environment(
        actor,
        blueprint,
        cluster=site.cluster,
        plan=source.plan,
        installation_id=site.installation_id,
        guard_rails=rails,
        now=utc_now(),
    )
    own = new_secrets(blueprint)
    for name, secret in own.items():
        if secret.generated and name in loading.values:
            # It is in the data by now: users of databases have it as their password.
            own[name] = NewSecret(loading.values[name], generated=True)
    claimed = frozenset(name for name, each in components.items() if each.volumes)
    accepted = await accept_new(
        session,
        actor,
        Proposed(environment, blueprint, usage, own, asked=asked),
        keys=keys,
        action=action,
        plan=lambda provision: plan_restore(
            provision,
            blueprint,
            components,
            standing=False,
            claimed=claimed,
            masked=loading.run.masked,
        ),
    )
    loaded = Overrides(loaded=dict.fromkeys(components, loading.run.snapshot_id))
    await environments.replace_overrides(session, accepted.environment, loaded)
    await snapshots.add_run(session, environment.organization_id, accepted.operation.id, loading.run)
    return replace(accepted, in_pods_alone=tuple(in_pods_alone(blueprint, components)))


async def load_in_place(
    session: AsyncSession,
    environment: Environment,
    accepted: Accepted,
    before: Overrides,
    components: Collection[str],
    run: SnapshotRun,
) -> Accepted:
    """Write that an accepted operation on a locked environment loads the data of these services.

    Return it with what is to be told of them.
    """
    loaded = {**before.loaded, **dict.fromkeys(components, run.snapshot_id)}
    await environments.replace_overrides(session, environment, before.model_copy(update={"loaded": loaded}))
    await snapshots.add_run(session, environment.organization_id, accepted.operation.id, run)
    blueprint = await current_blueprint(session, environment)
    return replace(accepted, in_pods_alone=tuple(in_pods_alone(blueprint, components)))


def init_faults(blueprint: Blueprint, components: Iterable[str], *, init: bool) -> list[FieldError]:
    """Return why init cannot be run over the data of these services."""
    names = set(components)
    if not init or any(running_as(each).init for each in blueprint.services if each.name in names):
        return []
    listed = ", ".join(sorted(names)) or "none"
    message = f"no service whose data are loaded ({listed}) has an init"
    return [FieldError(path=("runInit",), message=message, suggestion="leave it out")]


def rule_faults(manifest: SnapshotManifest, masking: MaskingRules | None) -> tuple[FieldError, ...]:
    """Return what can be seen to be wrong with the rules before the data are looked at."""
    if masking is None:
        return ()
    components = (
        Component(service=each.service, store=each.store, engine=each.engine) for each in manifest.components
    )
    return masking_faults(masking, components, ("masking",))


def loaded_of(manifest: SnapshotManifest) -> dict[str, StoredComponent]:
    """Return the components that have data in the store or at the storage, by service."""
    return {each.service: each for each in manifest.components if each.parts or each.volumes}


def misfits(
    blueprint: Blueprint,
    replicas: Mapping[str, int],
    components: Iterable[StoredComponent],
    *,
    standing: bool,
    own: bool,
) -> list[FieldError]:
    """Return why a Blueprint has no place for the data of these components.

    `standing`: its services are there, so their volumes are not made from what a storage keeps. `own`: the
    snapshot was taken of the environment whose Blueprint it is, which has had its services once.
    """
    known = {service.name: running_as(service) for service in blueprint.services}
    faults: list[FieldError] = []
    for component in components:
        service, way_out = known.get(component.service), None
        if service is None:
            message = "the environment has no such service"
            way_out = (
                "roll back to the snapshot's revision first"
                if own
                else "add it, or restore the snapshot as a new environment"
            )
        else:
            message = _misfit(
                service, replicas.get(service.name, service.replicas), component, standing=standing
            )
        if message:
            path = ("services", component.service)
            faults.append(FieldError(path=path, message=message, suggestion=way_out))
    return faults


def _misfit(service: Service, replicas: int, component: StoredComponent, *, standing: bool) -> str:
    store = data_store(service)
    if store is not component.store:
        return f"keeps {store or 'no data'}, and the snapshot has {component.store} of it"
    if component.volumes and standing:
        return (
            "has volumes that stand, and the snapshot has whole volumes of it "
            f"({component.engine}): restore it as a new environment"
        )
    ordinals = {part.ordinal for part in component.parts} | {each.ordinal for each in component.volumes}
    pods = 1 + max(ordinals)
    if replicas < pods:
        return f"has {replicas} replicas, and the snapshot has data of {pods}"
    lasting = [each for each in service.volumes if each.type is VolumeType.PVC]
    missing = {each.volume for each in component.volumes} - {each.name for each in lasting}
    if missing:
        return f"has no volume {', '.join(sorted(missing))}"
    if component.engine is Engine.LIVE_COPY:
        missing = {part.subject for part in component.parts} - {each.mount_path for each in lasting}
        if missing:
            return f"has no volume at {', '.join(sorted(missing))}"
    return ""
