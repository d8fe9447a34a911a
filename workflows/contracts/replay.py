"""ReplayEnvironment: runs the recorded graph of an earlier operation again."""

from typing import Final

REPLAY_ENVIRONMENT: Final = "ReplayEnvironment"
