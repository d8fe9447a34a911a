"""The service proxy: a request goes into the cluster and its answer comes back, both as they arrive.

Each request has a connection of its own to one ready pod. Nothing is held but the piece that is being handed
on, and who reads slowly slows the application, not this process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog
from fastapi import Request, Response
from starlette.types import Message, Receive, Scope, Send

from activities.db.records import Actor
from api.access import waking_page
from api.access.headers import request_headers, response_headers
from api.access.paths import service_path, service_query
from api.access.target import RETRY_SECONDS, ServiceTarget
from api.leaving import ClientGone
from api.problems import ProblemError, RequestProblem
from api.state import AppState
from clusters.errors import ClusterError, NotFound
from clusters.exchange import Exchange, UpstreamBroke, UpstreamSilent

if TYPE_CHECKING:
    from clusters.gateway import Cluster

_log = structlog.get_logger("perdure.api.proxy")
_NOT_READY: Final = "the pod went while it was asked"


async def forward(
    request: Request, state: AppState, actor: Actor, environment_id: str, named: str
) -> Response:
    """Prepare a request's way to a service; the answer that is returned takes it.

    An environment that sleeps for want of use is woken first: nothing of the request has been sent by then.
    Raises NotFound, ClusterError, and ProblemError for what is wrong with request or service.
    """
    path = service_path(request.scope["raw_path"])
    query = service_query(request.scope["query_string"])
    try:
        target, held = await state.wakes.target(state, actor, environment_id, named)
    except ProblemError as error:
        if error.kind is RequestProblem.WAKING and waking_page.wanted(request):
            return waking_page.page(error)
        raise
    try:
        headers = request_headers(
            request.scope["headers"],
            host=target.host,
            prefix=target.prefix,
            request_id=request.state.request_id,
        )
    except ValueError as error:
        raise ProblemError(
            RequestProblem.BAD_REQUEST, f"The request cannot be handed on: {error}."
        ) from error
    cluster = await state.clusters.get(target.record.cluster)
    state.activity.note(actor.organization_id, target.record.id)
    return Forwarded(state, cluster, target, actor.organization_id, (path, query), headers, held=held)


def _beginning_with(first: Message, receive: Receive) -> Receive:
    """Give out a message that was taken, then the others."""
    taken = [first]

    async def again() -> Message:
        return taken.pop() if taken else await receive()

    return again


class Forwarded(Response):
    """An answer that is fetched while it is given."""

    def __init__(
        self,
        state: AppState,
        cluster: Cluster,
        target: ServiceTarget,
        organization_id: str,
        address: tuple[bytes, bytes],
        headers: list[tuple[bytes, bytes]],
        *,
        held: bool,
    ) -> None:
        super().__init__()
        self._held = held
        self._state = state
        self._cluster = cluster
        self._target = target
        self._organization_id = organization_id
        self._path, query = address
        self._address = self._path + (b"?" + query if query else b"")
        self._sent_headers = headers
        self._uploaded = asyncio.Event()
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry request and answer. ProblemError as long as the answer has not begun.

        After that only a broken connection says that it is not whole: it returns without the end.
        """
        if self._held:
            # Who asked may have given up, and asked again: only one of the two is to reach the application.
            first = await receive()
            if first["type"] == "http.disconnect":
                return
            receive = _beginning_with(first, receive)
        try:
            with self._state.access.admitted():
                async with asyncio.timeout(self._state.settings.proxy_total_seconds):
                    await self._exchange(scope["method"], receive, send)
        except ClientGone:
            return
        except TimeoutError as error:
            self._fail(RequestProblem.UPSTREAM_TIMEOUT, "the exchange took too long", error)
        except UpstreamSilent as error:
            self._fail(RequestProblem.UPSTREAM_TIMEOUT, str(error), error)
        except NotFound as error:
            self._fail(RequestProblem.SERVICE_NOT_READY, _NOT_READY, error)
        except UpstreamBroke as error:
            self._fail(RequestProblem.UPSTREAM_FAILED, str(error), error)
        except ClusterError as error:
            self._fail_by_cluster(error)

    async def _exchange(self, method: str, receive: Receive, send: Send) -> None:
        pod = self._target.pod
        async with self._cluster.tunnel(
            self._target.record.namespace, pod, self._target.http_port(pod)
        ) as tunnel:
            exchange = Exchange(tunnel)
            try:
                await exchange.begin(method, self._address, self._sent_headers)
            except ValueError as error:
                raise ProblemError(
                    RequestProblem.BAD_REQUEST, f"The request cannot be handed on: {error}."
                ) from error
            uploading = asyncio.create_task(self._upload(exchange, receive))
            answering = asyncio.create_task(self._answer(exchange, send))
            try:
                await asyncio.wait({uploading, answering}, return_when=asyncio.FIRST_COMPLETED)
                await (answering if answering.done() else uploading)
            finally:
                for task in (uploading, answering):
                    task.cancel()
                await asyncio.gather(uploading, answering, return_exceptions=True)

    async def _upload(self, exchange: Exchange, receive: Receive) -> None:
        """Hand the body on, then wait for the client to hang up; ends by an exception only."""
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if self._uploaded.is_set():
                continue
            try:
                if message.get("body"):
                    await exchange.send(message["body"])
                    self._note()
                if not message.get("more_body"):
                    self._uploaded.set()
                    await exchange.end()
            except ValueError as error:
                raise ProblemError(
                    RequestProblem.BAD_REQUEST, "The body is not as long as was announced."
                ) from error

    async def _answer(self, exchange: Exchange, send: Send) -> None:
        status, headers = await self._head(exchange)
        self._begun = True
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": response_headers(
                    headers, prefix=self._target.prefix, path=self._path, hosts=self._target.hosts
                ),
            }
        )
        left = self._state.settings.proxy_response_bytes
        while (chunk := await exchange.body(self._state.settings.proxy_idle_seconds)) is not None:
            left -= len(chunk)
            if left < 0:
                raise UpstreamBroke("the answer is larger than the proxy hands on")
            self._note()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _head(self, exchange: Exchange) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Wait for the answer to begin: as long as the body is on its way, and the settings' time after."""
        limit = self._state.settings.proxy_answer_seconds
        reading = asyncio.create_task(exchange.head())
        whole = asyncio.create_task(self._uploaded.wait())
        try:
            await asyncio.wait({reading, whole}, return_when=asyncio.FIRST_COMPLETED)
            done, _ = await asyncio.wait({reading}, timeout=limit)
            if not done:
                raise UpstreamSilent(f"no answer began within {limit:g} s")
            return reading.result()
        finally:
            whole.cancel()
            reading.cancel()
            await asyncio.gather(reading, whole, return_exceptions=True)

    def _note(self) -> None:
        self._state.activity.note(self._organization_id, self._target.record.id)

    def _fail_by_cluster(self, error: ClusterError) -> None:
        # Late, like the gateway: `aiohttp` comes with it.
        from clusters.tunnel import Cut, Refused  # noqa: PLC0415

        if isinstance(error, Refused | Cut):
            self._fail(RequestProblem.UPSTREAM_FAILED, str(error), error)
        elif self._begun:
            self._fail(RequestProblem.UPSTREAM_FAILED, "the cluster's side broke", error)
        else:
            raise error

    def _fail(self, kind: RequestProblem, why: str, error: Exception) -> None:
        """Answer a problem, or when an answer has begun leave it unfinished."""
        self._state.targets.forget(self._target)
        if self._begun:
            _log.info("proxied_answer_cut", environment=self._target.record.id, why=why)
            return
        headers: dict[str, Any] = {}
        if kind is RequestProblem.SERVICE_NOT_READY:
            headers["Retry-After"] = RETRY_SECONDS
        raise ProblemError(
            kind,
            f"The service {self._target.service.name!r} at port {self._target.port.container_port}: {why}.",
            headers=headers,
        ) from error
