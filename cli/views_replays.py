"""Tables of replays."""

from collections.abc import Sequence

from cli.models import Operation
from cli.models_replays import Replay
from cli.text import age, columns, plain


def preview(found: Replay) -> list[str]:
    """Return what a replay would do, step by step."""
    rows = [[each.action, each.step, plain(each.message)] for each in found.steps]
    return [f"Replay of {found.replay_of}:", "", *columns(["", "STEP", "WHY"], rows)]


def replay_list(replays: Sequence[Operation]) -> list[str]:
    """Return replays as a table."""
    rows = [
        [
            each.id,
            each.state,
            each.environment_name or each.environment_id,
            each.replay_of or "",
            each.from_step or "",
            age(each.created_at),
        ]
        for each in replays
    ]
    return columns(["ID", "STATE", "ENVIRONMENT", "REPLAY OF", "FROM STEP", "AGE"], rows)


def outcome(operation: Operation, environment: str) -> str:
    """Say what a replay that succeeded came to."""
    services = [step for step in operation.steps if step.kind == "service"]
    skipped = sum(step.state == "skipped" for step in services)
    ran = len(services) - skipped
    return f"Replay of {environment} succeeded: {ran} of {len(services)} services run again."
