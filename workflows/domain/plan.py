"""The graph of an operation's steps, known before the first runs, and what each step is made from."""

import hashlib
import hmac
import json
from collections.abc import Collection, Mapping, Sequence

from pydantic import JsonValue

from workflows.domain import manifests
from workflows.domain.blueprint_models import Blueprint, Service
from workflows.domain.environment import EnvironmentContext, GuardRails, Overrides
from workflows.domain.operations import PlannedStep, StepKind
from workflows.domain.snapshot import keeps_data

NAMESPACE_STEP = "namespace"
SECRETS_STEP = "secrets"
ENDPOINTS_STEP = "endpoints"
SEED_STEP = "seed"
SURVEY_STEP = "survey"
PUBLISH_STEP = "publish"
MASKING_STEP = "masking"


def service_step(service_name: str) -> str:
    """Name of the step that brings up a service."""
    return f"service/{service_name}"


def stop_step(service_name: str) -> str:
    """Name of the step that takes a service's pods away."""
    return f"stop/{service_name}"


def remove_step(service_name: str) -> str:
    """Name of the step that removes objects of a service which are no longer part of it."""
    return f"remove/{service_name}"


def capture_step(service_name: str) -> str:
    """Name of the step that takes a service's data into a snapshot."""
    return f"capture/{service_name}"


def check_step(service_name: str) -> str:
    """Name of the step that looks whether all that is stored of a service can be read."""
    return f"check/{service_name}"


def claim_step(service_name: str) -> str:
    """Name of the step that makes a service's claims from what the storage keeps."""
    return f"claim/{service_name}"


def load_step(service_name: str) -> str:
    """Name of the step that brings a snapshot's data into a service."""
    return f"load/{service_name}"


def plan_provision(blueprint: Blueprint, hashes: Mapping[str, str] | None = None) -> tuple[PlannedStep, ...]:
    """The steps of a provision, each after those it depends on; the same Blueprint, the same plan.

    A service waits for its own dependencies only, and for the secrets only when it uses some. `hashes`: input
    hash by step name, see `input_hashes`. Raises ValueError on a dependency cycle or an unknown service
    (a Blueprint from `parse_blueprint` has neither).
    """
    known = hashes or {}
    steps = [PlannedStep(name=NAMESPACE_STEP, kind=StepKind.NAMESPACE)]
    if manifests.secret_names(blueprint) or manifests.pull_credential_names(blueprint):
        steps.append(PlannedStep(name=SECRETS_STEP, kind=StepKind.SECRETS, depends_on=(NAMESPACE_STEP,)))
    for service in in_dependency_order(blueprint):
        base = SECRETS_STEP if service.secrets or service.image_pull_secrets else NAMESPACE_STEP
        steps.append(
            PlannedStep(
                name=service_step(service.name),
                kind=StepKind.SERVICE,
                service=service.name,
                depends_on=(base, *(service_step(name) for name in sorted(service.depends_on))),
            )
        )
    exposed = manifests.exposed_services(blueprint)
    if exposed:
        steps.append(
            PlannedStep(
                name=ENDPOINTS_STEP,
                kind=StepKind.ENDPOINTS,
                depends_on=tuple(service_step(name) for name in sorted(exposed)),
            )
        )
    return tuple(step.model_copy(update={"input_hash": known.get(step.name, "")}) for step in steps)


def plan_services(
    blueprint: Blueprint, hashes: Mapping[str, str], services: Collection[str]
) -> tuple[PlannedStep, ...]:
    """The steps of a provision for these services alone.

    A service waits for those of them that it depends on, however far behind others.
    """
    whole = {step.name: step for step in plan_provision(blueprint, hashes)}
    skipped = {service_step(each.name) for each in blueprint.services if each.name not in services}

    def awaited(step: PlannedStep) -> list[str]:
        names: list[str] = []
        for name in step.depends_on:
            names += awaited(whole[name]) if name in skipped else [name]
        return list(dict.fromkeys(names))

    return tuple(
        step.model_copy(update={"depends_on": tuple(awaited(step))})
        for step in whole.values()
        if step.name not in skipped
    )


def plan_stop(blueprint: Blueprint, obsolete: Sequence[str] = ()) -> tuple[PlannedStep, ...]:
    """The steps of a stop: the namespace is fenced, then each service goes once its dependants are gone.

    `obsolete`: names of services of which an update left objects behind; these go first, or their pods would
    be waited for in vain.
    """
    steps = [PlannedStep(name=NAMESPACE_STEP, kind=StepKind.NAMESPACE)]
    steps += plan_removals(obsolete, after=(NAMESPACE_STEP,))
    base = steps[-1].name
    for service in reversed(in_dependency_order(blueprint)):
        dependants = sorted(other.name for other in blueprint.services if service.name in other.depends_on)
        steps.append(
            PlannedStep(
                name=stop_step(service.name),
                kind=StepKind.STOP_SERVICE,
                service=service.name,
                depends_on=(base, *(stop_step(name) for name in dependants)),
            )
        )
    return tuple(steps)


def plan_removals(services: Sequence[str], *, after: Sequence[str]) -> tuple[PlannedStep, ...]:
    """The steps that remove what is obsolete of these services: `after` the others, one after the other."""
    steps: list[PlannedStep] = []
    for name in services:
        last = (steps[-1].name,) if steps else tuple(after)
        steps.append(
            PlannedStep(name=remove_step(name), kind=StepKind.REMOVE_SERVICE, service=name, depends_on=last)
        )
    return tuple(steps)


def plan_delete() -> tuple[PlannedStep, ...]:
    """The steps of a delete: one after the other."""
    order = (StepKind.CANCEL_RUNNING, StepKind.DELETE_NAMESPACE)
    return tuple(
        PlannedStep(name=kind.value, kind=kind, depends_on=(order[place - 1].value,) if place else ())
        for place, kind in enumerate(order)
    )


def plan_seed(service: str, input_hash: str) -> tuple[PlannedStep, ...]:
    """The steps of a seed: the namespace is fenced, then it runs."""
    return (
        PlannedStep(name=NAMESPACE_STEP, kind=StepKind.NAMESPACE),
        PlannedStep(
            name=SEED_STEP,
            kind=StepKind.SEED,
            service=service,
            depends_on=(NAMESPACE_STEP,),
            input_hash=input_hash,
        ),
    )


def plan_snapshot(blueprint: Blueprint) -> tuple[PlannedStep, ...]:
    """The steps of a snapshot: look, take the data of each service that may keep some, publish."""
    captures = tuple(
        PlannedStep(
            name=capture_step(service.name),
            kind=StepKind.CAPTURE,
            service=service.name,
            depends_on=(SURVEY_STEP,),
        )
        for service in blueprint.services
        if keeps_data(manifests.running_as(service))
    )
    return (
        PlannedStep(name=NAMESPACE_STEP, kind=StepKind.NAMESPACE),
        PlannedStep(name=SURVEY_STEP, kind=StepKind.SURVEY, depends_on=(NAMESPACE_STEP,)),
        *captures,
        PlannedStep(
            name=PUBLISH_STEP,
            kind=StepKind.PUBLISH,
            depends_on=(SURVEY_STEP, *(step.name for step in captures)),
        ),
    )


def plan_restore(
    provision: Sequence[PlannedStep],
    blueprint: Blueprint,
    loaded: Collection[str],
    *,
    standing: bool,
    claimed: Collection[str] = (),
    masked: Collection[str] = (),
) -> tuple[PlannedStep, ...]:
    """The steps of a restore: those of a provision, with the data of the services `loaded` in between.

    What depends on such a service starts once its data is there. In an environment that stands (`standing`)
    it is stopped before, and nothing of it is touched before all that is stored has been read: what is there
    may be all that its owner has. Of the services loaded, the volumes of those `claimed` are made from
    what the storage keeps before they are there; loading them is to wait for that. Whether the rules for
    those `masked` fit what is stored is seen in one step, before any service with data is there or replaced.
    """
    hidden = {name for name in loaded if name in masked}
    # To see whether rules fit, all that is stored is read anyway.
    checks = _checks_before(provision, set(loaded) - hidden) if standing else ()
    if hidden:
        checks = (*checks, PlannedStep(name=MASKING_STEP, kind=StepKind.CHECK, depends_on=(NAMESPACE_STEP,)))
    stops = _stops_before(blueprint, loaded, checks) if standing else ()
    before = [step.name for step in (*checks, *stops)]
    steps: list[PlannedStep] = []
    for step in provision:
        waits = [load_step(name) for name in sorted(loaded) if service_step(name) in step.depends_on]
        if standing and NAMESPACE_STEP in step.depends_on:
            waits += [check.name for check in checks]
        if step.service in loaded:
            waits += before
        if step.service is not None and step.service in claimed:
            claim = claim_step(step.service)
            steps.append(
                PlannedStep(
                    name=claim,
                    kind=StepKind.CLAIM,
                    service=step.service,
                    depends_on=(NAMESPACE_STEP, *(check.name for check in checks)),
                )
            )
            waits.append(claim)
        steps.append(step.model_copy(update={"depends_on": tuple(dict.fromkeys((*step.depends_on, *waits)))}))
        if step.name == NAMESPACE_STEP:
            steps += (*checks, *stops)
        if step.service is not None and step.service in loaded:
            steps.append(
                PlannedStep(
                    name=load_step(step.service),
                    kind=StepKind.LOAD,
                    service=step.service,
                    depends_on=(step.name,),
                )
            )
    return tuple(steps)


def _checks_before(provision: Sequence[PlannedStep], loaded: Collection[str]) -> tuple[PlannedStep, ...]:
    """A look at what is stored of each of these services."""
    return tuple(
        PlannedStep(
            name=check_step(step.service),
            kind=StepKind.CHECK,
            service=step.service,
            depends_on=(NAMESPACE_STEP,),
        )
        for step in provision
        if step.service is not None and step.service in loaded
    )


def _stops_before(
    blueprint: Blueprint, loaded: Collection[str], checks: Sequence[PlannedStep]
) -> tuple[PlannedStep, ...]:
    """The stops of all that depends on these services, directly or not, but of none of these themselves."""
    affected = with_dependants(blueprint, loaded)
    return tuple(
        step.model_copy(
            update={
                "depends_on": (
                    *(name for name in step.depends_on if name == NAMESPACE_STEP or name in stopped),
                    *(check.name for check in checks),
                )
            }
        )
        for stopped in ({stop_step(name) for name in affected - set(loaded)},)
        for step in plan_stop(blueprint)
        if step.name in stopped
    )


def with_dependants(blueprint: Blueprint, services: Collection[str]) -> set[str]:
    """These services, and all that depend on one of them, directly or not."""
    found = set(services)
    for service in in_dependency_order(blueprint):
        if found & set(service.depends_on):
            found.add(service.name)
    return found


def in_dependency_order(blueprint: Blueprint) -> tuple[Service, ...]:
    """The services, each after those it depends on, otherwise in the Blueprint's order.

    Raises ValueError on a cycle or an unknown service.
    """
    waiting = {service.name: set(service.depends_on) for service in blueprint.services}
    unknown = {name for names in waiting.values() for name in names} - set(waiting)
    if unknown:
        raise ValueError(f"unknown service: {', '.join(sorted(unknown))}")
    ordered: list[Service] = []
    while waiting:
        free = [service for service in blueprint.services if waiting.get(service.name) == set()]
        if not free:
            raise ValueError(f"dependency cycle among: {', '.join(sorted(waiting))}")
        ordered.extend(free)
        done = {service.name for service in free}
        waiting = {name: names - done for name, names in waiting.items() if name not in done}
    return tuple(ordered)


def digest(key: bytes, value: JsonValue) -> str:
    """`hmac-sha256:<hex>` over the value as canonical JSON: keyed, as secret material may take part."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"hmac-sha256:{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"


def provision_inputs(
    blueprint: Blueprint,
    context: EnvironmentContext,
    rails: GuardRails,
    overrides: Overrides,
    secret_digests: Mapping[str, str],
    credential_digests: Mapping[str, str] | None = None,
) -> dict[str, JsonValue]:
    """What each step of a provision is made from, by step name: when it is the same, so is the outcome.

    `secret_digests` and `credential_digests` are keyed digests of the values, by name. Revision, fence and
    operation take no part, and neither do a service's dependencies, or its restarts: these make the same
    anew.
    """
    overrides = overrides.model_copy(update={"restarts": {}})
    inputs: dict[str, JsonValue] = {
        NAMESPACE_STEP: _plain(
            manifests.namespace(context), *manifests.guard_rails(context, rails, blueprint)
        )
    }
    secrets, credentials = manifests.secret_names(blueprint), manifests.pull_credential_names(blueprint)
    if secrets or credentials:
        inputs[SECRETS_STEP] = {
            "secrets": {name: secret_digests.get(name) for name in secrets},
            "registries": {name: (credential_digests or {}).get(name) for name in credentials},
        }
    for written in blueprint.services:
        service = manifests.running_as(written)
        rendered = manifests.service(context, blueprint, service.name, overrides, secret_digests, rails)
        inputs[service_step(service.name)] = {
            "manifests": _plain(*rendered),
            "secrets": {secret.name: secret_digests.get(secret.name) for secret in service.secrets},
            "init": service.init.model_dump(mode="json") if service.init is not None else None,
        }
    exposed = manifests.exposed_services(blueprint)
    if exposed:
        inputs[ENDPOINTS_STEP] = {
            "manifests": _plain(*manifests.routing(context, blueprint, rails)),
            "services": [*exposed],
        }
    return inputs


def input_hashes(key: bytes, inputs: Mapping[str, JsonValue]) -> dict[str, str]:
    """Keyed digest of each step's inputs, by step name."""
    return {name: digest(key, value) for name, value in inputs.items()}


def _plain(*rendered: manifests.Manifest) -> list[JsonValue]:
    return [manifests.without_stamps(manifest) for manifest in rendered]
