"""Logins for container registries."""

from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, JsonObject, Transport, data_of, segment
from cli.models import RegistryCredential


class RegistryCalls(Transport):
    """Logins for container registries."""

    def registry_credentials(
        self, wanted: Mapping[str, JsonValue] | None = None
    ) -> Answer[list[RegistryCredential]]:
        """Return the organisation's registry credentials, without passwords; `wanted`: registry, q, sort."""
        return self._all(RegistryCredential, "/v1/registry-credentials", wanted)

    def add_registry_credential(
        self, *, name: str, registry: str, username: str, password: str
    ) -> Answer[RegistryCredential]:
        """Store a login for a container registry."""
        body: JsonObject = {"name": name, "registry": registry, "username": username, "password": password}
        return self._read(RegistryCredential, self._post("/v1/registry-credentials", body))

    def registry_credential(self, name: str) -> Answer[RegistryCredential]:
        """Return one login, without its password."""
        return self._read(RegistryCredential, self._get(f"/v1/registry-credentials/{segment(name)}"))

    def replace_registry_credential(
        self, name: str, *, registry: str, username: str, password: str
    ) -> Answer[RegistryCredential]:
        """Give a login another host, user and password."""
        body: JsonObject = {"registry": registry, "username": username, "password": password}
        path = f"/v1/registry-credentials/{segment(name)}"
        return self._read(RegistryCredential, data_of(self._send("PUT", path, body=body)))

    def remove_registry_credential(self, name: str) -> None:
        """Remove a login."""
        self._send("DELETE", f"/v1/registry-credentials/{segment(name)}")
