"""Every activity, with what it needs handed in."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client

from activities.db.engine import Database
from activities.delete import ClusterDelete, ControlDelete
from activities.operation import Ledger
from activities.provision import ClusterProvision
from activities.reconcile import ControlReconcile
from activities.secrets import MasterKeys, Opener, Sealer
from activities.seed import ClusterSeed
from activities.snapshots.capture import ClusterSnapshot
from activities.snapshots.ledger import SnapshotLedger
from activities.snapshots.load import ClusterRestore
from activities.snapshots.sweep import ControlSnapshotSweep
from activities.snapshots.verification import ControlVerification
from activities.snapshots.verify import ClusterVerify
from activities.stop import ClusterStop
from activities.storage.objects import ObjectStore
from activities.sweep import ControlSweep
from activities.temporal import TemporalStarter
from activities.update import ClusterUpdate
from clusters.gateway import Cluster


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events and operations are kept after their operation has ended."""

    events: timedelta = timedelta(days=30)
    operations: timedelta = timedelta(days=90)


def control_activities(
    *,
    database: Database,
    client: Client,
    keys: MasterKeys,
    sealers: Mapping[str, Sealer],
    retention: Retention,
    objects: ObjectStore,
) -> list[Callable[..., Any]]:
    """Return the activities of the control queue: those on Perdure's own state."""
    ledger = Ledger(database=database, keys=keys, sealers=sealers)
    snapshot = SnapshotLedger(database=database, keys=keys, sealers=sealers)
    delete = ControlDelete(database=database, client=client)
    reconcile = ControlReconcile(database=database, client=client)
    sweep = ControlSweep(
        database=database,
        starter=TemporalStarter(client),
        keep_events=retention.events,
        keep_operations=retention.operations,
    )
    starter = TemporalStarter(client)
    snapshot_sweep = ControlSnapshotSweep(database=database, objects=objects, server=starter, keys=keys)
    verification = ControlVerification(database=database, keys=keys, sealers=sealers, starter=starter)
    return [
        ledger.begin,
        ledger.record,
        ledger.pre_image,
        ledger.seal_secrets,
        ledger.finish,
        snapshot.component_keys,
        snapshot.expect_volumes,
        snapshot.stream_keys,
        snapshot.describe,
        delete.cancel_running,
        reconcile.reconcile,
        sweep.sweep_page,
        sweep.forget_history,
        snapshot_sweep.take_due,
        snapshot_sweep.expire,
        snapshot_sweep.at_storage,
        snapshot_sweep.forget_volumes,
        snapshot_sweep.note_standing,
        snapshot_sweep.remove,
        snapshot_sweep.remove_orphans,
        snapshot_sweep.start_verifications,
        verification.begin,
        verification.loadable,
        verification.restore,
        verification.await_operation,
        verification.remove,
        verification.finish,
    ]


def cluster_activities(*, cluster: Cluster, opener: Opener, objects: ObjectStore) -> list[Callable[..., Any]]:
    """Return the activities of one cluster's queue."""
    provision = ClusterProvision(cluster=cluster, opener=opener, objects=objects)
    stop = ClusterStop(cluster=cluster)
    update = ClusterUpdate(cluster=cluster)
    seed = ClusterSeed(cluster=cluster, objects=objects)
    # One stream at a time in a process: that is what its memory is made for.
    turn = asyncio.Semaphore(1)
    snapshot = ClusterSnapshot(cluster=cluster, opener=opener, objects=objects, turn=turn)
    restore = ClusterRestore(cluster=cluster, opener=opener, objects=objects, turn=turn)
    verify = ClusterVerify(cluster=cluster, opener=opener, objects=objects, turn=turn)
    delete = ClusterDelete(cluster=cluster)
    return [
        provision.prepare_namespace,
        provision.apply_secrets,
        provision.deploy_service,
        provision.verify_endpoints,
        provision.undo,
        stop.stop_service,
        update.remove_service,
        seed.run_sql,
        seed.run_job,
        seed.send_http,
        seed.stop_job,
        snapshot.survey,
        snapshot.capture,
        snapshot.capture_together,
        snapshot.capture_volumes,
        snapshot.publish,
        snapshot.discard,
        restore.provide,
        restore.settle,
        restore.release,
        restore.check,
        restore.survey_masking,
        restore.load,
        restore.prove,
        verify.stored,
        verify.readable,
        delete.delete_namespace,
    ]
