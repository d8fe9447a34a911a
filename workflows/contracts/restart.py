"""RestartService: its name; it uses the activities of a provision."""

from typing import Final

RESTART_SERVICE: Final = "RestartService"
