"""What a snapshot of an environment would be: an engine for each component, and how much it can be trusted.

Nothing here is a promise about a run: what was reached is graded afterwards from what really happened
(`Captured`), and the engines that were planned only say what is possible.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from workflows.domain.blueprint_models import (
    Blueprint,
    DataStore,
    Service,
    ServiceKind,
    SnapshotEngine,
    VolumeType,
    data_store,
)
from workflows.domain.failures import WireModel
from workflows.domain.json_reading import JsonObject, children, text
from workflows.domain.manifests_common import running_as


class Engine(StrEnum):
    """How a component is captured, the best first."""

    CSI_GROUP = "csi-group"
    """All volumes of the environment at one instant, by the storage."""
    CSI = "csi"
    """Each volume at an instant of its own, by the storage."""
    EXEC_DUMP = "exec-dump"
    """The store's own tool, run in its pod."""
    LIVE_COPY = "live-copy"
    """Files, copied while they may be written."""
    MANIFEST_ONLY = "manifest-only"
    """No data; how it is configured."""


class Consistency(StrEnum):
    """What can be said of the data, the best first."""

    APPLICATION = "application"
    """As the application would have left it: a transaction's snapshot, or quiesced."""
    CRASH_GROUP = "crash-group"
    """As after a power cut of everything at once."""
    CRASH_VOLUME = "crash-volume"
    """As after a power cut, each volume at another instant."""
    LIVE_COPY = "live-copy"
    """Files as they were read, one after the other."""
    CONFIG_ONLY = "config-only"
    """There is no data in it."""


class Scope(StrEnum):
    """Whether the components were captured at one common point."""

    ONE_POINT = "one-point"
    INDEPENDENT = "independent"


class EngineImpossible(ValueError):
    """A Blueprint demands an engine that cannot be had for this service; the text says why."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What the cluster's storage can do.

    `snapshots`, `groups`: the CSI drivers for which there is a VolumeSnapshotClass, and a
    VolumeGroupSnapshotClass. `drivers`: the driver of each storage class by its name, that of the default
    class under None. A class that is not in it is one whose volumes cannot be captured by the storage.
    """

    drivers: Mapping[str | None, str]
    snapshots: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def can_snapshot(self, service: Service) -> bool:
        """Whether every volume of the service that lasts can be captured by its driver."""
        return self._all_in(service, self.snapshots)

    def can_group(self, service: Service) -> bool:
        """Whether every volume of the service that lasts can be captured together with others."""
        return self._all_in(service, self.groups)

    def drivers_of(self, service: Service) -> frozenset[str]:
        """Return the drivers of the service's volumes that last, as far as they are known."""
        classes = {each.storage_class for each in service.volumes if each.type is VolumeType.PVC}
        return frozenset(self.drivers[each] for each in classes if each in self.drivers)

    def _all_in(self, service: Service, able: frozenset[str]) -> bool:
        classes = [each.storage_class for each in service.volumes if each.type is VolumeType.PVC]
        return bool(classes) and all(self.drivers.get(each) in able for each in classes)


NO_STORAGE: Final = Storage(drivers={})
"""A cluster whose storage takes no snapshots."""


class Component(WireModel):
    """A service and how it is to be captured."""

    service: str
    store: DataStore | None
    """What data it keeps, None when it keeps none."""
    engine: Engine
    otherwise: tuple[Engine, ...] = ()
    """What is tried instead, in this order, when that cannot be done; nothing when it was demanded."""

    def instead(self, engine: Engine) -> "Component":
        """Return the same by another of its engines, with those that come after it."""
        rest = self.otherwise[self.otherwise.index(engine) + 1 :]
        return self.model_copy(update={"engine": engine, "otherwise": rest})

    @property
    def streams(self) -> bool:
        """Whether bytes of it go through a worker into the object store."""
        return self.engine in (Engine.EXEC_DUMP, Engine.LIVE_COPY)

    @property
    def by_storage(self) -> bool:
        """Whether its volumes are captured by the cluster's storage."""
        return self.engine in (Engine.CSI, Engine.CSI_GROUP)


@dataclass(frozen=True, slots=True)
class Captured:
    """A component as it was captured.

    `window`: the number of the quiesce window in which its point was fixed, None when it was in none. A dump
    that was lost and taken again outside has no window, whatever was planned. `quiesced`: its own hook held
    it still at that point. `points`: at how many moments its data were taken, by itself.
    """

    component: Component
    window: int | None = None
    quiesced: bool = False
    points: int = 1


DUMPED: Final = frozenset({DataStore.POSTGRES, DataStore.MYSQL, DataStore.REDIS})
"""Stores whose own tools we run. MongoDB's was not tried, and needs a replica set for a common point."""


def plan_components(services: Sequence[Service], storage: Storage = NO_STORAGE) -> tuple[Component, ...]:
    """Choose an engine for each service of an environment, as they run.

    A group is of use only where it takes all the data there is: with one service left out, it is no common
    point. Raises EngineImpossible for what the Blueprint demands and nobody can do.
    """
    keeping = [each for each in services if data_store(each) is not None]
    grouped = (
        all(each.snapshot.engine is SnapshotEngine.AUTO and storage.can_group(each) for each in keeping)
        # A group is cut by one driver.
        and len({driver for each in keeping for driver in storage.drivers_of(each)}) <= 1
    )
    return tuple(_component(each, storage, grouped=grouped) for each in services)


def above(
    components: Sequence[Component], floor: Consistency | None, quiesced: Collection[str] = ()
) -> tuple[Component, ...]:
    """Return the components with engines that can reach a floor, where they have one that does.

    The order of engines puts what costs the environment least before what is worth most.
    """
    return tuple(
        _reaching(each, (each.engine, *each.otherwise), floor, quiesced) or each for each in components
    )


def fallen_back(
    component: Component, floor: Consistency | None, quiesced: Collection[str] = ()
) -> Component | None:
    """Return how to capture a component whose engine failed; None: in no way that reaches the floor."""
    return _reaching(component, component.otherwise, floor, quiesced)


def keeps_data(service: Service) -> bool:
    """Whether a snapshot is to take data of this service, whichever engine does it.

    A job's volumes are nobody's while no pod of it runs.
    """
    return (
        data_store(service) is not None
        and service.kind is not ServiceKind.JOB
        and service.snapshot.engine is not SnapshotEngine.MANIFEST_ONLY
    )


def in_pods_alone(blueprint: Blueprint, services: Iterable[str]) -> list[str]:
    """Return those of these services whose data no volume keeps: another pod has none of it."""
    known = {service.name: running_as(service) for service in blueprint.services}
    return sorted(name for name in services if name in known and not known[name].stateful)


def kept_in(pod: JsonObject, service: Service) -> str:
    """Return what keeps the data of a service without a volume, by a name that nothing else ever has.

    That is a pod, by its UID; without a directory of the pod's own (`emptyDir`), which outlives containers,
    it is the container.
    """
    uid = text(pod, "metadata", "uid")
    if any(each.type is VolumeType.EMPTY_DIR for each in service.volumes):
        return uid
    containers = children(pod, "status", "containerStatuses")
    own = (text(each, "containerID") for each in containers if text(each, "name") == service.name)
    return f"{uid}/{next(own, '')}"


def at_best(components: Iterable[Component], quiesced: Collection[str] = ()) -> Consistency:
    """Return what these could reach if all goes well; `quiesced`: services that a hook will hold still."""
    return consistency(Captured(each, window=1, quiesced=each.service in quiesced) for each in components)


def grade(captured: Captured) -> Consistency:
    """Say what can be said of one component's data."""
    match captured.component.engine:
        case Engine.EXEC_DUMP:
            return Consistency.APPLICATION
        case Engine.CSI_GROUP:
            return Consistency.APPLICATION if captured.quiesced else Consistency.CRASH_GROUP
        case Engine.CSI:
            return Consistency.APPLICATION if captured.quiesced else Consistency.CRASH_VOLUME
        case Engine.LIVE_COPY:
            return Consistency.APPLICATION if captured.quiesced else Consistency.LIVE_COPY
        case Engine.MANIFEST_ONLY:
            return Consistency.CONFIG_ONLY
        case _:
            assert_never(captured.component.engine)


def consistency(captured: Iterable[Captured]) -> Consistency:
    """Return the lowest grade of all components that keep data; without any, `config-only`.

    A service that keeps nothing loses nothing: only one with data that was left out pulls the whole down.
    """
    grades = [grade(each) for each in captured if each.component.store is not None]
    return max(grades, key=_RANK.__getitem__, default=Consistency.CONFIG_ONLY)


def scope(captured: Iterable[Captured]) -> Scope:
    """Say whether all data is of one point.

    One component alone is, if its data were taken at one moment, and so is one group of volumes; otherwise
    all of them must have been held still in the same window. A copy of files that nobody held still has no
    point at all.
    """
    data = [
        each
        for each in captured
        if each.component.store is not None and each.component.engine is not Engine.MANIFEST_ONLY
    ]
    if any(grade(each) is Consistency.LIVE_COPY for each in data):
        return Scope.INDEPENDENT
    if all(each.component.engine is Engine.CSI_GROUP for each in data):
        return Scope.ONE_POINT
    if sum(each.points for each in data) < 2:
        return Scope.ONE_POINT
    windows = {each.window for each in data}
    held = len(windows) == 1 and None not in windows and all(each.quiesced for each in data)
    return Scope.ONE_POINT if held else Scope.INDEPENDENT


def reaches(reached: Consistency, floor: Consistency) -> bool:
    """Whether a grade is at least what was asked for."""
    return _RANK[reached] <= _RANK[floor]


def _reaching(
    component: Component, engines: Sequence[Engine], floor: Consistency | None, quiesced: Collection[str]
) -> Component | None:
    for engine in engines:
        by = component if engine is component.engine else component.instead(engine)
        best = grade(Captured(by, window=1, quiesced=component.service in quiesced))
        if floor is None or reaches(best, floor):
            return by
    return None


def _component(service: Service, storage: Storage, *, grouped: bool) -> Component:
    engine = _engine(service, storage, grouped=grouped)
    otherwise: tuple[Engine, ...] = ()
    if engine in (Engine.CSI, Engine.CSI_GROUP) and service.snapshot.engine is SnapshotEngine.AUTO:
        singly = (Engine.CSI,) if engine is Engine.CSI_GROUP and storage.can_snapshot(service) else ()
        streamed = _engine(service, NO_STORAGE, grouped=False)
        otherwise = (*singly, *(() if streamed is Engine.MANIFEST_ONLY else (streamed,)))
    return Component(service=service.name, store=data_store(service), engine=engine, otherwise=otherwise)


_RANK: Final = {each: rank for rank, each in enumerate(Consistency)}


def _engine(service: Service, storage: Storage, *, grouped: bool) -> Engine:
    store = data_store(service)
    match service.snapshot.engine:
        case SnapshotEngine.MANIFEST_ONLY:
            return Engine.MANIFEST_ONLY
        case SnapshotEngine.CSI:
            if not storage.can_snapshot(service):
                raise EngineImpossible(
                    f"{service.name} asks for csi: it needs volumes of type pvc, and for each of them a "
                    "VolumeSnapshotClass of its driver"
                )
            return Engine.CSI
        case SnapshotEngine.EXEC_DUMP:
            if store not in DUMPED:
                raise EngineImpossible(
                    f"{service.name} asks for exec-dump: there is one for {', '.join(sorted(DUMPED))}, "
                    f"not for {store or 'a service that keeps no data'}"
                )
            return Engine.EXEC_DUMP
        case SnapshotEngine.AUTO:
            return _best(service, store, storage, grouped=grouped)
        case _:
            assert_never(service.snapshot.engine)


def _best(service: Service, store: DataStore | None, storage: Storage, *, grouped: bool) -> Engine:
    if not keeps_data(service):
        return Engine.MANIFEST_ONLY
    if grouped:
        return Engine.CSI_GROUP
    if storage.can_snapshot(service):
        return Engine.CSI
    if store in DUMPED:
        return Engine.EXEC_DUMP
    return Engine.LIVE_COPY if service.stateful else Engine.MANIFEST_ONLY
