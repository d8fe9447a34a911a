"""Replays, as the API answers them and as they are asked for."""

from dataclasses import dataclass

from pydantic import JsonValue

from cli.models import ApiModel, FieldFault


@dataclass(frozen=True, slots=True)
class ReplayWish:
    """What is to be run again. `into`: name of a new environment; None: in place. `snapshot`: its data are
    loaded, hidden by the rules of `masking`; with `run_init` the init of their services is run over them.
    """

    operation: str | None = None
    from_step: str | None = None
    into: str | None = None
    snapshot: str | None = None
    masking: dict[str, JsonValue] | None = None
    run_init: bool = False


class ReplayStep(ApiModel):
    """What a replay does with one step."""

    step: str
    action: str
    message: str = ""


class Replay(ApiModel):
    """What a replay would do."""

    replay_of: str
    snapshot_id: str | None = None
    target: str
    steps: tuple[ReplayStep, ...] = ()
    warnings: tuple[FieldFault, ...] = ()
