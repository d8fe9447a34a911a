"""A seed over HTTP: a request to a pod of the service, and a record in the cluster of what became of it.

No protocol makes a request happen exactly once. What is kept here is this: before each delivery a record says
that it may arrive; a delivery that may have arrived is only followed by another, with the same key, when the
seed says that the endpoint bears it; and what has been answered well is not sent again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.exceptions import ApplicationError

from activities._once import await_ready_pod
from activities._readiness import Wait
from activities._step import application_error, fail
from clusters.errors import AlreadyExists, Conflict, NotFound
from clusters.exchange import CONNECTION_FAULTS, Exchange
from clusters.fencing import fence_of
from clusters.gateway import Cluster
from clusters.tunnel import NotListening
from workflows.contracts.seed import SeedByHttp, SeedDone
from workflows.domain.evidence import LOG_BYTES, Evidence, bounded_log
from workflows.domain.failures import FailureKind, failure
from workflows.domain.json_reading import text
from workflows.domain.manifests import RecordState, SeedRecord, read_seed_record, seed_record
from workflows.domain.names import SEED
from workflows.domain.seeds import SeedOutcome
from workflows.domain.seeds_http import (
    FilledRequest,
    HttpRequest,
    Meaning,
    ValueUnfit,
    delivery_key,
    fill_request,
    meaning,
)

MOST_DELIVERIES: Final = 5
"""Of one attempt."""
PAUSE_SECONDS: Final = 1.0
"""Before the second delivery; twice as long before each further one."""
READY_AGAIN_SECONDS: Final = 60
"""How long a pod may take to be ready again after a delivery: it may have gone by that very request."""
ANSWER_LIMIT: Final = 2 * LOG_BYTES
"""Bytes of an answer that are read; its status says how it ended."""
QUOTED: Final = 300
"""Characters of an answer that stand in the failure's message."""

_MAY_BE_DONE: Final = (
    "It may have been done. When it may be sent again, retry it, which sends it with the same "
    "Idempotency-Key, or run it with force"
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer. `cut`: there was more of it."""

    status: int
    body: bytes
    cut: bool


@dataclass(frozen=True, slots=True)
class _Lost:
    """A delivery without a whole answer. `arrived`: it may have come to the service."""

    reason: str
    arrived: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """A record in the cluster. `own`: of this operation."""

    record: SeedRecord
    own: bool
    version: str
    """Its resourceVersion: what another attempt wrote meanwhile is not written over."""
    made: str


@dataclass(slots=True)
class HttpSeed:
    """One attempt at one operation's run of a seed over HTTP. `secrets`: values by parameter."""

    cluster: Cluster
    request: SeedByHttp
    wait: Wait
    secrets: dict[str, str]
    title: str
    _key: str = ""
    """The Idempotency-Key of its deliveries."""
    _sent_before: bool = False
    """Whether a delivery with that key may have arrived, with no answer that settles it."""
    _version: str = ""
    """resourceVersion of our own record; empty while there is none."""

    async def send_once(self) -> SeedDone:
        """See `SeedActivities.send_http`."""
        run = self.request.run
        known = await _known(self.cluster, self.request)
        own = next((each for each in known if each.own), None)
        # With force, what others did does not count; what this run's first attempt did does.
        counted = [each for each in known if not run.force or each.own or each.record.run == self._first]
        for each in counted:
            if each.record.state is RecordState.DONE:
                return _done(each.record, own=each.own)
        unsettled = [each for each in counted if each.record.state is RecordState.SENT]
        self._check_may_be_sent(own, unsettled)
        # A delivery that nobody knows the end of is one that the endpoint may know again, by its key.
        before = own or next(iter(unsettled), None)
        self._key = before.record.key if before else delivery_key(run.key, self.request.context.operation_id)
        self._sent_before = bool(unsettled)
        self._version = own.version if own else ""
        return await self._send(self._fill())

    async def _send(self, filled: FilledRequest) -> SeedDone:
        """Send the request until something is known of it, or it may not be sent again."""
        for turn in range(MOST_DELIVERIES):
            if turn:
                await asyncio.sleep(PAUSE_SECONDS * 2 ** (turn - 1))
            last = turn + 1 == MOST_DELIVERIES
            pod = await self._pod(again=turn > 0)
            self.wait.life.progress = f"delivery {turn + 1}"
            ended = await self._deliver(pod, filled)
            if isinstance(ended, _Lost):
                await self._note_lost(ended, last=last)
            elif (done := await self._judge(pod, ended, last=last)) is not None:
                return done
        raise AssertionError("the last delivery ends it")

    async def _note_lost(self, lost: _Lost, *, last: bool) -> None:
        """Note a delivery without an answer; ends the activity unless there may be another one."""
        self._sent_before = self._sent_before or lost.arrived
        if not self._sent_before and self._version:
            await self._write(RecordState.NOT_DONE)
        if last or (lost.arrived and not self._http.repeatable):
            advice = _MAY_BE_DONE if self._sent_before else "Nothing of it has come to the service"
            message = f"{self.title} had no answer: {lost.reason}. {advice}."
            fail(failure(FailureKind.HOOK_FAILED, message), final=True)

    async def _judge(self, pod: str, answer: _Answer, *, last: bool) -> SeedDone | None:
        """Return what the request came to, None when it is to be sent again; ends the activity otherwise."""
        told = f"{self.title} was answered with status {answer.status}"
        said = meaning(self._http, answer.status, sent_before=self._sent_before)
        if said is Meaning.DONE:
            return _done(await self._write(RecordState.DONE, answer.status, whatever=True), own=True)
        if said is Meaning.AGAIN and not last:
            self._sent_before = True
            return None
        if said is Meaning.REFUSED:
            await self._write(RecordState.NOT_DONE, answer.status)
        else:
            told = f"{told}. {_MAY_BE_DONE}"
        raise await self._failed(pod, told, answer)

    @property
    def _http(self) -> HttpRequest:
        http = self.request.run.content.http
        assert http is not None  # noqa: S101 - looked at when it was accepted
        return http

    @property
    def _first(self) -> str:
        return self.request.run.first or self.request.context.operation_id

    def _check_may_be_sent(self, own: _Known | None, unsettled: list[_Known]) -> None:
        """End the activity when an earlier delivery stands against another one."""
        run = self.request.run
        if own is not None and own.record.state is RecordState.NOT_DONE and own.record.status:
            message = f"{self.title} was answered with status {own.record.status}."
            fail(failure(FailureKind.HOOK_FAILED, message), final=True)
        if own is not None and own.record.state is RecordState.SENT and not self._http.repeatable:
            message = f"{self.title} was cut off after it was sent. {_MAY_BE_DONE}."
            fail(failure(FailureKind.HOOK_FAILED, message), final=True)
        if own is None and unsettled and run.first is None:
            message = f"{self.title} was sent when it was run before, and has had no answer. {_MAY_BE_DONE}."
            fail(failure(FailureKind.HOOK_FAILED, message), final=True)

    def _fill(self) -> FilledRequest:
        host = f"{self.wait.service}:{self.request.port}"
        values = self.request.run.values
        try:
            return fill_request(self._http, values, self.secrets, host=host, key=self._key)
        except ValueUnfit as error:
            fail(failure(FailureKind.BLUEPRINT_INVALID, f"The seed cannot be sent: {error}."), final=True)

    async def _pod(self, *, again: bool) -> str:
        wait = self.wait
        if again:
            wait = replace(wait, deadline=datetime.now(UTC) + timedelta(seconds=READY_AGAIN_SECONDS))
        return await await_ready_pod(self.cluster, wait, self.request.workload)

    async def _deliver(self, pod: str, filled: FilledRequest) -> _Answer | _Lost:
        """Send the request once, after it was written down; a ClusterError says that it was not sent."""

        async def write_down() -> None:
            await self._write(RecordState.SENT)

        return await deliver(
            self.cluster,
            (self.wait.context.namespace, pod, self.request.port),
            filled,
            seconds=self._http.timeout_seconds,
            before=write_down,
        )

    async def _write(self, state: RecordState, status: int = 0, *, whatever: bool = False) -> SeedRecord:
        """Write our record down. A twin that was faster decides, unless `whatever`: it is looked at again."""
        record = SeedRecord(state, self._key, self._first, status)
        manifest = seed_record(self.request.context, self.request.run, record)
        try:
            if not self._version:
                written = await self.cluster.create(manifest)
            else:
                metadata = manifest["metadata"]
                assert isinstance(metadata, dict)  # noqa: S101 - as it was just made
                known = {} if whatever else {"resourceVersion": self._version}
                written = await self.cluster.apply({**manifest, "metadata": {**metadata, **known}})
        except (AlreadyExists, Conflict):
            message = "Another attempt sends the seed; what it comes to is looked at again."
            fail(failure(FailureKind.CLUSTER_UNAVAILABLE, message))
        self._version = written.resource_version
        return record

    async def _failed(self, pod: str, told: str, answer: _Answer) -> ApplicationError:
        """Return the failure with what the service answered, its secrets taken out."""
        wait = self.wait
        redactor = await wait.evidence.redactor(wait.context)
        said = redactor.redact(answer.body.decode(errors="replace"))
        if answer.cut:
            # The end may be half a secret, which is not found.
            said = said[: len(said) // 2]
        evidence = Evidence(
            pod=pod, container=wait.service, collected_at=datetime.now(UTC), log=bounded_log(said)
        )
        keys = await wait.evidence.store(wait.context, wait.service, evidence)
        quoted = " ".join(said.split())[:QUOTED]
        message = f"{told}: {quoted}" if quoted else f"{told}."
        return application_error(failure(FailureKind.HOOK_FAILED, message, evidence=keys), final=True)


_REFUSAL_SECONDS: Final = 0.2
"""A node says within milliseconds that nothing listens."""


async def deliver(
    cluster: Cluster,
    where: tuple[str, str, int],
    filled: FilledRequest,
    *,
    seconds: float,
    before: Callable[[], Awaitable[None]],
) -> _Answer | _Lost:
    """Send a request to (namespace, pod, port) and read its answer, in at most so many seconds.

    `before` is awaited when the way to the pod is open, directly before the first byte. Raises ClusterError
    when nothing was sent, for other reasons than that the pod is gone; and what `before` raises.
    """
    begun = False
    try:
        async with cluster.tunnel(*where) as tunnel:
            await tunnel.await_refusal(_REFUSAL_SECONDS)
            await before()
            begun = True
            async with asyncio.timeout(seconds):
                return await _exchange(Exchange(tunnel), filled)
    except NotListening as error:
        return _Lost(str(error), arrived=False)
    except NotFound as error:
        if begun:
            return _Lost(str(error), arrived=True)
        return _Lost(f"pod {where[1]} is gone", arrived=False)
    except TimeoutError:
        return _Lost(f"it did not come within {seconds:g} s", arrived=True)
    except CONNECTION_FAULTS as error:
        if not begun:
            raise
        return _Lost(str(error), arrived=True)


async def _exchange(exchange: Exchange, filled: FilledRequest) -> _Answer:
    await exchange.begin(filled.method, filled.target, [*filled.headers])

    async def upload() -> None:
        if filled.body:
            await exchange.send(filled.body)
        await exchange.end()

    # An answer may come before the whole body was taken: a refusal of it, for instance.
    sending = asyncio.create_task(upload())
    try:
        status, _ = await exchange.head()
        body = bytearray()
        while (chunk := await exchange.body(_NEVER)) is not None:
            body += chunk
            if len(body) > ANSWER_LIMIT:
                return _Answer(status, bytes(body[:ANSWER_LIMIT]), cut=True)
        return _Answer(status, bytes(body), cut=False)
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


_NEVER: Final = 86_400.0
"""Seconds of silence that end an answer: the time for the whole of it is shorter."""


async def _known(cluster: Cluster, request: SeedByHttp) -> list[_Known]:
    """All records of the seed, the oldest first."""
    listing = await cluster.list("ConfigMap", request.context.namespace, labels={SEED: request.label})
    found = [
        _Known(
            record,
            own=fence_of(live) == request.context.fence,
            version=text(live, "metadata", "resourceVersion"),
            made=f"{text(live, 'metadata', 'creationTimestamp')} {text(live, 'metadata', 'name')}",
        )
        for live in listing.items
        if (record := read_seed_record(live)) is not None
    ]
    return sorted(found, key=lambda each: each.made)


def _done(record: SeedRecord, *, own: bool) -> SeedDone:
    outcome = SeedOutcome.APPLIED if own else SeedOutcome.ALREADY
    return SeedDone(outcome=outcome, status=record.status, key=record.key)
