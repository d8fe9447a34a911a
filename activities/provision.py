"""ProvisionEnvironment in the cluster: namespace, secrets, services, routing, and taking it all back.

Every activity here may run twice, at the same time as its twin, or be cut off anywhere: names come from the
input, writes are server-side apply under a fence, deletes carry the UID, and each begins by looking at what
is there.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from activities._evidence import EvidenceCollector
from activities._init import run_init
from activities._namespace import check_ours, remove_namespace
from activities._readiness import Wait
from activities._replacement import make_way
from activities._step import alive, fail, reports_failures
from activities.secrets import Opener
from activities.storage.objects import ObjectStore
from clusters.errors import AlreadyExists, ClusterError, PreconditionFailed
from clusters.gateway import Applied, Cluster, Propagation
from clusters.lease import Lease
from clusters.objects import Manifest, ObjectRef, ref_of
from clusters.view import NamespaceView
from workflows.contracts.delete import DeleteNamespace
from workflows.contracts.provision import (
    ApplySecrets,
    DeployService,
    NamespacePrepared,
    PrepareNamespace,
    ProvisionActivities,
    ServiceDeployed,
    Undo,
    VerifyEndpoints,
)
from workflows.domain import manifests
from workflows.domain.environment import EnvironmentContext, ObjectIdentity
from workflows.domain.failures import FAILURES, FailureKind, failure
from workflows.domain.json_reading import children, mapping, text
from workflows.domain.names import CREATED_BY, ENVIRONMENT
from workflows.domain.operations import Cleanup
from workflows.domain.readiness import Until

RIGHTS_SECONDS: Final = 10.0
"""A new RoleBinding takes effect once every API server has seen it: some milliseconds, rarely a second."""

QUOTA_SECONDS: Final = 10.0
"""A new ResourceQuota refuses everything until its first status is there."""

UNDO_WAIT_SECONDS: Final = 600
WORKLOADS: Final = frozenset({"Deployment", "StatefulSet", "Job"})
CONFIGURATION: Final = frozenset({"ConfigMap", "PersistentVolumeClaim", "Secret"})
"""Written before the rest: a pod that starts without them waits for its next try."""


@dataclass(frozen=True, slots=True)
class ClusterProvision(ProvisionActivities):
    """The activities of a provision, on one cluster."""

    cluster: Cluster
    opener: Opener
    objects: ObjectStore

    @activity.defn(name="environment.prepare_namespace")
    @reports_failures
    async def prepare_namespace(self, request: PrepareNamespace) -> NamespacePrepared:
        """See `ProvisionActivities`. Twice gives the same answer: its creator is noted on the namespace."""
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            live, created = await _take_namespace(cluster, request)
            existed = text(live, "metadata", "annotations", CREATED_BY) != request.context.operation_id
            if not created:
                await cluster.apply(request.namespace)
            await _put_guard_rails(cluster, request)
            objects: tuple[ObjectIdentity, ...] = ()
            if existed:
                objects = await cluster.inventory(
                    request.context.namespace, labels={ENVIRONMENT: request.context.environment_id}
                )
            return NamespacePrepared(uid=text(live, "metadata", "uid"), existed=existed, objects=objects)

    @activity.defn(name="environment.apply_secrets")
    @reports_failures
    async def apply_secrets(self, request: ApplySecrets) -> None:
        """See `ProvisionActivities`. Values are opened here and nowhere before."""
        context = request.context
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            rendered = [
                manifests.secret_manifest(
                    context, name, {key: self.opener.open(value) for key, value in sealed.items()}
                )
                for name, sealed in request.secrets.items()
            ]
            rendered += [
                manifests.pull_secret_manifest(context, name, self.opener.open(sealed))
                for name, sealed in request.pull_secrets.items()
            ]
            await asyncio.gather(*(cluster.apply(manifest) for manifest in rendered))

    @activity.defn(name="service.deploy")
    @reports_failures
    async def deploy_service(self, request: DeployService) -> ServiceDeployed:
        """See `ProvisionActivities`. A second attempt applies the same again and goes on waiting."""
        started = time.monotonic()
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            async with cluster.view(request.context.namespace) as view:
                await make_way(cluster, request, request.deadline)
                followers = await _followers(cluster, request.manifests)
                workload = await _apply_service(cluster, request.manifests, without=followers)
                waiting = Wait(
                    context=request.context,
                    service=request.service,
                    view=view,
                    life=life,
                    evidence=EvidenceCollector(cluster, self.objects),
                    deadline=request.deadline,
                    applied_at=activity.info().scheduled_time,
                    tolerate_restarts=request.tolerate_restarts,
                )
                ready = await waiting.until(request.until, workload)
                if request.until is not Until.STARTED:
                    await asyncio.gather(*(cluster.apply(each) for each in followers))
                if request.init is not None:
                    await run_init(cluster, request.init, workload, waiting)
            return ServiceDeployed(
                workload=ObjectIdentity(kind=workload.ref.kind, name=workload.ref.name, uid=workload.uid),
                ready=ready.ready,
                restarts=ready.restarts,
                seconds=round(time.monotonic() - started, 3),
            )

    @activity.defn(name="environment.verify_endpoints")
    @reports_failures
    async def verify_endpoints(self, request: VerifyEndpoints) -> None:
        """See `ProvisionActivities`. A service without a ready endpoint by the deadline is a time-out."""
        async with alive() as life:
            cluster = self.cluster.fenced(life.lease)
            await asyncio.gather(*(cluster.apply(manifest) for manifest in request.manifests))
            async with cluster.view(request.context.namespace) as view:
                await view.include("EndpointSlice")
                for service in request.services:
                    await _await_endpoint(view, service, request.deadline)

    @activity.defn(name="environment.undo")
    @reports_failures
    async def undo(self, request: Undo) -> Cleanup:
        """See `ProvisionActivities`. Goes on when one object resists, and says which are left.

        Where another attempt may help there is one: a cluster that is away for a while leaves nothing behind.
        """
        async with alive() as life:
            if request.pre_image is None or not request.pre_image.namespace_existed:
                return await self._undo_namespace(life.lease, request.context)
            return await self._undo_objects(life.lease, request)

    async def _undo_namespace(self, lease: Lease, context: EnvironmentContext) -> Cleanup:
        """Delete the namespace, if this operation created it."""
        live = await self.cluster.get(ObjectRef("Namespace", context.namespace))
        if live is None or text(live, "metadata", "annotations", CREATED_BY) != context.operation_id:
            return Cleanup(complete=True)
        deleted = await remove_namespace(
            self.cluster, lease, DeleteNamespace(context=context, wait_seconds=UNDO_WAIT_SECONDS)
        )
        return Cleanup(complete=deleted.gone, left=tuple(blocker.object for blocker in deleted.blocked_by))

    async def _undo_objects(self, lease: Lease, request: Undo) -> Cleanup:
        """Delete what was not there, workloads first, and re-apply what was."""
        cluster = self.cluster.fenced(lease)
        context = request.context
        await cluster.apply(manifests.namespace(context))
        before = {each.uid for each in request.pre_image.objects} if request.pre_image else set()
        found = await cluster.inventory(context.namespace, labels={ENVIRONMENT: context.environment_id})
        # What an attempt before this one put back bears another UID than before, and stays.
        put_back = {(ref.kind, ref.name) for ref in map(ref_of, request.restore)}
        # Workloads before what they use; a RoleBinding last, since our own rights come from it.
        made = sorted(
            (each for each in found if each.uid not in before and (each.kind, each.name) not in put_back),
            key=lambda each: (each.kind == "RoleBinding", each.kind not in WORKLOADS, each.kind, each.name),
        )
        left: list[str] = []
        again: list[str] = []

        def resists(title: str, error: ClusterError) -> None:
            (again if FAILURES[error.kind].retryable else left).append(f"{title}: {error}")

        for each in made:
            try:
                await cluster.delete(
                    ObjectRef(each.kind, each.name, context.namespace),
                    uid=each.uid,
                    propagation=Propagation.BACKGROUND,
                )
            except PreconditionFailed:
                continue  # another object of that name by now: not ours to delete
            except ClusterError as error:
                resists(each.title, error)
        for manifest in request.restore:
            try:
                await cluster.apply(manifest)
            except ClusterError as error:
                resists(ref_of(manifest).title, error)
        if again:
            fail(failure(FailureKind.CLUSTER_UNAVAILABLE, f"Not undone: {'; '.join([*again, *left])}"))
        return Cleanup(complete=not left, left=tuple(left))


async def _take_namespace(cluster: Cluster, request: PrepareNamespace) -> tuple[Manifest, bool]:
    """Return the namespace and whether it was created just now; a conflict when it is not ours."""
    context = request.context
    ref = ObjectRef("Namespace", context.namespace)
    live = await cluster.get(ref)
    if live is None:
        try:
            return (await cluster.create(_created_by(request.namespace, context.operation_id))).live, True
        except AlreadyExists:
            live = await cluster.get(ref)
    if live is None or text(live, "metadata", "deletionTimestamp"):
        fail(
            failure(
                FailureKind.CONFLICT,
                f"Namespace {context.namespace} is being deleted; it can be used again once it is gone.",
            )
        )
    check_ours(live, context)
    return live, False


def _created_by(namespace: Manifest, operation_id: str) -> Manifest:
    """Return the manifest with the note of who created it, which later applies do not own and so keep."""
    metadata = mapping(namespace, "metadata")
    annotations = {**mapping(metadata, "annotations"), CREATED_BY: operation_id}
    return {**namespace, "metadata": {**metadata, "annotations": annotations}}


async def _put_guard_rails(cluster: Cluster, request: PrepareNamespace) -> None:
    namespace = request.context.namespace
    bindings = [each for each in request.guard_rails if each["kind"] == "RoleBinding"]
    others = [each for each in request.guard_rails if each["kind"] != "RoleBinding"]
    for binding in bindings:
        await cluster.apply(binding)
    deadline = time.monotonic() + RIGHTS_SECONDS
    while not await cluster.allowed(namespace, "patch", "Secret"):
        if time.monotonic() > deadline:
            fail(
                failure(
                    FailureKind.FORBIDDEN,
                    f"The rights in namespace {namespace} did not take effect within {RIGHTS_SECONDS:g} s.",
                )
            )
        await asyncio.sleep(0.02)
    await asyncio.gather(*(cluster.apply(each) for each in others))
    for each in others:
        if each["kind"] == "ResourceQuota":
            await _await_quota(cluster, ref_of(each))


async def _await_quota(cluster: Cluster, ref: ObjectRef) -> None:
    deadline = time.monotonic() + QUOTA_SECONDS
    while time.monotonic() < deadline:
        live = await cluster.get(ref)
        if live is not None and mapping(live, "status", "hard"):
            return
        await asyncio.sleep(0.05)
    # Not fatal: what needs the quota's status waits for it on its own.


async def _followers(cluster: Cluster, rendered: tuple[Manifest, ...]) -> tuple[Manifest, ...]:
    """The Services that are there and have to wait for the pods: those that lead to a proxy beside them.

    Pods without it, of the template before, would get requests at a port where nobody listens.
    """
    leading = [each for each in rendered if each["kind"] == "Service" and _leads_to_proxy(each)]
    found = await asyncio.gather(*(cluster.get(ref_of(each)) for each in leading))
    return tuple(each for each, live in zip(leading, found, strict=True) if live is not None)


def _leads_to_proxy(service: Manifest) -> bool:
    return any(port.get("targetPort") != port.get("port") for port in children(service, "spec", "ports"))


async def _apply_service(
    cluster: Cluster, rendered: tuple[Manifest, ...], *, without: tuple[Manifest, ...]
) -> Applied:
    """Apply configuration, then all else at once; return the workload, which is the last."""
    await asyncio.gather(*(cluster.apply(each) for each in rendered if each["kind"] in CONFIGURATION))
    applied = await asyncio.gather(
        *(
            cluster.apply(each)
            for each in rendered
            if each["kind"] not in CONFIGURATION and each not in without
        )
    )
    return applied[-1]


async def _await_endpoint(view: NamespaceView, service: str, deadline: datetime) -> None:
    while True:
        version = view.version
        slices = view.objects("EndpointSlice", labels={"kubernetes.io/service-name": service})
        if any(_serves(each) for each in slices):
            return
        remaining = (deadline - datetime.now(UTC)).total_seconds()
        if remaining <= 0:
            fail(failure(FailureKind.TIMEOUT, f"Service {service} is exposed and has no ready endpoint."))
        await view.changed(version, timeout=min(remaining, 5.0))


def _serves(endpoint_slice: Manifest) -> bool:
    endpoints = endpoint_slice.get("endpoints")
    return isinstance(endpoints, list) and any(
        mapping(endpoint, "conditions").get("ready") is not False for endpoint in endpoints
    )
