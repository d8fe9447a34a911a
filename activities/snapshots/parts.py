"""Which pods a service's data is in, and which streams it is made of there."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

from activities._evidence import EvidenceCollector
from activities._readiness import LOOK_SECONDS
from activities._step import fail
from activities.snapshots._transfer import tool_in
from clusters.errors import CommandFailed
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef
from clusters.view import NamespaceView
from workflows.domain import manifests
from workflows.domain.blueprint_models import DataStore, Service
from workflows.domain.environment import EnvironmentContext
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import mapping, number, text
from workflows.domain.names import NAME
from workflows.domain.readiness_containers import has_run
from workflows.domain.readiness_view import condition, holds, name_of
from workflows.domain.snapshot_dump import (
    Part,
    databases_of,
    fixed_parts,
    is_mariadb,
    mariadb_version,
    postgres_databases,
    postgres_parts,
)
from workflows.domain.wording import listed

_ASK_SECONDS: Final = 60.0
_MOST_NAMES: Final = 4 * 1024 * 1024
_MOST_TOLD: Final = 5
_NO_TOOL: Final = 127


async def parts_in(
    cluster: Cluster,
    evidence: EvidenceCollector,
    context: EnvironmentContext,
    pod: str,
    service: Service,
    store: DataStore,
    *,
    all_of_it: bool = True,
) -> tuple[Part, ...]:
    """Return the streams of a service's data in one of its pods; a server is asked for its databases.

    One that does not tell them ends the activity, with what it says instead; so does one with a database that
    cannot be dumped, unless less than `all_of_it` will do.
    """
    parts = fixed_parts(store, service)
    if parts is not None:
        return parts
    async with tool_in(evidence, context, service.name, pod, f"Asking {service.name} for its databases"):
        asked = await cluster.execute(
            context.namespace,
            pod,
            postgres_databases(),
            container=service.name,
            timeout=_ASK_SECONDS,
            output_limit=_MOST_NAMES,
        )
        if asked.exit_code != 0:
            raise CommandFailed(asked.exit_code, asked.stderr)
    databases = databases_of(asked.stdout)
    if databases.closed and all_of_it:
        fail(failure(FailureKind.CONFLICT, _closed(service, databases.closed)), final=True)
    return postgres_parts(databases.open)


async def check_mariadb(
    cluster: Cluster, evidence: EvidenceCollector, context: EnvironmentContext, pod: str, service: Service
) -> None:
    """End the activity when it is MySQL, by its own word, or has not the tools that dump MariaDB."""
    async with tool_in(evidence, context, service.name, pod, f"Asking {service.name} for its version"):
        asked = await cluster.execute(
            context.namespace, pod, mariadb_version(), container=service.name, timeout=_ASK_SECONDS
        )
        if asked.exit_code not in (0, _NO_TOOL):
            raise CommandFailed(asked.exit_code, asked.stderr)
    if asked.exit_code == _NO_TOOL or not is_mariadb(asked.stdout):
        message = (
            f"{service.name} is no MariaDB, or lacks its tools (mariadb, mariadb-dump): MySQL cannot be "
            "dumped. Say `snapshot: {store: files}` to have its volume copied, or `engine: manifest-only`."
        )
        fail(failure(FailureKind.CONFLICT, message), final=True)


async def await_pods(
    cluster: Cluster,
    context: EnvironmentContext,
    service: Service,
    deadline: datetime,
    *,
    each: bool = False,
    besides: Collection[str] = (),
) -> tuple[str, ...]:
    """Wait until every pod that keeps a part of the service's data is ready; return their names in order.

    A time-out at the deadline when one is not. Several pods of a Deployment keep data that nobody can tell
    apart, which is refused, unless `each` pod is meant whatever it keeps. Pods with the UIDs `besides` are
    not counted.
    """
    workload = ObjectRef(manifests.workload_kind(service), service.name, context.namespace)
    async with cluster.view(context.namespace) as view:
        await view.synced()
        while True:
            version = view.version
            live = await cluster.get(workload)
            pods = None if live is None else _pods(view, service, live, each=each, besides=besides)
            if pods is not None:
                return pods
            remaining = (deadline - datetime.now(UTC)).total_seconds()
            if remaining <= 0:
                _give_up(view, service, live)
            await view.changed(
                version, timeout=max(min(remaining, LOOK_SECONDS), 0.01), labels={NAME: service.name}
            )


async def start_anew(
    cluster: Cluster, context: EnvironmentContext, service: Service, pods: Sequence[str], deadline: datetime
) -> None:
    """Delete pods of a service and wait until others are ready in their place; a time-out at the deadline."""
    deleted: list[str] = []
    for name in pods:
        ref = ObjectRef("Pod", name, context.namespace)
        live = await cluster.get(ref)
        if live is not None:
            deleted.append(text(live, "metadata", "uid"))
            await cluster.delete(ref, uid=deleted[-1], propagation=Propagation.BACKGROUND)
    await await_pods(cluster, context, service, deadline, besides=deleted)


def _pods(
    view: NamespaceView, service: Service, workload: Manifest, *, each: bool, besides: Collection[str]
) -> tuple[str, ...] | None:
    """Return the names of the pods that keep data, or of each; None while one of them is not ready."""
    wanted = number(workload, "spec", "replicas") or 0
    if not wanted and each:
        return ()
    if not wanted:
        message = f"{service.name} is scaled to no pods, and its data are reached through one. Scale it up."
        fail(failure(FailureKind.CONFLICT, message), final=True)
    ready = sorted(
        text(pod, "metadata", "name")
        for pod in view.objects("Pod", labels=_labels(workload))
        if holds(pod, "Ready")
        and not text(pod, "metadata", "deletionTimestamp")
        and text(pod, "metadata", "uid") not in besides
    )
    if workload["kind"] == "StatefulSet":
        names = tuple(f"{service.name}-{ordinal}" for ordinal in range(int(wanted)))
        return names if names and set(names) <= set(ready) else None
    if each:
        return tuple(ready) if ready and len(ready) == wanted else None
    if wanted > 1:
        message = f"{service.name} has {int(wanted)} pods without volumes, each with data of its own."
        fail(failure(FailureKind.CONFLICT, message), final=True)
    return tuple(ready[:1]) or None


def _closed(service: Service, names: Sequence[str]) -> str:
    """Say which databases cannot be dumped, and what helps."""
    told = listed(names, _MOST_TOLD)
    return (
        f"{service.name} has databases that allow no connections, and cannot be dumped: {told}. "
        "Open them (ALTER DATABASE ... ALLOW_CONNECTIONS true), or drop them."
    )


def _give_up(view: NamespaceView, service: Service, workload: Manifest | None) -> NoReturn:
    """Say which pods keep a service's data out of reach and why, and whether all of them ran."""
    found = [] if workload is None else view.objects("Pod", labels=_labels(workload))
    told = [f"{name_of(pod)} {why}" for pod in found if (why := _short_of_ready(pod))]
    pods = "; ".join(told) or "there are fewer than it is to have"
    message = f"The data of {service.name} cannot be reached, not every pod of it is ready: {pods}."
    wanted = 0 if workload is None else number(workload, "spec", "replicas") or 0
    staying = [pod for pod in found if not text(pod, "metadata", "deletionTimestamp")]
    ran = 0 < wanted <= len(staying) and all(has_run(pod) for pod in staying)
    fail(failure(FailureKind.TIMEOUT, message, ran=ran), final=True)


def _short_of_ready(pod: Manifest) -> str:
    """Say why a pod is not ready; empty when it is."""
    if text(pod, "metadata", "deletionTimestamp"):
        return "is going"
    if holds(pod, "Ready"):
        return ""
    scheduled, ready = condition(pod, "PodScheduled") or {}, condition(pod, "Ready") or {}
    why = text(ready if holds(pod, "PodScheduled") else scheduled, "message")
    return f"({why})" if why else "is not ready"


def _labels(workload: Manifest) -> dict[str, str]:
    selector = mapping(workload, "spec", "selector", "matchLabels")
    return {key: str(value) for key, value in selector.items()}
