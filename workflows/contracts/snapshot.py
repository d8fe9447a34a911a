"""SnapshotEnvironment: takes an environment's configuration and data at one time."""

from typing import Final

SNAPSHOT_ENVIRONMENT: Final = "SnapshotEnvironment"
