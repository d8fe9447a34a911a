"""Whose a snapshot in an object store is: each is signed with the id of the installation that stores it.

A store may be shared, and outlives databases. What nobody signed, or another installation did, is not ours to
remove, whatever our database knows.
"""

from activities.storage.objects import ObjectNotFound, ObjectStore
from workflows.domain.environment import EnvironmentContext
from workflows.domain.snapshot_manifest import owner_document, owner_key


async def sign(objects: ObjectStore, context: EnvironmentContext, snapshot_id: str) -> None:
    """Write down whose a snapshot is; again is the same. Raises StoreUnavailable."""
    key = owner_key(context.organization_id, snapshot_id)
    await objects.put_json(key, owner_document(context.installation_id))


async def is_signed(
    objects: ObjectStore, organization_id: str, snapshot_id: str, installation_id: str
) -> bool:
    """Whether this installation stored a snapshot. Raises StoreUnavailable."""
    try:
        found = await objects.get_json(owner_key(organization_id, snapshot_id))
    except (ObjectNotFound, ValueError):  # nobody signed it, or what stands there is no document
        return False
    return found == owner_document(installation_id)
