"""What is measured and estimated of an environment, and of the installation."""

from cli.client.transport import Answer, Transport, segment
from cli.models_readings import Cost, Metrics, Statistics, StoreStats


class ReadingCalls(Transport):
    """What is measured and estimated of an environment, and of the installation."""

    def metrics(self, environment_id: str) -> Answer[Metrics]:
        """Return the CPU and memory that an environment uses."""
        return self._read(Metrics, self._get(f"/v1/environments/{segment(environment_id)}/metrics"))

    def store_stats(self, environment_id: str) -> Answer[StoreStats]:
        """Return what the volumes of an environment hold."""
        return self._read(StoreStats, self._get(f"/v1/environments/{segment(environment_id)}/store-stats"))

    def cost(self, environment_id: str) -> Answer[Cost]:
        """Return the estimate of what an environment costs."""
        return self._read(Cost, self._get(f"/v1/environments/{segment(environment_id)}/cost"))

    def statistics(self) -> Answer[Statistics]:
        """Return the figures of environments, operations and workers."""
        return self._read(Statistics, self._get("/v1/status/stats"))
