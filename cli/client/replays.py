"""Replays: an earlier operation's steps once more."""

import uuid
from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, JsonObject, Transport, data_of, present, segment
from cli.models import Operation
from cli.models_replays import Replay, ReplayWish


class ReplayCalls(Transport):
    """Replays: an earlier operation's steps once more."""

    def preview_replay(self, environment_id: str, wish: ReplayWish) -> Answer[Replay]:
        """Say what a replay would do with each step."""
        path = f"/v1/environments/{segment(environment_id)}/replay"
        document = self._send("POST", path, params={"dry_run": True}, body=_body(wish))
        return self._read(Replay, data_of(document))

    def replay(self, environment_id: str, wish: ReplayWish) -> Answer[Operation]:
        """Run an operation's steps again."""
        path = f"/v1/environments/{segment(environment_id)}/replay"
        document = self._send("POST", path, body=_body(wish), idempotency_key=str(uuid.uuid4()))
        return self._read(Operation, data_of(document))

    def replays(
        self, environment_id: str, wanted: Mapping[str, JsonValue] | None = None
    ) -> Answer[list[Operation]]:
        """Return all replays of an environment; `wanted`: state, since, sort."""
        path = f"/v1/environments/{segment(environment_id)}/replays"
        return self._all(Operation, path, wanted)


def _body(wish: ReplayWish) -> JsonObject:
    return present(
        {
            "operationId": wish.operation,
            "fromStep": wish.from_step,
            "snapshotId": wish.snapshot,
            "masking": wish.masking,
            "runInit": wish.run_init or None,
            "target": None if wish.into is None else "new",
            "name": wish.into,
        }
    )
