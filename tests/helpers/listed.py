"""Something on each list, in numbers that take pages, with equals in every order; and each list's reader."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import access
from activities.db.engine import Database
from activities.db.repositories import (
    audit,
    checkpoints,
    environments,
    keys,
    operations,
    registry_credentials,
    revisions,
    secrets,
    shares,
    snapshots,
    verifications,
)
from activities.db.repositories.environments import EnvironmentSort
from activities.db.repositories.paging import ByNameOrChange, ByTime, ByTimeOrName, Page
from activities.db.tables import (
    ApiKey,
    AuditEntry,
    Checkpoint,
    Principal,
    PrincipalKind,
    RegistryCredential,
    Revision,
    Role,
    Secret,
    Share,
    Snapshot,
    SnapshotVerification,
)
from activities.db.types import utc_now
from tests.helpers.tenants import KEYS, Tenant, accept, begin, finish, make_tenant, shop
from workflows.domain.operations import OperationState
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.verification import VerificationState

NAMES: Final = ("web-b", "api\u00a0a", "web-b", "\U0001f680" * 100, "api")
"""Of what may be called so: as long as can be, in signs that are not printable, and two alike."""


@dataclass(frozen=True)
class Listed:
    """A tenant, one of its environments, and one of that one's snapshots, each with what lists show of it."""

    tenant: Tenant
    environment_id: str
    snapshot_id: str
    now: datetime
    """Some of each list are older, some as old, some younger."""


@dataclass(frozen=True)
class List:
    """How a list is read, and in which orders. `read`: session, world, and what is asked for."""

    sorts: type[StrEnum]
    read: Callable[..., Awaitable[Page[Any]]]
    key: str = "id"

    def page(self, session: AsyncSession, world: Listed, **asked: object) -> Awaitable[Page[Any]]:
        """Read a page."""
        return self.read(session, world, **asked)


LISTS: Final[Mapping[str, List]] = {
    "environments": List(
        EnvironmentSort, lambda s, w, **a: environments.list_environments(s, w.tenant.id, **a)
    ),
    "operations": List(ByTime, lambda s, w, **a: operations.list_operations(s, w.tenant.id, **a)),
    "replays": List(ByTime, lambda s, w, **a: operations.list_replays(s, w.tenant.id, w.environment_id, **a)),
    "audit": List(audit.AuditSort, lambda s, w, **a: audit.list_entries(s, w.tenant.id, **a)),
    "revisions": List(
        revisions.RevisionSort,
        lambda s, w, **a: revisions.list_revisions(s, w.tenant.id, w.environment_id, **a),
        key="number",
    ),
    "checkpoints": List(
        ByTimeOrName,
        lambda s, w, **a: checkpoints.list_checkpoints(s, w.tenant.id, w.environment_id, **a),
        key="name",
    ),
    "shares": List(
        shares.ShareSort, lambda s, w, **a: shares.list_shares(s, w.tenant.id, w.environment_id, **a)
    ),
    "snapshots": List(
        snapshots.SnapshotSort, lambda s, w, **a: snapshots.list_snapshots(s, w.tenant.id, **a)
    ),
    "verifications": List(
        ByTime, lambda s, w, **a: verifications.list_verifications(s, w.tenant.id, w.snapshot_id, **a)
    ),
    "principals": List(ByTimeOrName, lambda s, w, **a: access.principals(s, w.tenant.id, **a)),
    "keys": List(ByTimeOrName, lambda s, w, **a: keys.list_keys(s, w.tenant.id, **a)),
    "secrets": List(ByNameOrChange, lambda s, w, **a: secrets.list_secrets(s, w.tenant.id, **a)),
    "credentials": List(
        ByNameOrChange,
        lambda s, w, **a: registry_credentials.list_registry_credentials(s, w.tenant.id, **a),
    ),
}


async def listed(database: Database) -> Listed:
    """Put five of nearly everything in the database; environments, operations and replays as they come."""
    tenant = await make_tenant(database)
    accepted = [await accept(database, tenant, shop(f"shop-{number}")) for number in range(3)]
    first = accepted[0]
    await begin(database, first.operation.id)
    await finish(database, first.operation.id, OperationState.SUCCEEDED)
    now = utc_now()
    async with database.transaction() as session:
        data_key = await secrets.data_key(session, tenant.id, KEYS)
        for number, name in enumerate(NAMES):
            # Two of each are of one moment.
            at = now + timedelta(minutes=(-2, 1, 1, 2, -1)[number])
            for row in _rows(tenant, first.environment.id, first.operation.id, data_key.id, number, name, at):
                session.add(row)
                await session.flush()
    return Listed(tenant, first.environment.id, "snap_0", now)


def _rows(
    tenant: Tenant, environment: str, operation: str, data_key: str, number: int, name: str, at: datetime
) -> list[SQLModel]:
    """One of each kind."""
    own: dict[str, Any] = {"organization_id": tenant.id}
    by: dict[str, Any] = {"created_by": tenant.actor.principal_id, "created_at": at}
    ciphered: dict[str, Any] = {
        "data_key_id": data_key,
        "ciphertext": b"x",
        "created_at": at,
        "updated_at": at,
    }
    return [
        Principal(id=f"prn_{number}", kind=PrincipalKind.SERVICE, name=name, created_at=at, **own),
        ApiKey(
            id=f"key_{number}",
            principal_id=f"prn_{number}",
            name=name,
            role=(Role.VIEWER, Role.ADMIN)[number % 2],
            sha256=f"{number}" * 64,
            last8="12345678",
            created_at=at,
            revoked_at=at if number == 0 else None,
            expires_at=at if number != 2 else None,
            **own,
        ),
        Revision(
            environment_id=environment,
            number=number + 2,
            message=("First", "second", "100%", "", "the FIRST again")[number],
            blueprint={},
            **own,
            **by,
        ),
        Checkpoint(environment_id=environment, name=f"point-{number}", revision=2 + number % 3, **own, **by),
        Share(
            id=f"shr_{number}",
            environment_id=environment,
            label=name,
            key_id="m1",
            expires_at=at + timedelta(minutes=5) if number else at,
            revoked_at=at if number == 1 else None,
            locked_until=at if number == 3 else None,
            **own,
            **by,
        ),
        Snapshot(
            id=f"snap_{number}",
            environment_id=environment,
            environment_name="shop-0",
            operation_id=operation,
            name=name[:63],
            scheduled=number % 2 == 0,
            state=(SnapshotState.AVAILABLE, SnapshotState.FAILED)[number // 3],
            stored_bytes=(2**40, 5, 5, 0, 2**33)[number],
            last_verified_at=at if number < 2 else None,
            **own,
            **by,
        ),
        SnapshotVerification(
            id=f"ver_{number}",
            snapshot_id="snap_0",
            level=number % 3,
            state=(VerificationState.PASSED, VerificationState.FAILED)[number % 2],
            requested_by=tenant.actor.principal_id,
            created_at=at,
            **own,
        ),
        Secret(id=f"sec_{number}", name=f"token-{number % 3}{number}", **own, **ciphered),
        RegistryCredential(
            id=f"reg_{number}",
            name=f"corp-{number}",
            host=("a.test", "b.test")[number % 2],
            username="u",
            created_by=tenant.actor.principal_id,
            **own,
            **ciphered,
        ),
        AuditEntry(
            id=f"aud_{number}",
            principal_id=f"prn_{number % 2}",
            key_id=f"key_{number % 3}",
            action=("environment.stop", "environment.resume")[number % 2],
            subject_id=f"env_{number}",
            at=at,
            **own,
        ),
    ]
