"""Templates of Blueprints."""

from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, data_of, present, segment
from cli.models import Import, Template


class TemplateCalls(Transport):
    """Templates of Blueprints."""

    def templates(self) -> Answer[list[Template]]:
        """Return the bundled templates and the organisation's own."""
        return self._all(Template, "/v1/templates")

    def template(self, key: str) -> Answer[Template]:
        """Return one template by id or name."""
        return self._read(Template, self._get(f"/v1/templates/{segment(key)}"))

    def create_template(self, body: Mapping[str, JsonValue]) -> Answer[Template]:
        """Keep a new template."""
        return self._read(Template, self._post("/v1/templates", body))

    def update_template(self, key: str, body: Mapping[str, JsonValue]) -> Answer[Template]:
        """Put another content in a template's place."""
        document = self._send("PUT", f"/v1/templates/{segment(key)}", body=body)
        return self._read(Template, data_of(document))

    def delete_template(self, key: str) -> None:
        """Remove a template."""
        self._send("DELETE", f"/v1/templates/{segment(key)}")

    def instantiate_template(self, key: str, body: Mapping[str, JsonValue]) -> Answer[Import]:
        """Make a Blueprint of a template, and with `create` an environment."""
        return self._read(Import, self._post(f"/v1/templates/{segment(key)}/instantiate", present(body)))
