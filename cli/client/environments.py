"""Environments: make, look at, change and delete them."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, data_of, present, segment
from cli.models import EndpointList, Environment, EnvironmentStatus, LogEntry, Operation, Topology


class EnvironmentCalls(Transport):
    """Environments: make, look at, change and delete them."""

    def create_environment(
        self, blueprint: str, *, name: str | None, plan: str | None, snapshot_id: str | None = None
    ) -> Answer[Environment]:
        """Create an environment from the text of a Blueprint; its `operation` provisions it.

        `snapshot_id`: the one whose data its services begin with.
        """
        body = present({"blueprint": blueprint, "name": name, "plan": plan, "snapshotId": snapshot_id})
        return self._read(Environment, self._post("/v1/environments", body))

    def environments(
        self,
        *,
        name: str | None = None,
        status: Sequence[str] = (),
        label: Sequence[str] = (),
        q: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Answer[list[Environment]]:
        """Return environments that meet all of this, over as many pages as that takes.

        `status`: those that have one of them; without one the API leaves out those that were deleted.
        `label`: `KEY=VALUE`, or `KEY`, which has any. `q`: part of the name. `limit`: at most so many.
        """
        params = present({"name": name, "q": q, "sort": sort})
        params |= {key: list(values) for key, values in (("status", status), ("label", label)) if values}
        pages = self._pages("/v1/environments", params, limit=limit)
        found = [
            item for item in pages if name is None or (isinstance(item, dict) and item.get("name") == name)
        ]
        return self._read(list[Environment], found)

    def environment(self, environment_id: str) -> Answer[Environment]:
        """Return one environment."""
        return self._read(Environment, self._get(f"/v1/environments/{segment(environment_id)}"))

    def change_environment(
        self, environment_id: str, settings: Mapping[str, JsonValue]
    ) -> Answer[Environment]:
        """Change settings; those that are not named stay. Sending it twice is the same as once."""
        path = f"/v1/environments/{segment(environment_id)}"
        return self._read(Environment, data_of(self._send("PATCH", path, body=settings)))

    def delete_environment(self, environment_id: str, *, force: bool) -> Answer[Operation]:
        """Delete an environment; answers the operation, the running one when there is one already.

        `force` takes off foreign finalizers that hold the deletion up.
        """
        document = self._send(
            "DELETE", f"/v1/environments/{segment(environment_id)}", params={"force": True} if force else {}
        )
        return self._read(Operation, data_of(document))

    def retry_environment(self, environment_id: str) -> Answer[Operation]:
        """Go on from where the last operation failed."""
        return self._read(Operation, self._post(f"/v1/environments/{segment(environment_id)}/retry", {}))

    def status(self, environment_id: str) -> Answer[EnvironmentStatus]:
        """Return the live status of an environment and its services."""
        return self._read(EnvironmentStatus, self._get(f"/v1/environments/{segment(environment_id)}/status"))

    def logs(self, environment_id: str, params: Mapping[str, JsonValue]) -> Answer[list[LogEntry]]:
        """Return recent log lines; `params`: service, tail (lines), previous, sinceSeconds."""
        raw = self._get(f"/v1/environments/{segment(environment_id)}/logs", present(params))
        return self._read(list[LogEntry], raw)

    def topology(self, environment_id: str) -> Answer[Topology]:
        """Return the graph of services."""
        return self._read(Topology, self._get(f"/v1/environments/{segment(environment_id)}/topology"))

    def endpoints(self, environment_id: str, *, check: str) -> Answer[EndpointList]:
        """Return how each service is reached; `check`: `ready` or `http`, how it is seen if it answers."""
        path = f"/v1/environments/{segment(environment_id)}/endpoints"
        return self._read(EndpointList, self._get(path, {"check": check}))
