"""Organisations, keys and accepted environments for tests that need something in the database."""

import os
from dataclasses import dataclass

from pydantic import JsonValue

from activities.db import ledger
from activities.db.acceptance import Accepted, Place, create_environment, retry_environment
from activities.db.engine import Database
from activities.db.records import Actor, Caps, EnvironmentRecord, OperationRecord
from activities.db.repositories import environments, operations
from activities.db.repositories.installation import installation_id
from activities.db.repositories.keys import create_key
from activities.db.repositories.organizations import create_organization, create_principal
from activities.db.tables import PrincipalKind, Role
from activities.secrets import MasterKeys
from workflows.contracts.operation import LedgerEntry, OperationResult
from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.environment import GuardRails
from workflows.domain.failures import Failure
from workflows.domain.operations import Cleanup, EnvironmentPhase, OperationState, StepChange

KEYS = MasterKeys(current_id="m1", keys={"m1": os.urandom(32)})
PLANTED = "planted-value-3f9c1d"
"""A literal secret value, to be looked for where it must not be."""


@dataclass(frozen=True)
class Tenant:
    """An organisation, somebody who acts in it, and their token."""

    actor: Actor
    token: str

    @property
    def id(self) -> str:
        """The organisation's id."""
        return self.actor.organization_id


async def make_tenant(
    database: Database,
    name: str = "one",
    *,
    caps: Caps | None = None,
    role: Role = Role.OWNER,
    unlimited: bool = False,
) -> Tenant:
    """Add an organisation with a principal and a key; `unlimited`: without a rate limit."""
    async with database.transaction() as session:
        organization = await create_organization(session, name, caps=caps)
        principal = await create_principal(session, organization.id, PrincipalKind.PERSON, "somebody")
        created = await create_key(
            session, organization.id, principal.id, name="laptop", role=role, unlimited=unlimited
        )
    actor = Actor(organization.id, principal.id, created.key.id, role)
    return Tenant(actor=actor, token=created.token)


def shop(name: str = "shop", **changes: JsonValue) -> Blueprint:
    """A Blueprint with an API over a database, a literal and a generated secret."""
    document: dict[str, JsonValue] = {
        "name": name,
        "services": [
            {
                "name": "api",
                "image": "registry.test/api:1",
                "ports": [{"containerPort": 8080}],
                "dependsOn": ["db"],
                "env": {"Z_FIRST": "1", "A_SECOND": "$(Z_FIRST)"},
                "secrets": [
                    {"name": "db-password", "envKey": "DB_PASSWORD", "value": "auto-generated"},
                    {"name": "api-token", "envKey": "API_TOKEN", "value": PLANTED},
                ],
            },
            {
                "name": "db",
                "image": "registry.test/postgres:16",
                "ports": [{"containerPort": 5432}],
                "secrets": [{"name": "db-password", "envKey": "DB_PASSWORD", "value": "auto-generated"}],
                "volumes": [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}],
            },
        ],
        **changes,
    }
    return parse_blueprint(document)


async def accept(
    database: Database, tenant: Tenant, blueprint: Blueprint | None = None, *, rails: GuardRails | None = None
) -> Accepted:
    """Accept an environment."""
    async with database.transaction() as session:
        return await create_environment(
            session,
            tenant.actor,
            blueprint or shop(),
            Place("local", await installation_id(session), rails or GuardRails()),
            plan=None,
            keys=KEYS,
        )


async def retry(database: Database, tenant: Tenant, environment_id: str) -> Accepted:
    """Accept a retry of an environment's last provision."""
    async with database.transaction() as session:
        return await retry_environment(session, tenant.actor, environment_id, keys=KEYS)


async def degrade(database: Database, tenant: Tenant, environment_id: str) -> EnvironmentRecord:
    """Note that an environment was seen degraded, as a reading of its status does."""
    async with database.transaction() as session:
        return await environments.update_phase(session, tenant.id, environment_id, EnvironmentPhase.DEGRADED)


async def begin(database: Database, operation_id: str) -> ledger.Begun:
    """Begin an operation as its workflow does."""
    async with database.transaction() as session:
        return await ledger.begin(session, operation_id)


async def record(database: Database, operation_id: str, *changes: StepChange) -> None:
    """Record step changes as a workflow does."""
    async with database.transaction() as session:
        await ledger.record(session, LedgerEntry(operation_id=operation_id, changes=changes))


async def finish(
    database: Database,
    operation_id: str,
    state: OperationState,
    *,
    failure: Failure | None = None,
    cleanup: Cleanup | None = None,
) -> OperationResult:
    """End an operation as its workflow does."""
    result = OperationResult(operation_id=operation_id, state=state, failure=failure, cleanup=cleanup)
    async with database.transaction() as session:
        return await ledger.finish(session, result)


async def environment_of(database: Database, tenant: Tenant, environment_id: str) -> EnvironmentRecord:
    """Read an environment of the tenant."""
    async with database.reading() as session:
        return await environments.get_environment(session, tenant.id, environment_id)


async def operation_of(database: Database, tenant: Tenant, operation_id: str) -> OperationRecord:
    """Read an operation of the tenant."""
    async with database.reading() as session:
        return await operations.get_operation(session, tenant.id, operation_id)
