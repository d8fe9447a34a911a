"""Accepting a restore: a snapshot's data into an environment that stands, or all of it as a new one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._loading import (
    Loading,
    create_loaded,
    init_faults,
    load_in_place,
    loaded_of,
    misfits,
    rule_faults,
)
from activities.db.acceptance._shared import (
    Accepted,
    accept,
    change_from,
    changeable,
    provision_of,
    refuse_phases,
)
from activities.db.acceptance.clone import CloneSource, written_out
from activities.db.acceptance.create import Site
from activities.db.acceptance.snapshot import kept_values
from activities.db.errors import Protected, SnapshotUnfit
from activities.db.inserts import Asked
from activities.db.records import Actor
from activities.db.repositories import environments, secrets, snapshots
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.revisions import current_blueprint
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint, Service, parse_blueprint
from workflows.domain.blueprint_models import Expose, Volume, VolumeType
from workflows.domain.blueprint_rules import storage_class
from workflows.domain.errors import BlueprintInvalid, FieldError
from workflows.domain.image_pins import pinned
from workflows.domain.manifests_common import running_as
from workflows.domain.masking import MaskingRules
from workflows.domain.operations import EnvironmentPhase, OperationKind
from workflows.domain.plan import plan_restore
from workflows.domain.snapshot_manifest import SnapshotManifest, SnapshotRun

_RESTORABLE = frozenset({EnvironmentPhase.RUNNING, EnvironmentPhase.DEGRADED, EnvironmentPhase.ERROR})


@dataclass(frozen=True, slots=True)
class AsNew:
    """As what a snapshot is restored.

    `storage_classes`: by the class in the snapshot, the one to use; "" is a volume that names none. `prove`:
    what was loaded has to be what was captured. `ttl_minutes`: after which it goes by itself; None: as the
    Blueprint says. `init`: that of services with data is run over these. `current_images`: what the tags mean
    now runs, instead of what ran then.
    """

    name: str
    storage_classes: Mapping[str, str] = field(default_factory=dict)
    prove: bool = False
    ttl_minutes: int | None = None
    masking: MaskingRules | None = None
    init: bool = False
    current_images: bool = False


async def restore_in_place(
    session: AsyncSession,
    actor: Actor,
    snapshot_id: str,
    environment_id: str,
    *,
    keys: MasterKeys,
    masking: MaskingRules | None = None,
    init: bool = False,
) -> Accepted:
    """Accept that a snapshot's data replaces that of an environment which stands. Its Blueprint stays.

    `init`: that of the services whose data are loaded is run over them, whether it ever ran.
    Raises NotFound, SnapshotNotReady, AlreadyDeleted, Deleting, Busy, NotApplicable, Protected, or
    SnapshotUnfit, which lists each service that the data does not fit.
    """
    environment = await changeable(session, actor, environment_id)
    if environment.protected:
        raise Protected(environment.id, environment.name)
    snapshot, manifest = await snapshots.usable_snapshot(session, actor.organization_id, snapshot_id)
    refuse_phases(
        environment,
        "data is restored into an environment that runs",
        *(frozenset(EnvironmentPhase) - _RESTORABLE),
    )
    blueprint = await current_blueprint(session, environment)
    before = await environments.overrides(session, environment.organization_id, environment.id)
    loads = loaded_of(manifest)
    faults = [
        *misfits(
            blueprint,
            before.replicas,
            loads.values(),
            standing=True,
            own=snapshot.environment_id == environment.id,
        ),
        *rule_faults(manifest, masking),
        *init_faults(blueprint, loads, init=init),
    ]
    if faults:
        raise SnapshotUnfit(tuple(faults))
    run = SnapshotRun(snapshot_id=snapshot.id, masking=masking, init=init)
    key = await secrets.data_key(session, environment.organization_id, keys)
    provision = await provision_of(session, environment, keys, key.hash_key())
    accepted = await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.RESTORE, change=change_from(environment, before)),
        plan_restore(provision, blueprint, loads, standing=True, masked=run.masked),
        audit=("environment.restore", {"snapshot": snapshot.id, "init": init}),
    )
    return await load_in_place(session, environment, accepted, before, loads, run)


async def restore_as_new(
    session: AsyncSession, actor: Actor, snapshot_id: str, wish: AsNew, site: Site, *, keys: MasterKeys
) -> Accepted:
    """Accept a new environment with a snapshot's Blueprint, images, secrets and data.

    Hosts are its own: those of the snapshot may be in use. Raises NotFound, SnapshotNotReady, NameTaken,
    CapExceeded, InvalidReferences, SecretsError, or SnapshotUnfit, which lists all that is wrong with what is
    wished.
    """
    await locked_organization(session, actor.organization_id)
    snapshot, manifest = await snapshots.usable_snapshot(session, actor.organization_id, snapshot_id)
    values = await kept_values(session, snapshot, keys)
    blueprint = _rewritten(manifest, wish, values)
    accepted = await create_loaded(
        session,
        actor,
        CloneSource(blueprint, plan=None),
        site,
        Loading(
            components=loaded_of(manifest),
            values=values,
            run=SnapshotRun(snapshot_id=snapshot.id, prove=wish.prove, masking=wish.masking, init=wish.init),
        ),
        keys=keys,
        asked=Asked(OperationKind.RESTORE, on_failure=blueprint.on_failure),
        action="snapshot.restore",
    )
    kept = Blueprint.model_validate(manifest.blueprint)
    before = {each.name: running_as(each).image for each in kept.services}
    by_digest = (each.name for each in blueprint.services if running_as(each).image != before[each.name])
    return replace(accepted, pinned=tuple(by_digest))


async def create_from_snapshot(
    session: AsyncSession,
    actor: Actor,
    source: CloneSource,
    snapshot_id: str,
    site: Site,
    *,
    keys: MasterKeys,
) -> Accepted:
    """Accept a new environment of a Blueprint of its own, with a snapshot's data in it.

    Secrets that the Blueprint has generated are those of the snapshot, where it has them: the data do. Raises
    NotFound, SnapshotNotReady, NameTaken, CapExceeded, InvalidReferences, SecretsError, or SnapshotUnfit,
    which lists each service that the data does not fit.
    """
    await locked_organization(session, actor.organization_id)
    snapshot, manifest = await snapshots.usable_snapshot(session, actor.organization_id, snapshot_id)
    components = loaded_of(manifest)
    if faults := misfits(source.blueprint, {}, components.values(), standing=False, own=False):
        raise SnapshotUnfit(tuple(faults))
    values = await kept_values(session, snapshot, keys)
    return await create_loaded(
        session,
        actor,
        source,
        site,
        Loading(components, values, SnapshotRun(snapshot_id=snapshot.id)),
        keys=keys,
        asked=Asked(OperationKind.RESTORE, on_failure=source.blueprint.on_failure),
        action="environment.create",
    )


def _rewritten(manifest: SnapshotManifest, wish: AsNew, values: Mapping[str, str]) -> Blueprint:
    """Return the snapshot's Blueprint under another name: its scaling and images, and secrets written out."""
    kept = Blueprint.model_validate(manifest.blueprint)
    faults = [
        *_class_faults(kept, wish.storage_classes),
        *rule_faults(manifest, wish.masking),
        *init_faults(kept, loaded_of(manifest), init=wish.init),
    ]
    # Those that are named already are not to be found again in what is made of them.
    classes = {} if faults else wish.storage_classes
    replicas = manifest.overrides.replicas

    def rewritten(service: Service) -> Service:
        seen = service if wish.current_images else pinned(service, manifest.images)
        return seen.model_copy(
            update={
                "replicas": replicas.get(service.name, service.replicas),
                "secrets": tuple(written_out(secret, values) for secret in service.secrets),
                "expose": _own_host(service.expose),
                "volumes": tuple(_in_class(volume, classes) for volume in service.volumes),
            }
        )

    services = tuple(rewritten(service) for service in kept.services)
    copied = kept.model_copy(update={"services": services})
    if wish.ttl_minutes is not None:
        # One that is to go by itself must be let go.
        passing = {"ttl_minutes": wish.ttl_minutes, "protected": False, "auto_shutdown_enabled": False}
        copied = copied.model_copy(update=passing)
    document = copied.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    try:
        # Through the parser: the new name is checked like any other.
        blueprint = parse_blueprint(document, name=wish.name)
    except BlueprintInvalid as invalid:
        raise SnapshotUnfit((*invalid.errors, *faults)) from invalid
    if faults:
        raise SnapshotUnfit(tuple(faults))
    return blueprint


def _class_faults(kept: Blueprint, classes: Mapping[str, str]) -> list[FieldError]:
    """Return what is wrong with storage classes that are to be used in the place of others."""
    used = sorted(
        {each.storage_class or "" for service in kept.services for each in service.volumes if _lasts(each)}
    )
    faults: list[FieldError] = []
    for old, new in sorted(classes.items()):
        if old not in used:
            named = ", ".join(each or '"" (the default)' for each in used) or "none"
            faults.append(
                FieldError(
                    path=("storageClasses", old),
                    message="no volume of the snapshot has this storage class",
                    suggestion=f"they have: {named}",
                )
            )
        if problem := storage_class(new):
            message, hint = problem
            faults.append(FieldError(path=("storageClasses", old), message=message, suggestion=hint))
    return faults


def _in_class(volume: Volume, classes: Mapping[str, str]) -> Volume:
    if not _lasts(volume):
        return volume
    wanted = classes.get(volume.storage_class or "", volume.storage_class)
    return volume.model_copy(update={"storage_class": wanted})


def _lasts(volume: Volume) -> bool:
    return volume.type is VolumeType.PVC


def _own_host(expose: bool | Expose) -> bool | Expose:
    return expose.model_copy(update={"host": None}) if isinstance(expose, Expose) else expose
