"""The cluster as the rest of the product sees it: apply, read, delete, logs, exec, rights."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial

from clusters.answers import Answer, Unexplained
from clusters.blockers import find_blockers
from clusters.connection import APPLY, MERGE, METADATA_LIST, Call, Connection
from clusters.credentials import Credentials
from clusters.discovery import Discovery
from clusters.errors import (
    Conflict,
    Invalid,
    NotFound,
)
from clusters.objects import OURS, Kind, Manifest, ObjectRef, identity_of, kind_of, ref_of
from clusters.paging import read_pages
from clusters.pods import PodAccess
from clusters.rights import Right, Rights, rights
from clusters.second_look import check_uid, explain_apply, explain_delete, without_finalizers
from clusters.values import (
    Applied,
    ClusterConfig,
    ExecResult,
    Listing,
    LogLine,
    Propagation,
)
from clusters.view import NamespaceView, ViewPool
from workflows.domain.environment import ObjectIdentity
from workflows.domain.failures import Blocker
from workflows.domain.json_reading import at, text
from workflows.domain.names import FIELD_MANAGER

__all__ = [
    "Applied",
    "Cluster",
    "ClusterConfig",
    "ExecResult",
    "Listing",
    "LogLine",
    "Propagation",
    "open_cluster",
]

_FINALIZER_TRIES = 5
_REVIEWS_AT_ONCE = 16


class Cluster(PodAccess):
    """One cluster. Every method raises `clusters.errors` only. Made by `open_cluster`.

    Anything in a namespace that does not exist gives `NotFound` (or None, False, nothing, where that is an
    answer); what is refused because the namespace is being deleted gives `NamespaceTerminating`.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._discovery = Discovery(connection)
        self._views = ViewPool(self)

    @property
    def name(self) -> str:
        """Return the cluster's name, as configured."""
        return self._connection.config.name

    async def close(self) -> None:
        """End all views and connections."""
        await self._views.close()
        await self._connection.close()

    # Writing

    async def apply(self, manifest: Manifest, *, force: bool = True, dry_run: bool = False) -> Applied:
        """Server-side apply of a full manifest under our field manager.

        Fields that an earlier apply set and this one leaves out are removed. Without `force`, a field that
        another manager owns gives `Conflict` with the managers' names. Unknown fields and wrong types give
        `Invalid`. `dry_run` stores nothing and answers what would be stored.
        """
        ref = ref_of(manifest)
        params = {"fieldManager": FIELD_MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            params["dryRun"] = "All"
        call = Call(
            "PATCH",
            _kind(manifest).path(ref.namespace, ref.name),
            params,
            manifest,
            content_type=APPLY,
            idempotent=True,
            before=self._guard,
        )
        await self._check_fence(manifest)
        try:
            return _applied(ref, await self._send(call, manifest))
        except Unexplained as error:
            raise await explain_apply(self._connection, call, error) from error

    async def create(self, manifest: Manifest) -> Applied:
        """Create the object; `AlreadyExists` when it is there. `metadata.generateName` works.

        Not tried again when the connection breaks: `Unavailable` then leaves open whether it was created.
        """
        kind = _kind(manifest)
        namespace = text(manifest, "metadata", "namespace") or None
        params = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        call = Call("POST", kind.path(namespace), params, manifest, before=self._guard)
        await self._check_fence(manifest)
        answer = await self._send(call, manifest)
        return _applied(ref_of(answer.body), answer)

    async def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation,
        grace_seconds: int | None = None,
    ) -> bool:
        """Ask for deletion; return False when the object was gone already.

        `PreconditionFailed` when the object there has another UID or resourceVersion. True says that the
        deletion was accepted: finalizers and grace periods may keep the object for a while.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation.value,
            "preconditions": {key: value for key, value in preconditions.items() if value is not None},
        }
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        path = kind_of(ref.kind).path(ref.namespace, ref.name)
        call = Call("DELETE", path, {}, body, idempotent=uid is not None, before=self._guard)
        try:
            await self._send(call, namespace=ref.namespace)
        except NotFound:
            return False
        except Conflict as error:
            return explain_delete(ref, await self.get(ref), uid, resource_version, error)
        return True

    async def release_finalizers(
        self, ref: ObjectRef, *, uid: str, finalizers: Sequence[str], fence: int | None = None
    ) -> None:
        """Take these finalizers off the object with this UID, for a deletion with `force=true` only.

        `ref.kind` may be any that the cluster serves. `fence` is put on the object: the policy compares what
        is written. Nothing happens when the object is gone; `PreconditionFailed` when another has its name.
        """
        path = (await self._discovery.resolve(ref.kind)).path(ref.namespace, ref.name)
        for tries_left in reversed(range(_FINALIZER_TRIES)):
            try:
                live = (await self._send(Call("GET", path, idempotent=True), namespace=ref.namespace)).body
                check_uid(ref, live, uid)
                body = without_finalizers(live, finalizers, fence)
                if body is not None:
                    call = Call("PATCH", path, {}, body, content_type=MERGE, before=self._guard)
                    await self._send(call, body, namespace=ref.namespace)
            except NotFound:
                return
            except Conflict:
                # Changed since it was read: decide again on what it is now.
                if not tries_left:
                    raise
            else:
                return

    # Reading

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Listing:
        """Return all objects of a kind (all namespaces without `namespace`), read in pages.

        `fields` is a field selector (`{"involvedObject.uid": ..}`); `limit` stops after so many objects.
        Each item says its apiVersion and kind, which the API server leaves out of lists.
        """
        served = kind_of(kind)
        send = partial(self._send, namespace=namespace)
        items, version = await read_pages(send, served.path(namespace), labels, fields, limit)
        for item in items:
            item.setdefault("apiVersion", served.api_version)
            item.setdefault("kind", kind)
        return Listing(tuple(items), version)

    async def inventory(
        self, namespace: str, *, labels: Mapping[str, str] | None = None
    ) -> tuple[ObjectIdentity, ...]:
        """Return all objects of the kinds in `OURS` in a namespace, sorted by kind and name."""

        send = partial(self._send, namespace=namespace)

        async def identities(kind: str) -> Sequence[ObjectIdentity]:
            if not await self.served(kind):
                return ()
            path = kind_of(kind).path(namespace)
            try:
                items, _ = await read_pages(send, path, labels, accept=METADATA_LIST)
            except NotFound:
                return ()
            return [identity_of(item, kind) for item in items]

        found = await asyncio.gather(*(identities(kind) for kind in OURS))
        return tuple(sorted((one for part in found for one in part), key=lambda one: (one.kind, one.name)))

    async def blockers(self, namespace: str) -> tuple[Blocker, ...]:
        """Return what holds up a deletion, by looking through every kind that the cluster serves.

        In a namespace that is being deleted: objects with finalizers or under deletion, the namespace's own
        finalizers, and faults of the deletion itself; in another: objects under deletion. Empty when the
        namespace is gone or nothing holds it. Rights in a namespace go with its RoleBinding: of a kind that
        we may not list (any more), the cluster's own summary is given instead.
        """
        return await find_blockers(self._connection, self._discovery, namespace)

    # The cluster itself

    async def allowed(
        self, namespace: str | None, verb: str, kind: str, subresource: str | None = None
    ) -> bool:
        """Return whether our own credentials may do this (SelfSubjectAccessReview)."""
        served = kind_of(kind)
        resource = served.plural if subresource is None else f"{served.plural}/{subresource}"
        return await self._may(Right(verb, served.group, resource), namespace)

    async def missing_rights(self, table: Rights, namespace: str | None = None) -> tuple[Right, ...]:
        """Return which rights of a table our own credentials lack: in a namespace, or everywhere."""
        asked = rights(table)
        turns = asyncio.Semaphore(_REVIEWS_AT_ONCE)

        async def may(right: Right) -> bool:
            async with turns:
                return await self._may(right, namespace)

        answers = await asyncio.gather(*(may(right) for right in asked))
        return tuple(right for right, allowed in zip(asked, answers, strict=True) if not allowed)

    async def _may(self, right: Right, namespace: str | None) -> bool:
        review: Manifest = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": right.attributes(namespace)},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._connection.request(Call("POST", path, {}, review, idempotent=True))
        return at(answer.body, "status", "allowed") is True

    async def fence_enforced(self, namespace: str) -> bool:
        """Return whether the admission policy refuses our late writes in a namespace that has a fence.

        Remembered for a while. Without the policy (or when it is not for our account), each write is
        preceded by a read of the fence.
        """
        return await self._fencing.enforced(namespace)

    async def served(self, kind: str) -> bool:
        """Return whether the cluster serves a kind of the registry (cached)."""
        return await self._discovery.served(kind)

    async def version(self) -> str:
        """Return the API server's version, for example `v1.35.4`."""
        answer = await self._connection.request(Call("GET", "/version", idempotent=True))
        return text(answer.body, "gitVersion")

    async def clock(self) -> datetime | None:
        """Return the API server's time to the second, None when it does not say."""
        return (await self._connection.request(Call("GET", "/version", idempotent=True))).date

    async def ping(self) -> None:
        """Return when the API server is ready to serve, raise otherwise."""
        await self._connection.request(Call("GET", "/readyz", accept="*/*", idempotent=True))

    def view(self, namespace: str) -> AbstractAsyncContextManager[NamespaceView]:
        """Share the live picture of a namespace: `async with cluster.view(namespace) as view`."""
        return self._views.open(namespace)


@asynccontextmanager
async def open_cluster(config: ClusterConfig) -> AsyncIterator[Cluster]:
    """Open a cluster for as long as the context lasts. Reads the configuration; does not connect yet."""
    credentials = Credentials(config.kubeconfig, config.context)
    connection = Connection(config, await credentials.endpoint(), credentials)
    cluster = Cluster(connection)
    try:
        yield cluster
    finally:
        await cluster.close()


def _kind(manifest: Manifest) -> Kind:
    kind = kind_of(text(manifest, "kind"))
    if text(manifest, "apiVersion") != kind.api_version:
        raise Invalid(
            f"{kind.kind} has to be of {kind.api_version}", (("apiVersion", f"must be {kind.api_version}"),)
        )
    return kind


def _applied(ref: ObjectRef, answer: Answer) -> Applied:
    uid, version = (text(answer.body, "metadata", key) for key in ("uid", "resourceVersion"))
    return Applied(ref, uid, version, answer.status == 201, answer.body)
