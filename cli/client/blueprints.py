"""Blueprints: check them, make them of Compose files, find them in a project."""

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, data_of, present
from cli.models import Discovery, Import, ValidationReport

DISCOVERY_SECONDS: Final = 120.0
"""A repository may take a minute to be fetched."""


class BlueprintCalls(Transport):
    """Blueprints: check them, make them of Compose files, find them in a project."""

    def validate(self, blueprint: str, *, plan: str | None) -> Answer[ValidationReport]:
        """Check a Blueprint without writing anything."""
        body = present({"blueprint": blueprint, "plan": plan})
        return self._read(ValidationReport, self._post("/v1/environments/validate", body))

    def import_compose(self, body: Mapping[str, JsonValue]) -> Answer[Import]:
        """Turn a Compose file into a Blueprint, and with `create` into an environment."""
        return self._read(Import, self._post("/v1/environments/import", present(body)))

    def discover(self, body: Mapping[str, JsonValue]) -> Answer[Discovery]:
        """Find a Blueprint in files or a repository."""
        path = "/v1/environments/discover"
        found = self._send("POST", path, body=present(body), seconds=DISCOVERY_SECONDS)
        return self._read(Discovery, data_of(found))
