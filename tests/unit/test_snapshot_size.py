"""What is written down of a snapshot fits through Temporal, however many databases there are."""

import pytest

from tests.helpers.many import databases, facts
from workflows.contracts.snapshot import Loadable
from workflows.domain.snapshot import Consistency, Scope
from workflows.domain.snapshot_facts import differences
from workflows.domain.snapshot_manifest import SnapshotManifest, StoredComponent
from workflows.domain.snapshot_size import (
    LARGEST_COMPONENTS,
    LARGEST_MANIFEST,
    MOST_STREAMS,
    SnapshotTooLarge,
    check_streams,
    fitted,
    fitted_manifest,
)

PAYLOAD = 2 * 1024 * 1024
"""What Temporal takes at once."""
LONGEST = '{:"<63}'
"""A database's name of 63 bytes, each of which takes two in JSON."""
SERVICE = "s" * 63


def size(component: StoredComponent) -> int:
    return len(component.model_dump_json().encode())


def manifest_of(*components: StoredComponent, blueprint: int = 1000) -> SnapshotManifest:
    return SnapshotManifest(
        snapshot_id="snap_1",
        organization_id="org_1",
        environment_id="env_1",
        environment_name="shop",
        revision=1,
        blueprint={"filler": "x" * blueprint},
        consistency=Consistency.APPLICATION,
        scope=Scope.INDEPENDENT,
        components=components,
    )


def test_a_few_databases_keep_all_their_lists() -> None:
    component = databases("db", 100, tables=40)
    assert fitted([component]) == (component,)


def test_some_hundreds_fit_and_are_proved_all_the_same() -> None:
    component = databases("db", 400, tables=40)
    assert size(component) > PAYLOAD
    [fitting] = fitted([component])
    assert size(fitting) <= LARGEST_COMPONENTS
    recorded = fitting.parts[7].facts
    assert recorded is not None
    assert 0 < len(recorded.tallies[0].entries) < 40
    assert differences(recorded, facts(40)) == ()
    # What is listed is named, what is not is counted.
    assert len(differences(recorded, facts(40, rows=5))) > 3
    assert fitted([component]) == (fitting,), "each attempt and each replay cuts alike"


def test_as_many_as_there_may_be_fit_whatever_they_are_called() -> None:
    component = databases(SERVICE, MOST_STREAMS, tables=1000, name=LONGEST)
    [fitting] = fitted([component])
    recorded = fitting.parts[-1].facts
    assert recorded is not None
    assert [each.entries for each in recorded.tallies] == [()] * 4
    assert differences(recorded, facts(1000)) == ()
    [line, *_] = differences(recorded, facts(1000, rows=5))
    assert line.startswith("tables that are not listed by name: 123456789000 rows recorded, 5000 found")
    keys = {part.prefix: "k" * 124 for part in fitting.parts}
    # A load takes its context and rules besides.
    assert len(Loadable(component=fitting, keys=keys).model_dump_json()) < PAYLOAD - 200_000


def test_of_several_services_all_lists_are_cut_alike() -> None:
    whole = manifest_of(databases("one", 150, tables=40), databases("two", 150, tables=40))
    fitting = fitted_manifest(whole)
    assert len(fitting.model_dump_json()) < LARGEST_MANIFEST
    one, two = (each.parts[0].facts for each in fitting.components)
    assert one == two != whole.components[0].parts[0].facts


def test_a_large_blueprint_leaves_less_room() -> None:
    whole = manifest_of(databases("db", 100, tables=40), blueprint=1_200_000)
    assert len(fitted_manifest(whole).model_dump_json()) <= LARGEST_MANIFEST
    with pytest.raises(SnapshotTooLarge, match=r"its data take \d+ bytes to write down, \d+ are possible"):
        fitted_manifest(manifest_of(databases("db", 800, tables=1), blueprint=1_200_000))


def test_more_streams_than_there_may_be_are_refused_with_the_numbers() -> None:
    check_streams("db", MOST_STREAMS, 0)
    check_streams("db", 1, MOST_STREAMS - 1)
    with pytest.raises(SnapshotTooLarge, match=r"db has 1001 streams .* at most 1000"):
        check_streams("db", 1001, 0)
    with pytest.raises(SnapshotTooLarge, match=r"db has 2 streams .* 999 of other services; .* at most 1000"):
        check_streams("db", 2, 999)
