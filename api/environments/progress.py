"""One client's stream of an environment's events over WebSocket, after a picture of where it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import Field
from pydantic_core import to_json

from api.envelope import ApiInput
from api.environments.service import known_environment
from api.events import PING_SECONDS, event_json, with_gaps
from api.open_streams import SLOW, STOPPING, OpenStream
from api.state import AppState


class Progress(ApiInput):
    """From where on."""

    after: int = Field(default=0, ge=0, le=10**15, description="Number of the last event that was received")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stream that may begin. `snapshot`: its first message; `known`: the last event's number by then."""

    state: AppState
    organization_id: str
    environment_id: str
    after: int
    known: int
    snapshot: str

    async def texts(self, stream: OpenStream) -> AsyncIterator[str]:
        """Yield the snapshot, then every event above `after` and each gap, until it is told to end."""
        tail = self.state.tail
        async with tail.subscribe(
            self.organization_id, self.environment_id, self.after, known=self.known
        ) as subscription:
            stream.on_end(subscription.close)
            yield self.snapshot
            while not subscription.closed:
                for event in await with_gaps(subscription, PING_SECONDS):
                    yield event_json(event).decode()
            stream.end(SLOW if subscription.slow else STOPPING)


async def prepare(state: AppState, organization_id: str, environment_id: str, after: int) -> Prepared:
    """Read where the environment stands. Raises NotFound."""
    record = await known_environment(state, organization_id, environment_id)
    snapshot = {
        "type": "snapshot",
        "environmentId": record.id,
        "number": record.last_event,
        "data": {"status": record.phase, "revision": record.revision, "name": record.name},
    }
    return Prepared(state, organization_id, record.id, after, record.last_event, to_json(snapshot).decode())
