"""Evidence of a failure: what the cluster says about the pod at fault, without secrets, out of history."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from activities.storage.objects import ObjectStore, StoreUnavailable
from clusters.errors import ClusterError
from clusters.gateway import Cluster
from clusters.objects import Manifest
from workflows.domain.environment import EnvironmentContext
from workflows.domain.errors import FieldError
from workflows.domain.evidence import Evidence, EvidenceEvent, bounded_events, bounded_log, evidence_key
from workflows.domain.json_reading import instant, mapping, number, text
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.readiness_view import event_last
from workflows.domain.redaction import Redactor, Withholder

_MAKERS: Final = ("Deployment", "ReplicaSet", "StatefulSet", "Job")
"""What makes pods, and says in its own events why it cannot."""


_NO_LOG: Final = "unable to retrieve container logs for "
"""What the node sends as a log, with a good status, when the container's log is gone."""


@dataclass(frozen=True, slots=True)
class EvidenceCollector:
    """Gathers evidence from one cluster into the object store."""

    cluster: Cluster
    objects: ObjectStore

    async def of_pod(
        self,
        context: EnvironmentContext,
        step: str,
        *,
        pod: str | None,
        uid: str | None,
        container: str | None,
    ) -> tuple[str, ...]:
        """Store the pod's events and its current and previous log; return the keys.

        Without a pod (`step` is the service that could not make one) the events are those of the workload.
        Never fails the step a second time: what the cluster does not tell is left out, and a store that does
        not answer leaves the failure without evidence.
        """
        redactor = await self.redactor(context)
        evidence = Evidence(
            pod=pod or "",
            container=container or "",
            collected_at=datetime.now(UTC),
            events=await self._events(context.namespace, await self._subjects(context, step, uid), redactor),
            log=await self._log(context.namespace, pod, container, redactor, previous=False),
            previous_log=await self._log(context.namespace, pod, container, redactor, previous=True),
        )
        return await self.store(context, step, evidence)

    async def of_output(
        self, context: EnvironmentContext, step: str, *, pod: str, container: str, output: str
    ) -> tuple[str, tuple[str, ...]]:
        """Store the output of a script as evidence; return it without its secrets, and the keys."""
        said = (await self.redactor(context)).redact(output)
        evidence = Evidence(
            pod=pod, container=container, collected_at=datetime.now(UTC), log=bounded_log(said)
        )
        return said, await self.store(context, step, evidence)

    async def of_faults(
        self, context: EnvironmentContext, step: str, faults: Sequence[FieldError]
    ) -> tuple[str, ...]:
        """Store all faults of something handed in, which a failure may have no room for; return the keys."""
        said = "\n".join(str(fault) for fault in faults)
        evidence = Evidence(pod="", container="", collected_at=datetime.now(UTC), log=bounded_log(said))
        return await self.store(context, step, evidence)

    async def store(self, context: EnvironmentContext, step: str, evidence: Evidence) -> tuple[str, ...]:
        """Write one evidence document; return its key, or nothing when the store does not take it."""
        key = evidence_key(context.organization_id, context.operation_id, step, activity.info().attempt)
        try:
            await self.objects.put_json(key, evidence.model_dump(mode="json"))
        except StoreUnavailable:
            activity.logger.warning("evidence was not stored", exc_info=True)
            return ()
        return (key,)

    async def redactor(self, context: EnvironmentContext) -> Redactor:
        """Return a redactor of all secret values that the environment's own Secrets hold.

        When they cannot be read it lets nothing through: evidence is worth less than a secret.
        """
        try:
            listing = await self.cluster.list(
                "Secret", context.namespace, labels={ENVIRONMENT: context.environment_id}
            )
        except ClusterError:
            return Withholder()
        return Redactor(value for secret in listing.items for value in _values(secret))

    async def _subjects(self, context: EnvironmentContext, service: str, uid: str | None) -> tuple[str, ...]:
        """UIDs of what the events have to be about: the pod, or what should have made one."""
        if uid is not None:
            return (uid,)
        labels = {ENVIRONMENT: context.environment_id, NAME: service}
        try:
            listings = [await self.cluster.list(kind, context.namespace, labels=labels) for kind in _MAKERS]
        except ClusterError:
            return ()
        return tuple(text(each, "metadata", "uid") for listing in listings for each in listing.items)

    async def _events(
        self, namespace: str, subjects: tuple[str, ...], redactor: Redactor
    ) -> tuple[EvidenceEvent, ...]:
        try:
            listings = [
                await self.cluster.list("Event", namespace, fields={"involvedObject.uid": uid})
                for uid in subjects
            ]
        except ClusterError:
            return ()
        return bounded_events(tuple(_event(each, redactor) for listing in listings for each in listing.items))

    async def _log(
        self, namespace: str, pod: str | None, container: str | None, redactor: Redactor, *, previous: bool
    ) -> str:
        if pod is None:
            return ""
        try:
            log = await self.cluster.logs(namespace, pod, container=container, previous=previous)
        except ClusterError:
            return ""  # there is no such log: it never started, or this is its first run
        if log.startswith(_NO_LOG):
            return ""
        return bounded_log(redactor.redact(log))


def _values(secret: Manifest) -> list[str]:
    values = []
    for encoded in mapping(secret, "data").values():
        try:
            values.append(base64.b64decode(str(encoded), validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return values


def _event(event: Manifest, redactor: Redactor) -> EvidenceEvent:
    return EvidenceEvent(
        at=event_last(event) or instant(event, "firstTimestamp"),
        type=text(event, "type"),
        reason=text(event, "reason"),
        object=f"{text(event, 'involvedObject', 'kind')}/{text(event, 'involvedObject', 'name')}",
        message=redactor.redact(text(event, "message")),
        count=max(1, number(event, "count") or 0),
    )
