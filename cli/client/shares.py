"""Share links."""

from collections.abc import Mapping

from pydantic import JsonValue

from cli.client.transport import Answer, Transport, data_of, present, segment
from cli.models import NewShare, Share


class ShareCalls(Transport):
    """Share links."""

    def create_share(self, environment_id: str, wish: Mapping[str, JsonValue]) -> Answer[NewShare]:
        """Make a share link; `wish`: pin, expiresInSeconds, label, showImages, each absent when None."""
        path = f"/v1/environments/{segment(environment_id)}/share"
        return self._read(NewShare, self._post(path, present(wish)))

    def shares(
        self, environment_id: str, wanted: Mapping[str, JsonValue] | None = None
    ) -> Answer[list[Share]]:
        """Return all share links of an environment; `wanted`: state, q, sort."""
        path = f"/v1/environments/{segment(environment_id)}/shares"
        return self._all(Share, path, wanted)

    def revoke_share(self, environment_id: str, share_id: str) -> Answer[Share]:
        """Revoke a share link."""
        path = f"/v1/environments/{segment(environment_id)}/shares/{segment(share_id)}"
        return self._read(Share, data_of(self._send("DELETE", path)))
