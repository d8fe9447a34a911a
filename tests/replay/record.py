"""Records the histories that `test_replay` replays: `python -m tests.replay.record` (make histories).

Run it when a workflow's commands were changed on purpose. A history in production does not change with it:
running operations need `workflow.patched` (docs/operating.md), or workers of both versions side by side.
"""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

from pydantic import JsonValue
from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeLedger
from tests.replay.paths import PATHS
from tests.workflows.conftest import bench
from worker.devserver import executable
from workflows.contracts.search_attributes import ALL

HISTORIES = Path(__file__).parent / "histories"


async def record() -> None:
    """Run every path and write its history."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=executable(), search_attributes=ALL, data_converter=pydantic_data_converter
    ) as environment:
        for path in PATHS:
            cluster, verification = path.cluster(), path.verification()
            verification.reached = cluster.reached
            ledger = FakeLedger(
                path.plan(),
                before=path.before,
                without_key_at=path.without_key_at,
                snapshots=path.snapshots(),
                verification=verification,
                snapshot_sweep=path.snapshot_sweep(),
            )
            async with bench(environment, ledger, cluster) as this:
                handle = await this.start(path.workflow)
                await path.act(handle, cluster)
                with suppress(WorkflowFailureError):  # a failed operation is a path too
                    await handle.result()
                history = await handle.fetch_history()
            target = HISTORIES / f"{path.name}.json"
            target.write_text(json.dumps(without_machine(json.loads(history.to_json())), indent=1) + "\n")


def without_machine(value: JsonValue) -> JsonValue:
    """Leave out what differs from machine to machine and takes no part in a replay."""
    if isinstance(value, dict):
        return {
            key: without_machine(item)
            for key, item in value.items()
            # Of the SDK's metadata its flags take part: they say how a patch was written down.
            if key not in ("stackTrace", "identity", "workerVersion", "sdkName", "sdkVersion")
        }
    if isinstance(value, list):
        return [without_machine(item) for item in value]
    return value


if __name__ == "__main__":
    asyncio.run(record())
