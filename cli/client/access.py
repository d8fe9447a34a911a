"""Keys, secrets of the organisation, the audit trail."""

from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, present, segment
from cli.models import ApiKey, AuditEntry, StoredSecret
from cli.models_readings import Principal


class AccessCalls(Transport):
    """Keys, secrets of the organisation, the audit trail."""

    def api_keys(self, wanted: Mapping[str, JsonValue] | None = None) -> Answer[list[ApiKey]]:
        """Return all keys, without tokens; `wanted`: state, principal, role, q, sort."""
        return self._all(ApiKey, "/v1/api-keys", wanted)

    def create_api_key(self, body: Mapping[str, JsonValue]) -> Answer[ApiKey]:
        """Make a key; this answer alone has its token."""
        return self._read(ApiKey, self._post("/v1/api-keys", present(body)))

    def revoke_api_key(self, key_id: str) -> None:
        """Make a key useless."""
        self._send("DELETE", f"/v1/api-keys/{segment(key_id)}")

    def principals(self, wanted: Mapping[str, JsonValue] | None = None) -> Answer[list[Principal]]:
        """Return all principals; `wanted`: kind, q, sort."""
        return self._all(Principal, "/v1/principals", wanted)

    def create_principal(self, body: Mapping[str, JsonValue]) -> Answer[Principal]:
        """Make a principal; it can do nothing until it has a key."""
        return self._read(Principal, self._post("/v1/principals", present(body)))

    def secrets(self, wanted: Mapping[str, JsonValue] | None = None) -> Answer[list[StoredSecret]]:
        """Return the organisation's secrets, without values; `wanted`: q, sort."""
        return self._all(StoredSecret, "/v1/secrets", wanted)

    def put_secret(self, name: str, value: str) -> None:
        """Store a secret of the organisation."""
        self._send("PUT", f"/v1/secrets/{segment(name)}", body={"value": value})

    def delete_secret(self, name: str) -> None:
        """Destroy a secret of the organisation."""
        self._send("DELETE", f"/v1/secrets/{segment(name)}")

    def audit(self, params: Mapping[str, JsonValue], *, limit: int) -> Answer[list[AuditEntry]]:
        """Return entries of the audit trail; `params`: its filters, and sort."""
        return self._all(AuditEntry, "/v1/audit", params, limit=limit)
