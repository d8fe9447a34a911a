"""How full the data stores of an environment are: claims from the cluster, used bytes from inside the pods.

The kubelet knows volume statistics, but asking it takes `nodes/proxy` (see `api.access.metrics`). So `df` is
run in a pod that mounts the volume. Where the volume is a directory of a larger filesystem, `df` would tell
that one's use: then its files are added up by `du`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from activities.db.records import EnvironmentRecord
from activities.db.repositories import volume_samples
from activities.db.repositories.volume_samples import Sample
from activities.db.types import utc_now
from api.access.schemas import GrowthOut, StoreOut, StoreStatsOut, VolumeStats
from api.environments.pods import by_service
from api.environments.service import known_blueprint
from api.readings import Readings
from api.state import AppState
from clusters.errors import ClusterError, Forbidden, NotFound
from clusters.objects import Manifest
from workflows.domain.blueprint import Blueprint, VolumeType
from workflows.domain.json_reading import children, mapping, text
from workflows.domain.manifests import running_as
from workflows.domain.names import ENVIRONMENT
from workflows.domain.quantity import QuantityError, parse_quantity

if TYPE_CHECKING:
    from clusters.gateway import Cluster

MEASURE_SECONDS: Final = 15.0
_REMEMBERED_SECONDS: Final = 10.0
_MOST_REMEMBERED: Final = 1_000
_AT_ONCE: Final = 4
_OWN_FILESYSTEM: Final = 1.1
"""A filesystem up to this many times the claim's capacity is the volume's own; metadata makes it smaller."""
_DAY: Final = 86_400
_SCRIPT: Final = 'df -kP "$1" | tail -n 1; [ "$2" = df ] || du -skx "$1"'
"""One line of df; with another second argument also the sum of all files, both in units of 1024 bytes."""


@dataclass(frozen=True, slots=True)
class _Used:
    used_bytes: int | None
    method: str | None = None
    reason: str | None = None


class StoreReadings:
    """Those of the last seconds: adding up files is not to be had by asking often."""

    def __init__(self) -> None:
        self._readings: Readings[tuple[str, str], StoreStatsOut] = Readings(
            _REMEMBERED_SECONDS, _MOST_REMEMBERED
        )

    async def read(self, state: AppState, organization_id: str, environment_id: str) -> StoreStatsOut:
        """Return the stores of an environment. Raises NotFound and ClusterError."""
        key = (organization_id, environment_id)
        return await self._readings.get(key, lambda: read_stores(state, *key))


async def read_stores(state: AppState, organization_id: str, environment_id: str) -> StoreStatsOut:
    """Measure every volume of every data store, and keep a sample of each."""
    record, blueprint = await known_blueprint(state, organization_id, environment_id)
    cluster = await state.clusters.get(record.cluster)
    claims, pods = await _claims_and_pods(cluster, record)
    turns = asyncio.Semaphore(_AT_ONCE)
    mounts = {(service, name): path for service, name, path in _mounts(blueprint)}

    async def measured(service: str, volume: str, claim: Manifest) -> tuple[Manifest, _Used]:
        async with turns:
            own = [
                pod for pod in pods.get(service, []) if _mounts_claim(pod, text(claim, "metadata", "name"))
            ]
            return claim, await _measure(cluster, record, own, service, mounts[service, volume], claim)

    wanted = [
        (service, volume, claim)
        for service, volume in mounts
        for claim in claims
        if _is_claim_of(text(claim, "metadata", "name"), service, volume)
    ]
    readings = await asyncio.gather(*(measured(*each) for each in wanted))
    now = utc_now()
    growth = await _keep_samples(state, record, readings)
    stores: dict[str, list[VolumeStats]] = {
        service.name: [] for service in blueprint.services if running_as(service).store is not None
    }
    for (service, volume, claim), (_, used) in zip(wanted, readings, strict=True):
        name = text(claim, "metadata", "name")
        stats = _volume_stats(claim, (service, volume, mounts[service, volume]), used, growth[name])
        stores.setdefault(service, []).append(stats)
    return StoreStatsOut(
        stores=[
            StoreOut(
                service=name,
                store=running_as(blueprint.service(name)).store or "files",
                volumes=sorted(volumes, key=lambda each: each.claim),
            )
            for name, volumes in stores.items()
        ],
        measured_at=now,
    )


async def _claims_and_pods(
    cluster: Cluster, record: EnvironmentRecord
) -> tuple[tuple[Manifest, ...], dict[str, list[Manifest]]]:
    try:
        claims = await cluster.list("PersistentVolumeClaim", record.namespace)
        pods = await cluster.list("Pod", record.namespace, labels={ENVIRONMENT: record.id})
    except (NotFound, Forbidden):
        # Our rights are inside the namespace, and go with it.
        return (), {}
    return claims.items, by_service(pods.items)


def _mounts(blueprint: Blueprint) -> list[tuple[str, str, str]]:
    """Service, volume and mount path of every persistent volume."""
    return [
        (service.name, volume.name, volume.mount_path)
        for service in map(running_as, blueprint.services)
        for volume in service.volumes
        if volume.type is VolumeType.PVC
    ]


def _is_claim_of(claim: str, service: str, volume: str) -> bool:
    """Whether a claim is one that the StatefulSet of a service made for this volume: `volume-service-N`."""
    prefix = f"{volume}-{service}-"
    return claim.startswith(prefix) and claim[len(prefix) :].isdigit()


def _mounts_claim(pod: Manifest, claim: str) -> bool:
    return any(
        text(volume, "persistentVolumeClaim", "claimName") == claim
        for volume in children(pod, "spec", "volumes")
    )


async def _measure(
    cluster: Cluster,
    record: EnvironmentRecord,
    pods: list[Manifest],
    service: str,
    path: str,
    claim: Manifest,
) -> _Used:
    running = [
        text(pod, "metadata", "name")
        for pod in pods
        if not text(pod, "metadata", "deletionTimestamp")
        and any(
            text(status, "name") == service and mapping(status, "state", "running")
            for status in children(pod, "status", "containerStatuses")
        )
    ]
    if not running:
        return _Used(None, reason="no running pod mounts it")
    capacity = _bytes(text(claim, "status", "capacity", "storage"))

    async def run(mode: str) -> list[str] | None:
        command = ["sh", "-c", _SCRIPT, "perdure", path, mode]
        result = await cluster.execute(
            record.namespace, running[0], command, container=service, timeout=MEASURE_SECONDS
        )
        lines = result.stdout.decode(errors="replace").splitlines()
        return lines if result.exit_code == 0 or (mode == "du" and len(lines) == 2) else None

    try:
        filesystem = _df(await run("df"))
        if filesystem is None:
            return _Used(None, reason="df gave no answer in the container")
        size, used = filesystem
        if capacity is not None and size <= capacity * _OWN_FILESYSTEM:
            return _Used(used, "df")
        # du may complain about a file that went meanwhile, and still have the sum.
        lines = await run("du")
        summed = lines[1].split()[0] if lines is not None and len(lines) == 2 else ""
        if summed.isdigit():
            return _Used(int(summed) * 1024, "du")
        return _Used(None, reason="the volume shares a filesystem, and du gave no sum in the container")
    except ClusterError as error:
        return _Used(None, reason=f"it could not be measured in the pod: {error}"[:300])


def _df(lines: list[str] | None) -> tuple[int, int] | None:
    """Size and used bytes of a filesystem, from the last line of `df -kP`."""
    fields = lines[0].split() if lines else []
    if len(fields) < 6 or not (fields[1].isdigit() and fields[2].isdigit()):
        return None
    return int(fields[1]) * 1024, int(fields[2]) * 1024


async def _keep_samples(
    state: AppState, record: EnvironmentRecord, readings: list[tuple[Manifest, _Used]]
) -> dict[str, GrowthOut]:
    now = utc_now()
    names = [text(claim, "metadata", "name") for claim, _ in readings]
    async with state.database.transaction() as session:
        known = await volume_samples.samples(session, record.organization_id, record.id, names)
        for claim, used in readings:
            if used.used_bytes is not None:
                name, sample = text(claim, "metadata", "name"), Sample(now, used.used_bytes)
                await volume_samples.add_sample(session, record.organization_id, record.id, name, sample)
                known.setdefault(name, []).append(sample)
    return {name: growth_of(known.get(name, [])) for name in names}


def growth_of(samples: list[Sample]) -> GrowthOut:
    """The growth between the first and the last sample; unknown until they are a minute apart."""
    if len(samples) < 2 or samples[-1].at - samples[0].at < volume_samples.LEAST_INTERVAL:
        reason = "it takes two samples at least a minute apart; each look at this keeps one"
        return GrowthOut(known=False, samples=len(samples), reason=reason)
    first, last = samples[0], samples[-1]
    seconds = (last.at - first.at).total_seconds()
    return GrowthOut(
        known=True,
        bytes_per_day=round((last.used_bytes - first.used_bytes) / seconds * _DAY),
        since=first.at,
        samples=len(samples),
    )


def _volume_stats(
    claim: Manifest, where: tuple[str, str, str], used: _Used, growth: GrowthOut
) -> VolumeStats:
    service, volume, path = where
    return VolumeStats(
        claim=text(claim, "metadata", "name"),
        service=service,
        volume=volume,
        mount_path=path,
        phase=text(claim, "status", "phase"),
        requested_bytes=_bytes(text(claim, "spec", "resources", "requests", "storage")),
        capacity_bytes=_bytes(text(claim, "status", "capacity", "storage")),
        used_bytes=used.used_bytes,
        method=used.method,
        reason=used.reason,
        growth=growth,
    )


def _bytes(quantity: str) -> int | None:
    try:
        return int(parse_quantity(quantity)) if quantity else None
    except QuantityError:
        return None
