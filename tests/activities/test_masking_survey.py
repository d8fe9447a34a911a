"""Rules surveyed over a store before anything is loaded: streams that were really sealed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from activities.snapshots.load import ClusterRestore
from activities.snapshots.masking import survey
from activities.snapshots.masking_survey import MOST_TOLD
from activities.storage.objects import ObjectStore
from tests.activities.test_masking_mariadb import DUMP, KEYS, rule
from tests.api.support import FakeCluster
from tests.helpers.contexts import CONTEXT
from tests.helpers.kept import DATA_KEY, OPENER, SNAPSHOT, Kept, seal_part, sealed
from workflows.contracts.restore import MaskingSurveyed, SurveyMasking
from workflows.contracts.snapshot import Loadable
from workflows.domain.blueprint_models import DataStore
from workflows.domain.masking import ColumnRule, ServiceMasking
from workflows.domain.snapshot import Consistency, Engine
from workflows.domain.snapshot_dump import Part, mariadb_parts
from workflows.domain.snapshot_manifest import StoredComponent
from workflows.domain.transfer import TransferKind, TransferProgress

PARTS = dict(zip(mariadb_parts(), (DUMP, "CREATE USER x;"), strict=True))


async def pieces(text: str) -> AsyncIterator[bytes]:
    data = text.encode()
    for start in range(0, len(data), 100):
        yield data[start : start + 100]


class Surveyed(Kept):
    """A MariaDB server in a store."""

    async def surveyed(self, *rules: ColumnRule) -> MaskingSurveyed:
        """Survey these rules."""
        objects = ObjectStore(str(self.directory))
        restore = ClusterRestore(FakeCluster(), OPENER, objects, asyncio.Semaphore())
        request = SurveyMasking(
            context=CONTEXT,
            snapshot_id=SNAPSHOT,
            stored=Loadable(
                component=self.component, keys=self.keys, masking_key=sealed(DATA_KEY.masking_key())
            ),
            rules=ServiceMasking(columns=rules),
        )
        return await self.attempt().run(restore.survey_masking, request)


async def keep(directory: Path, contents: Mapping[Part, str] = PARTS) -> Surveyed:
    """Store a server with these dumps, as a capture does."""
    keys, parts = {}, []
    for part, text in contents.items():
        stored, key = await seal_part(directory, "maria", part.key, part.subject, pieces(text))
        parts.append(stored)
        keys[stored.prefix] = key
    component_kept = StoredComponent(
        service="maria",
        store=DataStore.MYSQL,
        engine=Engine.EXEC_DUMP,
        consistency=Consistency.APPLICATION,
        parts=tuple(parts),
    )
    return Surveyed(directory, component_kept, keys)


async def test_rules_that_fit_say_how_long_each_stream_gets(tmp_path: Path) -> None:
    kept = await keep(tmp_path)
    found = await kept.surveyed(*KEYS)
    rules = ServiceMasking(columns=KEYS)
    expected = [
        (await survey(DataStore.MYSQL, part, rules, DATA_KEY.masking_key(), pieces(text))).size
        for part, text in PARTS.items()
    ]
    assert list(found.sizes) == expected
    assert expected[0] != len(DUMP)
    assert (found.faults, found.more, found.evidence) == ((), 0, ())
    told = kept.beats[-1]
    assert isinstance(told, TransferProgress)
    assert (told.kind, told.service) == (TransferKind.MEASURE, "maria")


async def test_all_that_does_not_fit_is_told_with_its_place_and_kept(tmp_path: Path) -> None:
    kept = await keep(tmp_path)
    found = await kept.surveyed(*KEYS, rule("parent", "id_", "hash"), rule("nobody", "x", "redact"))
    assert [fault.field for fault in found.faults] == [
        "services.maria.columns[2]",
        "services.maria.columns[3]",
    ]
    assert found.sizes == ()
    [key] = found.evidence
    document = await ObjectStore(str(tmp_path)).get_json(key)
    assert isinstance(document, dict)
    assert document["log"] == "\n".join(str(fault) for fault in found.faults)


async def test_history_takes_the_first_faults_and_how_many_more_there_are(tmp_path: Path) -> None:
    kept = await keep(tmp_path)
    found = await kept.surveyed(*(rule(f"nobody{n}", "x", "redact") for n in range(MOST_TOLD + 7)))
    assert (len(found.faults), found.more) == (MOST_TOLD, 7)


async def test_a_dump_that_cannot_be_masked_is_a_fault_among_others(tmp_path: Path) -> None:
    """It is whole, and can be restored without rules for it."""
    broken = {part: text.replace("(2,2);", "(2,'my-secret');") for part, text in PARTS.items()}
    found = await (await keep(tmp_path, broken)).surveyed(*KEYS)
    [fault] = found.faults
    assert fault.field == "services.maria"
    assert "cannot be masked" in fault.message
    assert "my-secret" not in fault.message
