"""ScaleService: its name; it uses the activities of a provision."""

from typing import Final

SCALE_SERVICE: Final = "ScaleService"
