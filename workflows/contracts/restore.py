"""RestoreEnvironment: brings a snapshot's data into an environment."""

from typing import Final

RESTORE_ENVIRONMENT: Final = "RestoreEnvironment"
