"""The life of an environment: updates, revisions, checkpoints; stop, resume, scale."""

import uuid
from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, JsonObject, Transport, data_of, present, segment
from cli.models import Checkpoint, Diff, Environment, Operation, Revision, Update


class LifecycleCalls(Transport):
    """The life of an environment: updates, revisions, checkpoints; stop, resume, scale."""

    def put_environment(
        self, name: str, blueprint: str, *, plan: str | None, message: str | None, keep_failed: bool
    ) -> Answer[Operation | Update]:
        """Create or update the environment of this name."""
        body = present({"blueprint": blueprint, "plan": plan, "message": message, **_kept(keep_failed)})
        return self._updated("PUT", f"/v1/environments/by-name/{segment(name)}", body)

    def preview_update(self, environment_id: str, blueprint: str, *, plan: str | None) -> Answer[Update]:
        """Say what an update would do."""
        path = f"/v1/environments/{segment(environment_id)}/blueprint"
        body = present({"blueprint": blueprint, "plan": plan})
        return self._read(Update, data_of(self._send("PUT", path, params={"dry_run": True}, body=body)))

    def update_environment(
        self, environment_id: str, blueprint: str, *, plan: str | None, message: str | None, keep_failed: bool
    ) -> Answer[Operation | Update]:
        """Update an environment to another Blueprint."""
        body = present({"blueprint": blueprint, "plan": plan, "message": message, **_kept(keep_failed)})
        return self._updated("PUT", f"/v1/environments/{segment(environment_id)}/blueprint", body)

    def rollback(self, environment_id: str, target: str, *, keep_failed: bool) -> Answer[Operation | Update]:
        """Go back to a revision (a number) or a checkpoint."""
        body: JsonObject = {"revision": int(target)} if target.isdecimal() else {"checkpoint": target}
        body |= _kept(keep_failed)
        return self._updated("POST", f"/v1/environments/{segment(environment_id)}/rollback", body)

    def clone(self, environment_id: str, name: str) -> Answer[Environment]:
        """Create another environment of the same Blueprint."""
        path = f"/v1/environments/{segment(environment_id)}/clone"
        return self._read(Environment, self._post(path, {"name": name}))

    def act(self, environment_id: str, action: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        """Stop, resume or restart; `body` is the route's."""
        path = f"/v1/environments/{segment(environment_id)}/{action}"
        return self._read(Operation, self._post(path, body))

    def scale(self, environment_id: str, service: str, replicas: int) -> Answer[Operation | Update]:
        """Give one service another number of replicas."""
        path = f"/v1/environments/{segment(environment_id)}/scale"
        return self._updated("PATCH", path, {"service": service, "replicas": replicas})

    def extend(self, environment_id: str, minutes: int) -> Answer[Environment]:
        """Put off an environment's end."""
        path = f"/v1/environments/{segment(environment_id)}/extend"
        return self._read(Environment, self._post(path, {"minutes": minutes}))

    def revisions(
        self,
        environment_id: str,
        wanted: Mapping[str, JsonValue] | None = None,
        *,
        limit: int | None = None,
    ) -> Answer[list[Revision]]:
        """Return revisions that are kept, at most `limit`; `wanted`: q, principal, named, since, sort."""
        path = f"/v1/environments/{segment(environment_id)}/revisions"
        return self._all(Revision, path, wanted, limit=limit)

    def diff(self, environment_id: str, *, source: int | None, target: int | None) -> Answer[Diff]:
        """Compare two revisions."""
        path = f"/v1/environments/{segment(environment_id)}/diffs"
        return self._read(Diff, self._get(path, present({"from": source, "to": target})))

    def revision(self, environment_id: str, number: int) -> Answer[Revision]:
        """Return one revision; as it was written, it has its Blueprint."""
        path = f"/v1/environments/{segment(environment_id)}/revisions/{number}"
        return self._read(Revision, self._get(path))

    def checkpoints(
        self, environment_id: str, wanted: Mapping[str, JsonValue] | None = None
    ) -> Answer[list[Checkpoint]]:
        """Return all checkpoints; `wanted`: q, sort."""
        path = f"/v1/environments/{segment(environment_id)}/checkpoints"
        return self._all(Checkpoint, path, wanted)

    def add_checkpoint(self, environment_id: str, name: str, revision: int | None) -> Answer[Checkpoint]:
        """Name a revision."""
        path = f"/v1/environments/{segment(environment_id)}/checkpoints"
        return self._read(Checkpoint, self._post(path, present({"name": name, "revision": revision})))

    def remove_checkpoint(self, environment_id: str, name: str) -> None:
        """Take a checkpoint's name away."""
        self._send("DELETE", f"/v1/environments/{segment(environment_id)}/checkpoints/{segment(name)}")

    def _updated(self, method: str, path: str, body: Mapping[str, JsonValue]) -> Answer[Operation | Update]:
        """Send a change that may turn out to be none."""
        raw = data_of(self._send(method, path, body=body, idempotency_key=str(uuid.uuid4())))
        if isinstance(raw, dict) and "noop" in raw:
            return Answer(self._read(Update, raw).value, raw)
        return Answer(self._read(Operation, raw).value, raw)


def _kept(keep_failed: bool) -> JsonObject:
    """What a request says of a service that does not become ready; nothing: what is usual."""
    return {"onFailure": "keep"} if keep_failed else {}
