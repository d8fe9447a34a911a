"""SeedEnvironment: what its activities on the cluster are asked, and what they answer."""

from datetime import datetime
from typing import Final

from pydantic import JsonValue
from temporalio import activity

from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import EnvironmentContext, ObjectName
from workflows.domain.failures import WireModel
from workflows.domain.seeds import SeedOutcome, SeedRun

SEED_ENVIRONMENT: Final = "SeedEnvironment"


class SeedBySql(WireModel):
    """Run a seed's SQL in a ready pod of its service, once."""

    context: EnvironmentContext
    run: SeedRun
    store: DataStore
    workload: ObjectName
    """What the service's pods belong to."""
    ready_by: datetime
    """How long to wait for a pod that is ready; absolute."""


class SeedByJob(WireModel):
    """Run a seed's Job, once. `job` bears the seed's name, with force that of the first attempt at this run;
    `own` one that no operation had before, for a retry after `job` failed."""

    context: EnvironmentContext
    run: SeedRun
    label: str
    """That all Jobs of this seed bear."""
    job: dict[str, JsonValue]
    own: dict[str, JsonValue]


class SeedByHttp(WireModel):
    """Send a seed's request to a ready pod of its service, and keep a record of it in the cluster."""

    context: EnvironmentContext
    run: SeedRun
    workload: ObjectName
    """What the service's pods belong to."""
    port: int
    """Of the container."""
    label: str
    """That all records of this seed bear."""
    ready_by: datetime
    """How long to wait for a pod that is ready; absolute."""


class SeedDone(WireModel):
    """What a run came to; `job`: name of the Job that tells so; `status` and `key` of a request over HTTP."""

    outcome: SeedOutcome
    job: str = ""
    status: int = 0
    key: str = ""


class SeedActivities:
    """A seed as its workflow sees it; in `activities.seed`, run on the cluster's queue."""

    @activity.defn(name="seed.run_sql")
    async def run_sql(self, request: SeedBySql) -> SeedDone:
        """Apply the script in one transaction with its mark, or find the mark."""
        raise NotImplementedError

    @activity.defn(name="seed.run_job")
    async def run_job(self, request: SeedByJob) -> SeedDone:
        """Create the Job, or find it or another that has succeeded, and wait for its end."""
        raise NotImplementedError

    @activity.defn(name="seed.send_http")
    async def send_http(self, request: SeedByHttp) -> SeedDone:
        """Send the request, unless a record in the cluster says that it has been done.

        It is sent again while nothing says what became of it, with the same key, if the seed says that this
        does no harm. What may have been done otherwise ends as `hook_failed`, and the record says so.
        """
        raise NotImplementedError

    @activity.defn(name="seed.stop_job")
    async def stop_job(self, request: SeedByJob) -> None:
        """Suspend the Job that this operation made, if it has not ended: it is kept, its pod goes."""
        raise NotImplementedError
