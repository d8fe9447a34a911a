"""ResumeEnvironment: its name; it uses the activities of a provision."""

from typing import Final

RESUME_ENVIRONMENT: Final = "ResumeEnvironment"
