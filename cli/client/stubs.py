"""Stubs of services."""

from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, present
from cli.models_readings import Stub


class StubCalls(Transport):
    """Stubs of services."""

    def generate_stub(self, body: Mapping[str, JsonValue]) -> Answer[Stub]:
        """Make a stub of an OpenAPI document or of examples; nothing is written."""
        return self._read(Stub, self._post("/v1/stubs/generate", present(body)))
