"""The installation: whether it is there and well."""

from cli.client.transport import Answer, Transport
from cli.models import Checks, Health


class InstallationCalls(Transport):
    """The installation: whether it is there and well."""

    def live(self) -> Answer[Health]:
        """Return what the API says without a key: that it is there, and its version."""
        return self._read(Health, self._get("/health/live"))

    def health(self) -> Answer[Health]:
        """Return whether each part is up; no key is needed. Raises ApiError while the API is not ready."""
        return self._read(Health, self._get("/health/details"))

    def checks(self) -> Answer[Checks]:
        """Return all checks of the installation; for administrators."""
        return self._read(Checks, self._get("/v1/status/checks"))
