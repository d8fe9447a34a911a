"""Words for messages."""

from collections.abc import Sequence


def listed(words: Sequence[str], limit: int = 12) -> str:
    """Words for a message: `a, b and 3 more`."""
    if len(words) <= limit:
        return ", ".join(words)
    return f"{', '.join(words[:limit])} and {len(words) - limit} more"
