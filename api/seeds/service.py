"""Use cases on seeds: publish packages, find them, run them into an environment."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Response
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import acceptance
from activities.db.acceptance import Accepted, PackageChoice, SeedWish
from activities.db.records import SeedPackageRecord
from activities.db.repositories import seed_packages
from activities.db.repositories.seed_packages import Published
from api.environments.service import Caller, accept, accepted_operation
from api.environments.shapes import field_problems
from api.idempotency import Outcome, Replayed, answer_outcome, once
from api.problems import ProblemError, ProblemField, RequestProblem
from api.seeds.schemas import (
    PublishSeed,
    RunSeed,
    RunSeedPackage,
    SeedOut,
    SeedPackageOut,
    SeedParameterOut,
)
from api.state import AppState
from workflows.domain.seeds import RESERVED_NAMES, SeedContent, SeedParameter, content_faults, read_version

_Shape = TypeVar("_Shape", bound=SeedPackageOut)


async def publish(caller: Caller, wish: PublishSeed) -> Response:
    """Keep a new version: 201, or 200 when it is there just so. Nothing is written when anything is wrong."""
    content = SeedContent(
        **_does(wish),
        service=wish.service,
        parameters=tuple(SeedParameter.model_validate(each.model_dump()) for each in wish.parameters),
    )
    faults = field_problems(content_faults(content))
    if wish.name in RESERVED_NAMES:
        faults.append(ProblemField(path="name", message="is a word of the API and no package's name"))
    if read_version(wish.version) is None:
        problem = "is no semantic version, or has build metadata"
        faults.append(ProblemField(path="version", message=problem, suggestion="1.2.3, or 1.2.3-rc.1"))
    if faults:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED, "The package cannot be used as it is.", errors=faults[:1000]
        )
    wanted = Published(wish.name, wish.version, wish.description, content)

    async def work(session: AsyncSession) -> Outcome[None]:
        record, new = await seed_packages.publish(session, caller.actor, wanted)
        headers = {"Location": f"/v1/seeds/{record.name}?version={record.version}"}
        return Outcome(None, 201 if new else 200, _full(record), headers=headers)

    outcome = await once(caller.request, caller.state, caller.actor, caller.key, work)
    return answer_outcome(caller.request, outcome)


async def search(state: AppState, organization_id: str, text: str) -> list[SeedPackageOut]:
    """Return the newest version of each package that has all the words, by name."""
    async with state.database.reading() as session:
        records = await seed_packages.search(session, organization_id, text.split())
    return [_shaped(SeedPackageOut, record) for record in records]


async def versions(state: AppState, organization_id: str, name: str) -> list[SeedPackageOut]:
    """Return all versions of a package, the highest first. Raises NotFound."""
    async with state.database.reading() as session:
        records = await seed_packages.versions(session, organization_id, name)
    return [_shaped(SeedPackageOut, record) for record in records]


async def get(state: AppState, organization_id: str, name: str, version: str | None) -> SeedOut:
    """Return one version with what it runs, the newest when none is named. Raises NotFound."""
    async with state.database.reading() as session:
        return _full(await seed_packages.get_package(session, organization_id, name, version))


async def delete(caller: Caller, name: str, version: str | None) -> list[SeedPackageOut]:
    """Remove a version of a package, or all of them; return what went. Raises NotFound."""
    async with caller.state.database.transaction() as session:
        records = await seed_packages.delete(session, caller.actor, name, version)
    return [_shaped(SeedPackageOut, record) for record in records]


async def run_own(caller: Caller, environment_id: str, wish: RunSeed) -> Outcome[Accepted] | Replayed:
    """Run a seed that is written in the request."""
    content = SeedContent(
        **_does(wish),
        parameters=tuple(SeedParameter(name=name, secret=True) for name in sorted(wish.secrets)),
    )
    asked = SeedWish(seed=content, service=wish.service, given=wish.secrets, force=wish.force)
    return await _run(caller, environment_id, asked)


async def run_package(
    caller: Caller, name: str, environment_id: str, wish: RunSeedPackage
) -> Outcome[Accepted] | Replayed:
    """Run a published package."""
    choice = PackageChoice(name, wish.version)
    asked = SeedWish(seed=choice, service=wish.service, given=wish.parameters, force=wish.force)
    return await _run(caller, environment_id, asked)


async def _run(caller: Caller, environment_id: str, wish: SeedWish) -> Outcome[Accepted] | Replayed:
    async def work(session: AsyncSession) -> Outcome[Accepted]:
        accepted = await acceptance.seed_environment(
            session, caller.actor, environment_id, wish, keys=caller.state.master_keys
        )
        return accepted_operation(caller.state, accepted)

    return await accept(caller, work)


def _does(wish: PublishSeed | RunSeed) -> dict[str, Any]:
    """Return what a wish says of the seed itself."""
    return wish.model_dump(include={"type", "script", "image", "command", "args", "http"})


def _full(record: SeedPackageRecord) -> SeedOut:
    return _shaped(
        SeedOut,
        record,
        script=record.content.script,
        image=record.content.image,
        command=[*record.content.command],
        args=[*record.content.args],
        http=None if record.content.http is None else record.content.http.model_dump(),
    )


def _shaped(shape: type[_Shape], record: SeedPackageRecord, **more: object) -> _Shape:
    values = {
        "id": record.id,
        "name": record.name,
        "version": record.version,
        "description": record.description,
        "digest": record.digest,
        "type": record.content.type,
        "service": record.content.service,
        "parameters": [
            SeedParameterOut.model_validate(each.model_dump()) for each in record.content.parameters
        ],
        "created_by": record.created_by,
        "created_at": record.created_at,
    }
    return shape.model_validate({**values, **more})
