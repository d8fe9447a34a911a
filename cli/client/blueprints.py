"""Blueprints: check them, make them of Compose files."""

from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, present
from cli.models import Import, ValidationReport


class BlueprintCalls(Transport):
    """Blueprints: check them, make them of Compose files."""

    def validate(self, blueprint: str, *, plan: str | None) -> Answer[ValidationReport]:
        """Check a Blueprint without writing anything."""
        body = present({"blueprint": blueprint, "plan": plan})
        return self._read(ValidationReport, self._post("/v1/environments/validate", body))

    def import_compose(self, body: Mapping[str, JsonValue]) -> Answer[Import]:
        """Turn a Compose file into a Blueprint, and with `create` into an environment."""
        return self._read(Import, self._post("/v1/environments/import", present(body)))
