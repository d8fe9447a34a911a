"""The worker process: builds what the activities need, serves its queues, stops in good order."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker

from activities.db.engine import Database
from activities.registry import Retention, cluster_activities, control_activities
from activities.secrets import Opener, Sealer
from activities.storage.objects import ObjectStore
from clusters.gateway import ClusterConfig, open_cluster
from worker import schedules, search_attributes
from worker.connect import connect, identity
from worker.logs import configure as configure_logs
from worker.priority import step_back
from worker.runner import cluster_worker, control_worker
from worker.settings import Role, WorkerSettings
from worker.versions import DEPLOYMENT, Deployment, ServerTooOld

_log = structlog.get_logger()

Activities = list[Callable[..., Any]]


async def serve(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then let what runs finish or hand over, at most the graceful time.

    Raises ServerTooOld.
    """
    client = await connect(settings)
    deployment = Deployment(client, WorkerDeploymentVersion(DEPLOYMENT, settings.build_id))
    async with AsyncExitStack() as stack:
        workers: list[Worker] = []
        if Role.CONTROL in settings.roles:
            await deployment.check_server()
            added = await search_attributes.register(client)
            _log.info("search attributes", added=added)
            await schedules.bring_about(
                client,
                schedules.declared(
                    timedelta(seconds=settings.reconcile_every_seconds),
                    timedelta(seconds=settings.sweep_every_seconds),
                ),
            )
            workers.append(await stack.enter_async_context(_control(settings, deployment)))
        if Role.CLUSTER in settings.roles:
            workers.append(await stack.enter_async_context(_cluster(settings, client)))
        running = [asyncio.create_task(worker.run()) for worker in workers]
        watching = (
            [asyncio.create_task(deployment.watch(promote=settings.promote))]
            if Role.CONTROL in settings.roles
            else []
        )
        _log.info("serving", roles=sorted(settings.roles), cluster=settings.cluster, identity=identity())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*running, *watching, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *watching):
                task.cancel()
            await asyncio.gather(*(worker.shutdown() for worker in workers))
        # What ended by itself says why.
        await asyncio.gather(*running)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*watching)
    _log.info("stopped")


@asynccontextmanager
async def _control(settings: WorkerSettings, deployment: Deployment) -> AsyncIterator[Worker]:
    database = Database(settings.database_url)
    keys = settings.open_master_keys()
    sealers = {cluster: Sealer(key) for cluster, key in settings.seal_public_keys.items()}
    try:
        yield control_worker(
            deployment.client,
            control_activities(
                database=database,
                client=deployment.client,
                keys=keys,
                sealers=sealers,
                objects=ObjectStore(settings.object_store),
                retention=Retention(
                    events=timedelta(days=settings.keep_events_days),
                    operations=timedelta(days=settings.keep_operations_days),
                ),
            ),
            version=deployment.version,
            graceful_shutdown=timedelta(seconds=settings.graceful_shutdown_seconds),
            max_cached_workflows=settings.max_cached_workflows,
            identity=identity(),
        )
    finally:
        await database.dispose()


@asynccontextmanager
async def _cluster(settings: WorkerSettings, client: Client) -> AsyncIterator[Worker]:
    if settings.seal_private_key_file is None:
        raise ValueError("PERDURE_SEAL_PRIVATE_KEY_FILE is required by the cluster role")
    config = ClusterConfig(
        kubeconfig=settings.cluster_kubeconfig, context=settings.cluster_context, name=settings.cluster
    )
    async with open_cluster(config) as cluster:
        yield cluster_worker(
            client,
            settings.cluster,
            cluster_activities(
                cluster=cluster,
                opener=Opener(settings.seal_private_key_file.read_text().strip()),
                objects=ObjectStore(settings.object_store),
            ),
            build_id=settings.build_id,
            graceful_shutdown=timedelta(seconds=settings.graceful_shutdown_seconds),
            max_concurrent_activities=settings.max_concurrent_activities,
            identity=identity(),
        )


def main() -> None:
    """Read the settings and serve until SIGTERM or SIGINT."""
    settings = WorkerSettings()
    configure_logs(settings.log_level)
    step_back()
    try:
        on_loop(_until_told(settings))
    except ServerTooOld as error:
        _log.error("cannot serve", reason=str(error))
        raise SystemExit(1) from error


def on_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run it on the event loop that a worker has, as the API does: asyncio's own.

    uvloop's TLS drops what its reader has not taken yet, up to 256 KiB, when the other side closes: a dump
    that is read more slowly than it comes lost its last bytes and its exit status, attempt after attempt.
    """
    asyncio.run(work)


async def _until_told(settings: WorkerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)
