"""How far numbers are set ahead where those that were given out are not known any more.

Fences are on living objects, event numbers and entity tags with clients: given out twice, an old one would
pass for a new one.
"""

from typing import Final

FENCES_AHEAD: Final = 100_000
"""By so much fences and versions go up: more than an environment has operations between two backups."""
EVENTS_AHEAD: Final = 1_000_000
