"""Snapshots: taken, listed, restored, verified, deleted."""

import uuid
from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, data_of, present, segment
from cli.models import Operation
from cli.models_snapshots import Snapshot, SnapshotPolicy, Verification


class SnapshotCalls(Transport):
    """Snapshots: taken, listed, restored, verified, deleted."""

    def take_snapshot(self, environment_id: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        """Take a snapshot; the operation names it. A null in the body means something."""
        return self._operation(f"/v1/environments/{segment(environment_id)}/snapshots", body)

    def snapshots(
        self,
        environment_id: str | None = None,
        wanted: Mapping[str, JsonValue] | None = None,
        *,
        limit: int | None = None,
    ) -> Answer[list[Snapshot]]:
        """Return snapshots, the newest first; those of one environment, or of all.

        `wanted`: state, scheduled, verified, q, since, sort.
        """
        path = "/v1/environments/snapshots"
        if environment_id is not None:
            path = f"/v1/environments/{segment(environment_id)}/snapshots"
        return self._all(Snapshot, path, wanted, limit=limit)

    def snapshot(self, snapshot_id: str) -> Answer[Snapshot]:
        """Return one snapshot with its components."""
        return self._read(Snapshot, self._get(f"/v1/snapshots/{segment(snapshot_id)}"))

    def snapshot_manifest(self, snapshot_id: str) -> JsonValue:
        """Return all that is written down of a snapshot."""
        return self._get(f"/v1/snapshots/{segment(snapshot_id)}/manifest")

    def restore_snapshot(self, snapshot_id: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        """Restore a snapshot as a new environment, or its data in place."""
        return self._operation(f"/v1/snapshots/{segment(snapshot_id)}/restore", body)

    def verify_snapshot(self, snapshot_id: str, level: int | None) -> Answer[Verification]:
        """Ask for a verification; it is under way when this returns."""
        path = f"/v1/snapshots/{segment(snapshot_id)}/verify"
        body = present({"level": level})
        document = self._send("POST", path, body=body, idempotency_key=str(uuid.uuid4()))
        return self._read(Verification, data_of(document))

    def verification(self, snapshot_id: str, verification_id: str) -> Answer[Verification]:
        """Return one verification with what was found."""
        path = f"/v1/snapshots/{segment(snapshot_id)}/verifications/{segment(verification_id)}"
        return self._read(Verification, self._get(path))

    def verifications(
        self,
        snapshot_id: str,
        wanted: Mapping[str, JsonValue] | None = None,
        *,
        limit: int | None = None,
    ) -> Answer[list[Verification]]:
        """Return a snapshot's verifications, the newest first; `wanted`: state, level, sort."""
        path = f"/v1/snapshots/{segment(snapshot_id)}/verifications"
        return self._all(Verification, path, wanted, limit=limit)

    def snapshot_policy(self, environment_id: str) -> Answer[SnapshotPolicy]:
        """Return by what an environment is taken a snapshot of."""
        return self._read(SnapshotPolicy, self._get(_policy_path(environment_id)))

    def put_snapshot_policy(
        self, environment_id: str, body: Mapping[str, JsonValue]
    ) -> Answer[SnapshotPolicy]:
        """Set it, all of it. A null in the body means something."""
        return self._read(SnapshotPolicy, data_of(self._send("PUT", _policy_path(environment_id), body=body)))

    def remove_snapshot_policy(self, environment_id: str) -> None:
        """Take it away; what it brought about stays."""
        self._send("DELETE", _policy_path(environment_id))

    def delete_snapshot(self, snapshot_id: str) -> Answer[Snapshot]:
        """Take a snapshot out of use; what is stored of it goes afterwards."""
        document = self._send("DELETE", f"/v1/snapshots/{segment(snapshot_id)}")
        return self._read(Snapshot, data_of(document))

    def _operation(self, path: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        document = self._send("POST", path, body=body, idempotency_key=str(uuid.uuid4()))
        return self._read(Operation, data_of(document))


def _policy_path(environment_id: str) -> str:
    return f"/v1/environments/{segment(environment_id)}/snapshot-policy"
