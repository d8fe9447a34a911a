"""A seed over HTTP against an application that answers as told: what is sent, and what is remembered."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import h11
import pytest
from temporalio.exceptions import ApplicationError

from activities import _seed_http
from activities._readiness import Wait
from activities._seed_http import MOST_DELIVERIES, HttpSeed
from clusters.errors import AlreadyExists, Conflict, NotFound, Unavailable
from clusters.gateway import Cluster
from clusters.objects import Manifest
from clusters.tunnel import Cut, NotListening
from tests.helpers.contexts import CONTEXT
from workflows.contracts.seed import SeedByHttp, SeedDone
from workflows.domain.environment import ObjectName
from workflows.domain.failures import Failure, FailureKind
from workflows.domain.json_reading import text
from workflows.domain.manifests import read_seed_record, seed_label
from workflows.domain.redaction import Redactor
from workflows.domain.seeds import SeedContent, SeedOutcome, SeedRun

TOKEN = "planted-token-4711"
Answer = tuple[int, bytes] | Exception
Step = Answer | Callable[[], Answer]


class Died(BaseException):
    """The worker's process ends here."""


@dataclass
class App:
    """The service: answers in turn, the last one for ever; by then the request is whole."""

    answers: list[Step]
    requests: list[tuple[h11.Request, bytes]] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        return [dict(head.headers)[b"idempotency-key"].decode() for head, _ in self.requests]

    def answer(self) -> Answer:
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return given() if callable(given) else given


class Pipe:
    """A connection to the application."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._http = h11.Connection(h11.SERVER)
        self._body = b""
        self._head: h11.Request | None = None
        self._whole = asyncio.Event()
        self._answered = False

    async def send(self, data: bytes) -> None:
        self._http.receive_data(data)
        while (event := self._http.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
            if isinstance(event, h11.Request):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert self._head is not None
                self._app.requests.append((self._head, self._body))
                self._whole.set()
                return

    async def await_refusal(self, _seconds: float) -> None:
        """Somebody listens."""

    async def receive(self) -> bytes:
        await self._whole.wait()
        if self._answered:
            return b""
        self._answered = True
        answer = self._app.answer()
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body


@dataclass
class Space:
    """The cluster, as far as a seed over HTTP looks at it."""

    app: App
    objects: dict[str, Manifest] = field(default_factory=dict)
    before_write: Callable[[Manifest], None] = lambda _: None
    unreachable: list[Exception] = field(default_factory=list)
    version: int = 0

    @property
    def states(self) -> list[tuple[str, int]]:
        """State and status of each record, the oldest first."""
        records = [read_seed_record(each) for each in self.objects.values()]
        return [(str(each.state), each.status) for each in records if each is not None]

    async def list(self, kind: str, namespace: str, *, labels: dict[str, str]) -> SimpleNamespace:
        assert (kind, namespace) == ("ConfigMap", CONTEXT.namespace)
        assert labels
        return SimpleNamespace(items=tuple(self.objects.values()))

    async def create(self, manifest: Manifest) -> SimpleNamespace:
        if text(manifest, "metadata", "name") in self.objects:
            raise AlreadyExists("it is there")
        return self._store(manifest)

    async def apply(self, manifest: Manifest) -> SimpleNamespace:
        live = self.objects[text(manifest, "metadata", "name")]
        wanted = text(manifest, "metadata", "resourceVersion")
        if wanted and wanted != text(live, "metadata", "resourceVersion"):
            raise Conflict("it was changed")
        return self._store(manifest)

    def _store(self, manifest: Manifest) -> SimpleNamespace:
        self.before_write(manifest)
        self.version += 1
        metadata = cast("dict[str, Any]", manifest["metadata"])
        more = {
            "resourceVersion": str(self.version),
            "creationTimestamp": f"2026-01-01T00:00:{self.version:02}Z",
        }
        self.objects[metadata["name"]] = {**manifest, "metadata": {**metadata, **more}}
        return SimpleNamespace(resource_version=str(self.version))

    @asynccontextmanager
    async def tunnel(self, namespace: str, pod: str, port: int) -> AsyncIterator[Pipe]:
        assert (namespace, pod, port) == (CONTEXT.namespace, "web-0", 8080)
        if self.unreachable:
            raise self.unreachable.pop(0)
        yield Pipe(self.app)


class Collector:
    """Keeps evidence."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def redactor(self, context: object) -> Redactor:
        return Redactor([TOKEN])

    async def store(self, context: object, step: str, evidence: Any) -> tuple[str, ...]:
        self.kept.append(evidence.log)
        return ("evidence/1",)


def space(*answers: Step) -> Space:
    return Space(App([*answers]))


def by_http(operation: int = 1, **changed: Any) -> SeedByHttp:
    http = {
        "path": "/visits/${{ who }}",
        "headers": {"Authorization": "Bearer ${{ token }}"},
        "body": {"who": "${{ who }}"},
        **changed.pop("http", {}),
    }
    parameters = [{"name": "who"}, {"name": "token", "secret": True}]
    run = SeedRun(
        content=SeedContent.model_validate({"type": "http", "http": http, "parameters": parameters}),
        service="web",
        digest="sha256:abc",
        values={"who": "ada"},
        secrets={"token": "token"},
        key="seed/env_1/abc",
    )
    run = run.model_copy(update=changed)
    return SeedByHttp(
        context=CONTEXT.model_copy(update={"operation_id": f"op_{operation}", "fence": operation}),
        run=run,
        workload=ObjectName(kind="Deployment", name="web"),
        port=8080,
        label=seed_label(run),
        ready_by=datetime.now(UTC),
    )


REPEATABLE: dict[str, Any] = {"http": {"idempotent": True}}


async def attempt(
    cluster: Space, request: SeedByHttp, collector: Collector | None = None, token: str = TOKEN
) -> SeedDone:
    """One attempt of the activity."""
    wait = Wait(
        context=request.context,
        service="web",
        view=cast("Any", None),
        life=cast("Any", SimpleNamespace(progress="")),
        evidence=cast("Any", collector or Collector()),
        deadline=request.ready_by,
        applied_at=request.ready_by,
    )
    return await HttpSeed(cast("Cluster", cluster), request, wait, {"token": token}, "The seed").send_once()


async def failing(cluster: Space, request: SeedByHttp, **more: Any) -> Failure:
    """The failure that an attempt ends with, for good."""
    with pytest.raises(ApplicationError) as ended:
        await attempt(cluster, request, **more)
    assert ended.value.non_retryable
    [told] = ended.value.details
    assert isinstance(told, Failure)
    return told


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses; there is always a ready pod."""

    async def ready(*_: object) -> str:
        return "web-0"

    monkeypatch.setattr(_seed_http, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(_seed_http, "await_ready_pod", ready)


async def test_it_is_sent_once_and_then_known() -> None:
    cluster = space((201, b"made"))
    done = await attempt(cluster, by_http())
    assert (done.outcome, done.status, [done.key]) == (SeedOutcome.APPLIED, 201, cluster.app.keys)
    [(head, body)] = cluster.app.requests
    assert (head.method, head.target, json.loads(body)) == (b"POST", b"/visits/ada", {"who": "ada"})
    assert dict(head.headers)[b"authorization"] == f"Bearer {TOKEN}".encode()
    assert dict(head.headers)[b"host"] == b"web:8080"
    assert cluster.states == [("done", 201)]
    # Its answer to Temporal was lost; and somebody asks again.
    assert (await attempt(cluster, by_http())).outcome is SeedOutcome.APPLIED
    again = await attempt(cluster, by_http(2))
    assert (again.outcome, again.key) == (SeedOutcome.ALREADY, done.key)
    assert len(cluster.app.requests) == 1
    assert TOKEN not in json.dumps(list(cluster.objects.values()))


async def test_force_sends_it_anew_with_another_key() -> None:
    cluster = space((200, b""))
    await attempt(cluster, by_http())
    assert (await attempt(cluster, by_http(2, force=True))).outcome is SeedOutcome.APPLIED
    assert len(set(cluster.app.keys)) == 2
    # A retry of a forced one keeps to what that did; who follows finds that it has run.
    assert (await attempt(cluster, by_http(3, force=True, first="op_2"))).outcome is SeedOutcome.ALREADY
    assert (await attempt(cluster, by_http(4))).outcome is SeedOutcome.ALREADY
    assert len(cluster.app.requests) == 2


@pytest.mark.parametrize("lost", [Cut("it broke"), Unavailable("it is away")])
async def test_one_that_may_be_repeated_is_until_it_is_answered(lost: Exception) -> None:
    cluster = space(lost, (503, b""), (409, b"at work"), (201, b""))
    done = await attempt(cluster, by_http(**REPEATABLE))
    assert done.outcome is SeedOutcome.APPLIED
    assert cluster.app.keys == [done.key] * 4
    assert cluster.states == [("done", 201)]


async def test_one_that_may_not_be_repeated_is_not() -> None:
    cluster = space(Cut("it broke"))
    told = await failing(cluster, by_http())
    assert told.kind is FailureKind.HOOK_FAILED
    assert "it broke. It may have been done." in told.message
    assert cluster.states == [("sent", 0)]
    # Nor by another operation, until somebody says that it may: then with the same key.
    refused = await failing(cluster, by_http(2))
    assert "was sent when it was run before" in refused.message
    cluster.app.answers = [(201, b"")]
    assert (await attempt(cluster, by_http(3, first="op_2"))).outcome is SeedOutcome.APPLIED
    assert len(cluster.app.keys) == 2
    assert len(set(cluster.app.keys)) == 1
    assert (await attempt(cluster, by_http(4))).outcome is SeedOutcome.ALREADY


async def test_what_did_not_arrive_may_always_be_sent() -> None:
    cluster = space(NotListening("connection refused"), (201, b""))
    cluster.unreachable = [NotFound("no such pod")]
    assert (await attempt(cluster, by_http())).outcome is SeedOutcome.APPLIED
    cluster = space(NotListening("connection refused"))
    told = await failing(cluster, by_http())
    assert "Nothing of it has come to the service" in told.message
    assert len(cluster.app.requests) == MOST_DELIVERIES
    assert cluster.states == [("not_done", 0)]
    cluster.app.answers = [(201, b"")]
    assert (await attempt(cluster, by_http(2))).outcome is SeedOutcome.APPLIED


async def test_a_cluster_that_is_away_before_it_is_sent_is_no_end() -> None:
    cluster = space((201, b""))
    cluster.unreachable = [Unavailable("it is away")]
    with pytest.raises(Unavailable):
        await attempt(cluster, by_http())
    assert cluster.objects == {}
    assert (await attempt(cluster, by_http())).outcome is SeedOutcome.APPLIED


async def test_a_refusal_is_final_told_and_no_bar_to_a_new_run() -> None:
    collector = Collector()
    cluster = space((422, f"who is {TOKEN}?\nnobody".encode()))
    told = await failing(cluster, by_http(**REPEATABLE), collector=collector)
    assert told.message == "The seed was answered with status 422: who is [redacted]? nobody"
    assert told.evidence == ("evidence/1",)
    assert collector.kept == ["who is [redacted]?\nnobody"]
    assert cluster.states == [("not_done", 422)]
    # The worker died before it could say so.
    assert "status 422" in (await failing(cluster, by_http(**REPEATABLE))).message
    assert len(cluster.app.requests) == 1
    cluster.app.answers = [(201, b"")]
    assert (await attempt(cluster, by_http(2, **REPEATABLE))).outcome is SeedOutcome.APPLIED
    assert len(set(cluster.app.keys)) == 2


async def test_a_refused_repetition_says_nothing_about_the_first() -> None:
    cluster = space(Cut("it broke"), (422, b"the key is used"))
    told = await failing(cluster, by_http(**REPEATABLE))
    assert "status 422. It may have been done." in told.message
    assert cluster.states == [("sent", 0)]


@pytest.mark.parametrize("operation", [1, 2])
async def test_a_refusal_after_a_death_says_nothing_about_what_was_sent_before(operation: int) -> None:
    def dies() -> Answer:
        raise Died

    cluster = space(dies, (422, b"the key is used"))
    with pytest.raises(Died):
        await attempt(cluster, by_http(**REPEATABLE))
    # The same operation's next attempt, or somebody's retry of it.
    again = by_http(operation, **REPEATABLE, first=None if operation == 1 else "op_1")
    told = await failing(cluster, again)
    assert "status 422. It may have been done." in told.message
    assert {state for state, _ in cluster.states} == {"sent"}


async def test_repetitions_have_an_end() -> None:
    cluster = space((500, b"broken on purpose"))
    told = await failing(cluster, by_http(**REPEATABLE))
    assert "broken on purpose" in told.message
    assert "It may have been done" in told.message
    assert cluster.app.keys == [cluster.app.keys[0]] * MOST_DELIVERIES
    assert cluster.states == [("sent", 0)]
    cluster.app.answers = [(500, b"")]
    cluster.app.requests.clear()
    assert "status 500" in (await failing(cluster, by_http(2, first="op_1"))).message
    assert len(cluster.app.requests) == 1


async def test_a_long_answer_is_not_read_to_its_end() -> None:
    collector = Collector()
    cluster = space((400, b"x" * 1_000_000))
    await failing(cluster, by_http(), collector=collector)
    assert 0 < len(collector.kept[0]) <= _seed_http.ANSWER_LIMIT // 2
    assert (await attempt(space((200, b"x" * 1_000_000)), by_http())).status == 200


async def test_a_secret_that_no_header_holds_is_never_sent() -> None:
    cluster = space((201, b""))
    told = await failing(cluster, by_http(), token="planted\nline")
    assert "parameter token" in told.message
    assert "planted" not in told.message
    assert (cluster.app.requests, cluster.objects) == ([], {})


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_worker_that_dies_before_the_answer(repeatable: bool) -> None:
    def dies() -> Answer:
        raise Died

    cluster = space(dies, (201, b""))
    request = by_http(http={"idempotent": repeatable})
    with pytest.raises(Died):
        await attempt(cluster, request)
    assert cluster.states == [("sent", 0)]
    if repeatable:
        done = await attempt(cluster, request)
        assert (done.outcome, cluster.app.keys) == (SeedOutcome.APPLIED, [done.key] * 2)
        return
    told = await failing(cluster, request)
    assert "was cut off after it was sent. It may have been done." in told.message
    assert len(cluster.app.requests) == 1


async def test_a_worker_that_dies_before_a_write() -> None:
    for state, sent in (("sent", 0), ("done", 1)):
        cluster = space((201, b""))

        def dies(manifest: Manifest, state: str = state) -> None:
            if text(manifest, "data", "state") == state:
                raise Died

        cluster.before_write = dies
        with pytest.raises(Died):
            await attempt(cluster, by_http(**REPEATABLE))
        assert len(cluster.app.requests) == sent
        cluster.before_write = lambda _: None
        assert (await attempt(cluster, by_http(**REPEATABLE))).outcome is SeedOutcome.APPLIED
        assert len(set(cluster.app.keys)) == 1


async def test_a_twin_that_was_faster_decides() -> None:
    cluster = space((201, b""))
    request = by_http()

    def twin() -> Answer:
        # While this attempt waits for its answer, which is a refusal, another one has had a better one.
        [(name, live)] = cluster.objects.items()
        data = cast("dict[str, Any]", live["data"])
        metadata = cast("dict[str, Any]", live["metadata"])
        cluster.objects[name] = {
            **live,
            "metadata": {**metadata, "resourceVersion": "99"},
            "data": {**data, "state": "done", "status": "201"},
        }
        return 409, b"a conflict"

    cluster.app.answers = [twin]
    with pytest.raises(ApplicationError) as ended:
        await attempt(cluster, request)
    assert not ended.value.non_retryable
    assert (await attempt(cluster, request)).outcome is SeedOutcome.APPLIED
