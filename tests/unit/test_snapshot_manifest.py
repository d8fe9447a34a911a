"""How many moments a component's data are of."""

import pytest

from tests.helpers.snapshots import stored
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot import Engine
from workflows.domain.snapshot_facts import Facts, Format, Kind, Tally
from workflows.domain.snapshot_manifest import StoredVolume

ROLES = Facts(format=Format.POSTGRES_GLOBALS, tallies=(Tally(kind=Kind.STATEMENTS, count=3),))
EMPTY = Facts(format=Format.POSTGRES, tallies=(Tally(kind=Kind.DEFINITIONS, count=1),))
FULL = Facts(
    format=Format.POSTGRES, tallies=(Tally(kind=Kind.TABLES, count=0, digest="of a table without rows"),)
)
MARIADB = Facts(format=Format.MARIADB)
USERS = Facts(format=Format.MARIADB_USERS)
LATER = Facts(format=Format.POSTGRES, unread="a later version")


@pytest.mark.parametrize(
    ("facts", "points"),
    [
        ((ROLES, EMPTY, FULL), 1),
        ((ROLES, FULL, FULL), 2),
        ((ROLES, EMPTY), 0),
        ((ROLES, EMPTY, LATER), 1),
        ((ROLES, None, FULL), 2),
        ((MARIADB, USERS), 1),
    ],
)
def test_each_stream_with_data_has_its_own(facts: tuple[Facts | None, ...], points: int) -> None:
    component = stored("db", DataStore.POSTGRES, *map(str, range(len(facts))))
    parts = tuple(
        part.model_copy(update={"facts": each}) for part, each in zip(component.parts, facts, strict=True)
    )
    assert component.model_copy(update={"parts": parts}).points == points


def test_each_pod_and_each_volume_that_is_cut_by_itself_has_its_own() -> None:
    assert stored("files", DataStore.FILES, "/a", "/b", pods=3).points == 6
    volumes = tuple(StoredVolume(volume=name, driver="d", handle=name, content="c") for name in "ab")
    cut = stored("files", DataStore.FILES).model_copy(update={"parts": (), "volumes": volumes})
    assert cut.model_copy(update={"engine": Engine.CSI}).points == 2
    assert cut.model_copy(update={"engine": Engine.CSI_GROUP}).points == 1
