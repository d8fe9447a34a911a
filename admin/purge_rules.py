"""What speaks against the removal of orphans.

A database that was restored or is not the right one looks just like many orphans: nothing is removed at first
sight, not with a volume, and not when many look so at once, unless somebody says so who has read the numbers.
"""

from datetime import datetime, timedelta
from typing import Final

from admin.errors import AdminError
from admin.orphans import OrphanNamespace, Survey

SEEN_FOR: Final = timedelta(hours=24)
MOST_ORPHANED: Final = 0.10
"""Of the namespaces of an installation on a cluster; more look like a database that is not the right one."""


def objections(orphan: OrphanNamespace, now: datetime, *, at_once: bool, volumes: bool) -> list[str]:
    """Return what speaks against the removal of an orphan, with the way to have it all the same."""
    against: list[str] = []
    if orphan.going:
        against.append("it is being deleted already")
    seen_for = now - orphan.seen_at
    if seen_for < SEEN_FOR and not at_once:
        hours = seen_for.total_seconds() / 3600
        against.append(f"it has been seen orphaned for {hours:.1f} h, not for 24 (--now)")
    if orphan.volumes is None and not volumes:
        against.append("we may not look whether it has volumes (--with-volumes)")
    elif orphan.volumes and not volumes:
        against.append(f"it has volumes: {', '.join(orphan.volumes)} (--with-volumes)")
    return against


def sentence(found: Survey, count: int) -> str:
    """Return what has to be said to remove so many orphans while many look so."""
    return f"delete {count} of {found.namespaces} namespaces of {found.cluster}"


def check_numbers(found: Survey, count: int, said: str | None) -> None:
    """Refuse when too many namespaces look orphaned, unless the sentence is said. Raises AdminError."""
    share = len(found.orphans) / found.namespaces if found.namespaces else 0.0
    if share <= MOST_ORPHANED or said == sentence(found, count):
        return
    raise AdminError(
        f"{len(found.orphans)} of {found.namespaces} namespaces look orphaned, more than "
        f"{MOST_ORPHANED:.0%}: a database that was restored or is another one looks just so.",
        hints=[f'When you are sure, say so: --force "{sentence(found, count)}"'],
    )
