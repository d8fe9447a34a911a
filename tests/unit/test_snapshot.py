"""Which engine takes which component, and what can be said of the whole afterwards."""

import pytest
from pydantic import JsonValue

from workflows.domain.blueprint_models import (
    Blueprint,
    DataStore,
    Service,
    Snapshot,
    SnapshotEngine,
    Volume,
    VolumeType,
)
from workflows.domain.snapshot import (
    Captured,
    Component,
    Consistency,
    Engine,
    EngineImpossible,
    Scope,
    Storage,
    above,
    consistency,
    fallen_back,
    grade,
    kept_in,
    plan_components,
    reaches,
    scope,
)

DATA = Volume(name="data", mount_path="/data", type=VolumeType.PVC, size="1Gi")
SLOW = Volume(name="slow", mount_path="/slow", type=VolumeType.PVC, size="1Gi", storage_class="slow")
CACHE = Volume(name="cache", mount_path="/cache", type=VolumeType.EMPTY_DIR)
DB = Service(name="db", image="postgres:16", volumes=(DATA,))
MONGO = Service(name="mongo", image="mongo:7", volumes=(DATA,))
REDIS = Service(name="cache", image="redis:7")
FILES = Service(name="files", image="nginx:1", volumes=(DATA,))
API = Service(name="api", image="api:1", volumes=(CACHE,))
CSI = Storage({None: "fast.csi", "slow": "slow.csi"}, snapshots=frozenset({"fast.csi"}))
GROUPS = Storage({None: "fast.csi"}, snapshots=frozenset({"fast.csi"}), groups=frozenset({"fast.csi"}))


def planned(*services: Service, storage: Storage = Storage({})) -> dict[str, Engine]:  # noqa: B008
    blueprint = Blueprint(name="shop", services=services)
    return {each.service: each.engine for each in plan_components(blueprint.services, storage)}


def demanding(service: Service, engine: SnapshotEngine) -> Service:
    return service.model_copy(update={"snapshot": Snapshot(engine=engine)})


def test_without_storage_that_can_each_store_has_its_tool() -> None:
    assert planned(DB, REDIS, FILES, API, MONGO) == {
        "db": Engine.EXEC_DUMP,
        "cache": Engine.EXEC_DUMP,
        "files": Engine.LIVE_COPY,
        "api": Engine.MANIFEST_ONLY,
        "mongo": Engine.LIVE_COPY,
    }


def test_storage_takes_what_lies_on_it() -> None:
    both = DB.model_copy(update={"volumes": (DATA, SLOW)})
    files = FILES.model_copy(update={"volumes": (SLOW,)})
    assert planned(DB, REDIS, API, storage=CSI) == {
        "db": Engine.CSI,
        "cache": Engine.EXEC_DUMP,
        "api": Engine.MANIFEST_ONLY,
    }
    assert planned(both, files, storage=CSI) == {"db": Engine.EXEC_DUMP, "files": Engine.LIVE_COPY}


def test_a_group_takes_all_or_nothing() -> None:
    assert planned(DB, FILES, API, storage=GROUPS) == {
        "db": Engine.CSI_GROUP,
        "files": Engine.CSI_GROUP,
        "api": Engine.MANIFEST_ONLY,
    }
    for odd in (REDIS, demanding(REDIS, SnapshotEngine.MANIFEST_ONLY)):
        assert planned(DB, FILES, odd, storage=GROUPS)["db"] is Engine.CSI
    assert planned(API, storage=GROUPS) == {"api": Engine.MANIFEST_ONLY}


def test_what_the_blueprint_demands_it_gets_or_hears_why_not() -> None:
    assert planned(demanding(DB, SnapshotEngine.EXEC_DUMP), storage=CSI) == {"db": Engine.EXEC_DUMP}
    assert planned(demanding(DB, SnapshotEngine.CSI), storage=CSI) == {"db": Engine.CSI}
    assert planned(demanding(DB, SnapshotEngine.MANIFEST_ONLY)) == {"db": Engine.MANIFEST_ONLY}
    for service, engine, storage in (
        (DB, SnapshotEngine.CSI, Storage({None: "fast.csi"})),
        (REDIS, SnapshotEngine.CSI, CSI),
        (FILES, SnapshotEngine.EXEC_DUMP, CSI),
        (MONGO, SnapshotEngine.EXEC_DUMP, CSI),
        (API, SnapshotEngine.EXEC_DUMP, CSI),
    ):
        with pytest.raises(EngineImpossible, match=f"{service.name} asks for {engine}"):
            planned(demanding(service, engine), storage=storage)


def test_a_group_is_of_one_driver() -> None:
    both = frozenset({"fast.csi", "slow.csi"})
    storage = Storage({None: "fast.csi", "slow": "slow.csi"}, snapshots=both, groups=both)
    slow = Service(name="slow", image="nginx:1", volumes=(SLOW,))
    assert planned(DB, FILES, storage=storage) == {"db": Engine.CSI_GROUP, "files": Engine.CSI_GROUP}
    assert planned(DB, slow, storage=storage) == {"db": Engine.CSI, "slow": Engine.CSI}
    assert [storage.drivers_of(each) for each in (DB, slow, API)] == [{"fast.csi"}, {"slow.csi"}, set()]


def captured(
    engine: Engine, *, window: int | None = None, quiesced: bool = False, points: int = 1
) -> Captured:
    component = Component(service="db", store=DataStore.FILES, engine=engine)
    return Captured(component, window=window, quiesced=quiesced, points=points)


@pytest.mark.parametrize(
    ("engine", "by_itself", "held_still"),
    [
        (Engine.EXEC_DUMP, Consistency.APPLICATION, Consistency.APPLICATION),
        (Engine.CSI_GROUP, Consistency.CRASH_GROUP, Consistency.APPLICATION),
        (Engine.CSI, Consistency.CRASH_VOLUME, Consistency.APPLICATION),
        (Engine.LIVE_COPY, Consistency.LIVE_COPY, Consistency.APPLICATION),
        (Engine.MANIFEST_ONLY, Consistency.CONFIG_ONLY, Consistency.CONFIG_ONLY),
    ],
)
def test_grades(engine: Engine, by_itself: Consistency, held_still: Consistency) -> None:
    assert grade(captured(engine)) is by_itself
    assert grade(captured(engine, window=1, quiesced=True)) is held_still


def test_the_whole_is_its_weakest_part_that_has_data() -> None:
    nothing = Captured(Component(service="api", store=None, engine=Engine.MANIFEST_ONLY))
    dump, copy = captured(Engine.EXEC_DUMP), captured(Engine.LIVE_COPY)
    assert consistency([dump, nothing]) is Consistency.APPLICATION
    assert consistency([dump, copy, nothing]) is Consistency.LIVE_COPY
    assert consistency([dump, captured(Engine.MANIFEST_ONLY)]) is Consistency.CONFIG_ONLY
    assert consistency([nothing]) is Consistency.CONFIG_ONLY


def test_one_point_is_said_only_of_one_point() -> None:
    nothing = Captured(Component(service="api", store=None, engine=Engine.MANIFEST_ONLY))
    dump, copy = captured(Engine.EXEC_DUMP), captured(Engine.LIVE_COPY)
    held = captured(Engine.EXEC_DUMP, window=1, quiesced=True)
    assert scope([dump, nothing]) is Scope.ONE_POINT
    assert scope([held, held]) is Scope.ONE_POINT
    assert scope([held, captured(Engine.LIVE_COPY, window=1, quiesced=True)]) is Scope.ONE_POINT
    assert scope([captured(Engine.CSI_GROUP)] * 3) is Scope.ONE_POINT
    assert scope([captured(Engine.EXEC_DUMP, window=1, quiesced=True, points=3)]) is Scope.ONE_POINT
    assert scope([captured(Engine.EXEC_DUMP, points=0)]) is Scope.ONE_POINT
    for independent in (
        [dump, dump],
        # Two databases of one server, two volumes of one service.
        [captured(Engine.EXEC_DUMP, points=2)],
        [captured(Engine.CSI, points=2)],
        [held, dump],
        [copy],
        [held, copy],
        [captured(Engine.CSI)] * 2,
        # Lost and taken again in another window.
        [held, captured(Engine.EXEC_DUMP, window=2, quiesced=True)],
        # In the same window, and not held still.
        [held, captured(Engine.EXEC_DUMP, window=1)],
        [captured(Engine.CSI_GROUP), dump],
    ):
        assert scope(independent) is Scope.INDEPENDENT


def test_a_floor() -> None:
    assert reaches(Consistency.APPLICATION, Consistency.CRASH_GROUP)
    assert reaches(Consistency.LIVE_COPY, Consistency.LIVE_COPY)
    assert not reaches(Consistency.CRASH_VOLUME, Consistency.CRASH_GROUP)
    assert not reaches(Consistency.CONFIG_ONLY, Consistency.LIVE_COPY)


def _otherwise(*services: Service, storage: Storage) -> dict[str, tuple[Engine, ...]]:
    return {each.service: each.otherwise for each in plan_components(services, storage)}


def test_what_is_tried_otherwise_is_known_beforehand() -> None:
    assert _otherwise(DB, FILES, MONGO, API, storage=GROUPS) == {
        "db": (Engine.CSI, Engine.EXEC_DUMP),
        "files": (Engine.CSI, Engine.LIVE_COPY),
        "mongo": (Engine.CSI, Engine.LIVE_COPY),
        "api": (),
    }
    assert _otherwise(DB, REDIS, storage=CSI) == {"db": (Engine.EXEC_DUMP,), "cache": ()}
    demanded = demanding(DB, SnapshotEngine.CSI)
    assert _otherwise(demanded, storage=CSI) == {"db": ()}
    # A class for groups alone cuts nothing singly.
    groups = Storage(GROUPS.drivers, groups=GROUPS.groups)
    assert _otherwise(FILES, storage=groups) == {"files": (Engine.LIVE_COPY,)}


def test_the_next_engine_is_the_first_that_reaches_the_floor() -> None:
    [db, files] = plan_components((DB, FILES), GROUPS)
    assert fallen_back(db, None) == Component(
        service="db", store=DataStore.POSTGRES, engine=Engine.CSI, otherwise=(Engine.EXEC_DUMP,)
    )
    last = fallen_back(db, Consistency.APPLICATION)
    assert last is not None
    assert (last.engine, last.otherwise) == (Engine.EXEC_DUMP, ())
    assert fallen_back(last, None) is None
    assert fallen_back(files, Consistency.CRASH_GROUP) is None
    held = fallen_back(files, Consistency.APPLICATION, {"files"})
    assert held is not None
    assert held.engine is Engine.CSI


def test_a_floor_moves_only_what_can_reach_it() -> None:
    planned_for = plan_components((DB, FILES, API), CSI)
    assert above(planned_for, None) == planned_for
    engines = [each.engine for each in above(planned_for, Consistency.APPLICATION)]
    assert engines == [Engine.EXEC_DUMP, Engine.CSI, Engine.MANIFEST_ONLY]
    held = above(planned_for, Consistency.APPLICATION, {"db", "files"})
    assert [each.engine for each in held] == [Engine.CSI, Engine.CSI, Engine.MANIFEST_ONLY]


def test_data_without_a_volume_are_in_a_container_or_in_what_their_pod_has_for_all_of_them() -> None:
    statuses: list[JsonValue] = [
        {"name": "proxy", "containerID": "c-0"},
        {"name": "cache", "containerID": "c-1"},
    ]
    pod: dict[str, JsonValue] = {"metadata": {"uid": "pod-1"}, "status": {"containerStatuses": statuses}}
    assert kept_in(pod, REDIS) == "pod-1/c-1"
    assert kept_in(pod, REDIS.model_copy(update={"volumes": (CACHE,)})) == "pod-1"
    assert kept_in({"metadata": {"uid": "pod-1"}}, REDIS) == "pod-1/"
