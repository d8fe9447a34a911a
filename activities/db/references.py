"""What a Blueprint refers to outside itself: every reference that leads nowhere, with its place."""

from collections.abc import Collection

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.repositories import registry_credentials, secrets
from workflows.domain.blueprint import Blueprint
from workflows.domain.errors import FieldError


async def missing_references(
    session: AsyncSession, organization_id: str, blueprint: Blueprint, own: Collection[str] = ()
) -> tuple[FieldError, ...]:
    """Return a fault for each secret or registry credential that is named and not the organisation's.

    `own`: the environment's own secrets, to which a reference of the same name may lead too.
    """
    wanted_secrets = {
        ref.value_from.secret
        for service in blueprint.services
        for ref in service.secrets
        if ref.value_from is not None
    }
    wanted_logins = {name for service in blueprint.services for name in service.image_pull_secrets}
    known_secrets: set[str] = set()
    if wanted_secrets:
        known_secrets = await secrets.existing_names(session, organization_id, wanted_secrets)
    known_logins: set[str] = set()
    if wanted_logins:
        known_logins = await registry_credentials.existing_names(session, organization_id, wanted_logins)
    faults: list[FieldError] = []
    for index, service in enumerate(blueprint.services):
        for place, name in enumerate(service.image_pull_secrets):
            if name not in known_logins:
                faults.append(
                    FieldError(
                        path=("services", index, "imagePullSecrets", place),
                        message=f"no registry credential {name!r} in this organisation",
                        suggestion="store it first, or take the name out",
                    )
                )
        for place, ref in enumerate(service.secrets):
            if ref.value_from is None or (ref.name in own and ref.value_from.secret == ref.name):
                continue
            if ref.value_from.secret not in known_secrets:
                faults.append(
                    FieldError(
                        path=("services", index, "secrets", place, "valueFrom", "secret"),
                        message=f"no secret {ref.value_from.secret!r} in this organisation",
                        suggestion="give it a value here: value: auto-generated, or the text itself",
                    )
                )
    return tuple(faults)
