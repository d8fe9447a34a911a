"""What an update of an environment changes: per service its effect and the fields, and the steps it takes."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from workflows.domain import manifests
from workflows.domain.blueprint_models import Blueprint, Service, VolumeType
from workflows.domain.environment import EnvironmentContext, GuardRails, ObjectName, Overrides
from workflows.domain.failures import WireModel
from workflows.domain.operations import PlannedStep
from workflows.domain.plan import in_dependency_order, plan_removals, plan_services, service_step

KEPT_KINDS: Final = frozenset({"PersistentVolumeClaim"})
"""Kinds that an update never removes with a service: its data stays until the environment is deleted."""


class Effect(StrEnum):
    """What an update does to one service."""

    ADD = "add"
    IN_PLACE = "in_place"
    """Its objects are applied over what is there; pods are rolled when their template changed."""
    REPLACE = "replace"
    """Its workload is deleted and made anew, since what changed is immutable in Kubernetes."""
    REFUSED = "refused"
    """It would lose sight of data or lose it, and `allowReplace` does not say that it may."""
    REMOVE = "remove"
    UNCHANGED = "unchanged"


_DEPLOYED: Final = frozenset({Effect.ADD, Effect.IN_PLACE, Effect.REPLACE})


class FieldChange(WireModel):
    """One field of a service that differs, as `env.LOG_LEVEL`; of secrets only the name, never a value."""

    field: str
    before: JsonValue = None
    after: JsonValue = None


class ServiceChange(WireModel):
    """What becomes of one service, and why."""

    service: str
    effect: Effect
    fields: tuple[FieldChange, ...] = ()
    reason: str = ""
    """Said of `replace` and `refused`; of an unchanged service when something of it changed to no effect."""
    lost_volumes: tuple[str, ...] = ()
    """Volumes that are made anew, empty: only with `allowReplace`."""


class Desired(WireModel):
    """A Blueprint with all that its steps are made from."""

    blueprint: Blueprint
    overrides: Overrides = Overrides()
    inputs: dict[str, JsonValue]
    """`provision_inputs` of it, by step name."""


def service_changes(before: Desired, after: Desired) -> tuple[ServiceChange, ...]:
    """What becomes of each service: those of the new Blueprint in its order, then those that go."""
    old = {service.name: service for service in before.blueprint.services}
    changes = [_change(before, after, old.get(new.name), new) for new in after.blueprint.services]
    kept = {new.name for new in after.blueprint.services}
    changes += [
        ServiceChange(service=name, effect=Effect.REMOVE, reason=_what_stays(service))
        for name, service in old.items()
        if name not in kept
    ]
    return tuple(changes)


def obsolete_objects(
    context: EnvironmentContext,
    rails: GuardRails,
    before: Desired,
    after: Desired,
    left: Mapping[str, tuple[ObjectName, ...]] | None = None,
) -> dict[str, tuple[ObjectName, ...]]:
    """The objects that are in nothing any more, by service: rendered from before, and not from after.

    `left`: those that an earlier update was to remove and may not have; some may be wanted again.
    """
    wanted = {name for names in _object_names(context, rails, after).values() for name in names}
    known = dict(left or {})
    for service, names in _object_names(context, rails, before).items():
        known[service] = tuple(dict.fromkeys((*known.get(service, ()), *names)))
    obsolete = {
        service: tuple(name for name in names if name not in wanted and name.kind not in KEPT_KINDS)
        for service, names in known.items()
    }
    return {service: names for service, names in obsolete.items() if names}


def plan_update(
    before: Blueprint,
    after: Blueprint,
    changes: tuple[ServiceChange, ...],
    obsolete: Mapping[str, tuple[ObjectName, ...]],
    hashes: Mapping[str, str],
    *,
    everything: bool = False,
) -> tuple[PlannedStep, ...]:
    """The steps: what a provision does, for the services that change alone, then what is to go.

    A service waits for those that change among the ones it depends on, however far behind others that do not.
    `everything`: also for the services that do not change, since they may not be there as they should.
    """
    changed = {each.service for each in changes if everything or each.effect in _DEPLOYED}
    steps = plan_services(after, hashes, changed)
    # Dependants go before what they depend on, and what an earlier update left behind before those.
    order = [service.name for service in reversed(in_dependency_order(before))]
    leaving = [name for name in obsolete if name not in order]
    leaving += [name for name in order if name in obsolete]
    return (*steps, *plan_removals(leaving, after=[step.name for step in steps]))


def _change(before: Desired, after: Desired, old: Service | None, new: Service) -> ServiceChange:
    if old is None:
        return ServiceChange(service=new.name, effect=Effect.ADD)
    step = service_step(new.name)
    was, becomes = before.inputs.get(step), after.inputs.get(step)
    fields = (*_field_changes(old, new), *_secret_changes(was, becomes))
    if was == becomes:
        reason = "takes effect without a change of its objects" if fields else ""
        return ServiceChange(service=new.name, effect=Effect.UNCHANGED, fields=fields, reason=reason)
    reason, lost = _immutable(old, new)
    if not reason:
        return ServiceChange(service=new.name, effect=Effect.IN_PLACE, fields=fields)
    harmless = not lost and not (old.stateful and not new.stateful) and not _missing_volumes(old, new)
    if harmless or new.allow_replace:
        return ServiceChange(
            service=new.name, effect=Effect.REPLACE, fields=fields, reason=reason, lost_volumes=lost
        )
    return ServiceChange(
        service=new.name,
        effect=Effect.REFUSED,
        fields=fields,
        reason=f"{reason}; `allowReplace: true` on the service says that its data may be lost",
    )


def _immutable(old: Service, new: Service) -> tuple[str, tuple[str, ...]]:
    """Why the workload cannot be changed in place, and the volumes that are then made anew; `""`: it can."""
    kinds = manifests.workload_kind(old), manifests.workload_kind(new)
    lost = tuple(
        name for name, volume in _claims(new).items() if name in _claims(old) and volume != _claims(old)[name]
    )
    if kinds[0] != kinds[1]:
        return f"it becomes a {kinds[1]} from a {kinds[0]}", lost
    if kinds[1] == "Job":
        return "a Job that has begun cannot be changed, it is run again", ()
    if lost:
        return f"size and class of a volume cannot be changed ({', '.join(lost)})", lost
    if missing := _missing_volumes(old, new):
        return f"its volumes are no longer mounted ({', '.join(missing)})", ()
    if set(_claims(new)) != set(_claims(old)):
        return "the volumes of a StatefulSet cannot be changed", ()
    return "", ()


def keeps_data(old: Service, new: Service) -> bool:
    """Whether what a service has written is still there after a change: all of it is on volumes that stay."""
    volumes, remaining = _claims(old), _claims(new)
    return bool(volumes) and all(remaining.get(name) == volume for name, volume in volumes.items())


def _missing_volumes(old: Service, new: Service) -> tuple[str, ...]:
    return tuple(name for name in _claims(old) if name not in _claims(new))


def _claims(service: Service) -> dict[str, tuple[str | None, str | None]]:
    """Size and class of each persistent volume, by name."""
    running = manifests.running_as(service)
    return {
        volume.name: (volume.size, volume.storage_class)
        for volume in running.volumes
        if volume.type is VolumeType.PVC
    }


def _what_stays(service: Service) -> str:
    names = ", ".join(_claims(service))
    return f"its volumes stay until the environment is deleted ({names})" if names else ""


def _field_changes(old: Service, new: Service) -> Iterator[FieldChange]:
    """Each leaf that differs; lists of named things are compared by name."""
    was = dict(_leaves("", old.model_dump(mode="json", by_alias=True)))
    becomes = dict(_leaves("", new.model_dump(mode="json", by_alias=True)))
    for name in (*was, *(each for each in becomes if each not in was)):
        if was.get(name) != becomes.get(name):
            yield FieldChange(field=name, before=was.get(name), after=becomes.get(name))


def _leaves(path: str, value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, part)
    elif named := _by_name(value):
        for name, part in named.items():
            yield from _leaves(f"{path}[{name}]", part)
    elif value not in (None, [], {}):
        yield path, value


def _by_name(value: JsonValue) -> dict[str, JsonValue]:
    """The parts of a list of named things; empty when it is none, or a name is given twice or not at all."""
    if not isinstance(value, list):
        return {}
    named = {str(part["name"]): part for part in value if isinstance(part, dict) and part.get("name")}
    return {**named} if len(named) == len(value) else {}


def _secret_changes(was: JsonValue, becomes: JsonValue) -> Iterator[FieldChange]:
    """The secrets of a service whose value differs, by name."""
    before, after = _digests(was), _digests(becomes)
    for name, digest in after.items():
        if name in before and before[name] != digest:
            yield FieldChange(field=f"secrets[{name}].value")


def _digests(inputs: JsonValue) -> dict[str, JsonValue]:
    secrets = inputs.get("secrets") if isinstance(inputs, dict) else None
    return secrets if isinstance(secrets, dict) else {}


def _object_names(
    context: EnvironmentContext, rails: GuardRails, desired: Desired
) -> dict[str, tuple[ObjectName, ...]]:
    blueprint = desired.blueprint
    routed = manifests.routing(context, blueprint, rails)
    return {
        service.name: tuple(
            _named(each)
            for each in (
                # The workload last in rendering is the first to go.
                *reversed(
                    manifests.service(context, blueprint, service.name, desired.overrides, rails=rails)
                ),
                *(route for route in routed if _named(route).name == service.name),
            )
        )
        for service in blueprint.services
    }


def _named(manifest: manifests.Manifest) -> ObjectName:
    metadata = manifest["metadata"]
    name = metadata["name"] if isinstance(metadata, dict) else ""
    return ObjectName(kind=str(manifest["kind"]), name=str(name))
