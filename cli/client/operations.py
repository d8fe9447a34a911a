"""Operations: look at them, cancel them."""

from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, segment
from cli.models import Operation


class OperationCalls(Transport):
    """Operations: look at them, cancel them."""

    def operations(self, wanted: Mapping[str, JsonValue], *, limit: int) -> Answer[list[Operation]]:
        """Return operations, at most `limit`; `wanted`: environmentId, kind, state, since, sort."""
        return self._all(Operation, "/v1/operations", wanted, limit=limit)

    def operation(self, operation_id: str) -> Answer[Operation]:
        """Return one operation with its steps."""
        return self._read(Operation, self._get(f"/v1/operations/{segment(operation_id)}"))

    def cancel_operation(self, operation_id: str, *, cleanup: bool) -> Answer[Operation]:
        """Ask an operation to stop; with `cleanup`, to undo what it made."""
        return self._read(
            Operation, self._post(f"/v1/operations/{segment(operation_id)}/cancel", {"cleanup": cleanup})
        )
