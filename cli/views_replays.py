"""Tables of replays."""

from collections.abc import Sequence

from cli.models import Operation
from cli.models_replays import Replay
from cli.problems import warning_lines
from cli.text import age, columns, plain


def preview(found: Replay) -> list[str]:
    """Return what a replay would do, step by step."""
    rows = [[each.action, each.step, plain(each.message)] for each in found.steps]
    data = "" if found.snapshot_id is None else f", with the data of {found.snapshot_id}"
    told = [plain(line) for each in found.warnings for line in warning_lines(each)]
    return [f"Replay of {found.replay_of}{data}:", "", *columns(["", "STEP", "WHY"], rows), *told]


def replay_list(replays: Sequence[Operation]) -> list[str]:
    """Return replays as a table."""
    rows = [
        [
            each.id,
            each.state,
            each.environment_name or each.environment_id,
            each.replay_of or "",
            each.from_step or "",
            each.snapshot_id or "",
            age(each.created_at),
        ]
        for each in replays
    ]
    return columns(["ID", "STATE", "ENVIRONMENT", "REPLAY OF", "FROM STEP", "SNAPSHOT", "AGE"], rows)


def outcome(operation: Operation, environment: str) -> str:
    """Say what a replay that succeeded came to."""
    services = [step for step in operation.steps if step.kind == "service"]
    skipped = sum(step.state == "skipped" for step in services)
    ran = len(services) - skipped
    loaded = sum(step.kind == "load" and step.state == "succeeded" for step in operation.steps)
    data = f", data of {loaded} loaded" if loaded else ""
    return f"Replay of {environment} succeeded: {ran} of {len(services)} services run again{data}."
