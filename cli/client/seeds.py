"""Seeds: packages, and runs of them."""

import uuid
from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, data_of, present, segment
from cli.models import Operation
from cli.models_seeds import SeedPackage


class SeedCalls(Transport):
    """Seeds: packages, and runs of them."""

    def publish_seed(self, body: Mapping[str, JsonValue]) -> Answer[SeedPackage]:
        """Publish a version of a package."""
        return self._read(SeedPackage, self._post("/v1/seeds/publish", body))

    def search_seeds(self, text: str) -> Answer[list[SeedPackage]]:
        """Return the newest version of each package that has all the words."""
        return self._read(list[SeedPackage], self._get("/v1/seeds/search", present({"q": text or None})))

    def seed_package(self, name: str, version: str | None) -> Answer[SeedPackage]:
        """Return one version of a package, the newest release if none is named."""
        return self._read(SeedPackage, self._get(f"/v1/seeds/{segment(name)}", present({"version": version})))

    def seed_versions(self, name: str) -> Answer[list[SeedPackage]]:
        """Return all versions of a package, the highest first."""
        return self._read(list[SeedPackage], self._get(f"/v1/seeds/{segment(name)}/versions"))

    def delete_seed(self, name: str, version: str | None) -> Answer[list[SeedPackage]]:
        """Remove a version of a package, all if none is named; return what went."""
        answer = self._send("DELETE", f"/v1/seeds/{segment(name)}", params=present({"version": version}))
        return self._read(list[SeedPackage], data_of(answer))

    def run_seed(self, name: str, environment_id: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        """Run a package into an environment."""
        path = f"/v1/seeds/run/{segment(name)}/{segment(environment_id)}"
        return self._accepted(path, body)

    def seed(self, environment_id: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        """Run a seed that is written in the request."""
        return self._accepted(f"/v1/environments/{segment(environment_id)}/seed", body)

    def _accepted(self, path: str, body: Mapping[str, JsonValue]) -> Answer[Operation]:
        document = self._send("POST", path, body=present(body), idempotency_key=str(uuid.uuid4()))
        return self._read(Operation, data_of(document))
