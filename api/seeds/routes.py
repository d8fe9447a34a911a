"""Routes of seeds: packages that put data into environments, and runs of them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from api.auth import Developer, Viewer
from api.bodies import read_document
from api.deferred import Wait
from api.documentation import REPEAT_PROBLEMS, documented, json_body
from api.envelope import Envelope, ListEnvelope, answer, answer_list
from api.environments.documents import validated
from api.environments.service import Caller
from api.idempotency import IdempotencyKey
from api.operations.answers import answer_accepted
from api.operations.schemas import OperationOut
from api.parameters import NO_NUL, Id
from api.seeds import service
from api.seeds.schemas import PublishSeed, RunSeed, RunSeedPackage, SeedOut, SeedPackageOut
from api.state import State
from workflows.domain.failures import FailureKind

router = APIRouter(tags=["seeds"])

_Name = Annotated[str, Path(max_length=100, pattern=NO_NUL, description="Name of the package")]
_Version = Annotated[
    str | None, Query(max_length=100, pattern=NO_NUL, description="The newest release if absent")
]
_Going = Annotated[
    str | None, Query(max_length=100, pattern=NO_NUL, description="This version alone; all if absent")
]
_Text = Annotated[
    str, Query(max_length=200, pattern=NO_NUL, description="Words that name or description hold")
]
_PACKAGE: Final[dict[str, Any]] = {
    "customers": {
        "name": "demo-customers",
        "version": "1.0.0",
        "description": "Customers for a demonstration",
        "type": "sql",
        "service": "db",
        "script": "INSERT INTO customers (name, plan) VALUES (${{ name }}, 'trial');",
        "parameters": [{"name": "name", "type": "string", "required": True}],
    },
    "import": {
        "name": "import-orders",
        "version": "2.1.0",
        "type": "job",
        "image": "ghcr.io/example/importer:2.1.0",
        "args": ["--tenant", "$(TENANT)"],
        "parameters": [
            {"name": "TENANT", "type": "string", "required": True},
            {"name": "API_TOKEN", "secret": True},
        ],
    },
}
_OWN: Final[dict[str, Any]] = {
    "sql": {"type": "sql", "service": "db", "script": "INSERT INTO flags VALUES ('demo', true);"},
    "shell": {
        "type": "shell",
        "service": "web",
        "script": "./manage import /etc/demo.json",
        "secrets": {"TOKEN": "import-token"},
    },
    "http": {
        "type": "http",
        "service": "web",
        "http": {
            "path": "/import",
            "headers": {"Authorization": "Bearer ${{ token }}"},
            "body": {"plan": "trial", "customers": 3},
            "idempotent": True,
        },
        "secrets": {"token": "import-token"},
    },
}
_RUN: Final[dict[str, Any]] = {
    "newest": {"parameters": {"name": "Ada"}},
    "again": {"version": "1.0.0", "parameters": {"name": "Ada"}, "force": True},
}


@router.post(
    "/v1/environments/{id}/seed",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Run a seed of its own",
    operation_id="environments_seed",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(RunSeed, _OWN),
        conditional=True,
        audit="environment.seed",
    ),
)
async def seed(
    request: Request,
    state: State,
    actor: Developer,
    environment_id: Id,
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """Once in this environment; the step `seed` of the operation says `applied` or `already`."""
    wish = validated(RunSeed, await read_document(request, allow_yaml=False))
    outcome = await service.run_own(Caller(request, state, actor, key), environment_id, wish)
    return await answer_accepted(request, state, outcome, wait)


@router.post(
    "/v1/seeds/publish",
    status_code=201,
    response_model=Envelope[SeedOut],
    summary="Publish a version of a seed package",
    operation_id="seeds_publish",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(PublishSeed, _PACKAGE),
        ok={"model": Envelope[SeedOut], "description": "This version is there already, just so"},
        audit="seed.publish",
    ),
)
async def publish(request: Request, state: State, actor: Developer, key: IdempotencyKey = None) -> Response:
    """A version never changes: another content under it is a conflict, the same again is answered 200."""
    wish = validated(PublishSeed, await read_document(request))
    return await service.publish(Caller(request, state, actor, key), wish)


@router.get(
    "/v1/seeds/search",
    response_model=ListEnvelope[SeedPackageOut],
    summary="Search the seed packages",
    operation_id="seeds_search",
    **documented(),
)
async def search(request: Request, state: State, actor: Viewer, q: _Text = "") -> Response:
    """The newest version of each that has all the words, by name; without words all of them."""
    return answer_list(request, await service.search(state, actor.organization_id, q))


@router.post(
    "/v1/seeds/run/{name}/{environmentId}",
    status_code=202,
    response_model=Envelope[OperationOut],
    summary="Run a seed package into an environment",
    operation_id="seeds_run",
    **documented(
        FailureKind.CONFLICT,
        *REPEAT_PROBLEMS,
        body=json_body(RunSeedPackage, _RUN),
        deletable=True,
        audit="environment.seed",
    ),
)
async def run(
    request: Request,
    state: State,
    actor: Developer,
    name: _Name,
    environment_id: Annotated[str, Path(alias="environmentId", description="Id of the environment")],
    key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Response:
    """Once for the package's digest, the parameters and the service in this environment, unless forced."""
    wish = validated(RunSeedPackage, await read_document(request, allow_yaml=False))
    outcome = await service.run_package(Caller(request, state, actor, key), name, environment_id, wish)
    return await answer_accepted(request, state, outcome, wait)


@router.get(
    "/v1/seeds/{name}",
    response_model=Envelope[SeedOut],
    summary="Get a seed package with what it runs",
    operation_id="seeds_get",
    **documented(),
)
async def get(
    request: Request, state: State, actor: Viewer, name: _Name, version: _Version = None
) -> Response:
    """The newest release, or the version that is asked for."""
    return answer(request, await service.get(state, actor.organization_id, name, version))


@router.get(
    "/v1/seeds/{name}/versions",
    response_model=ListEnvelope[SeedPackageOut],
    summary="List the versions of a seed package",
    operation_id="seeds_versions",
    **documented(),
)
async def versions(request: Request, state: State, actor: Viewer, name: _Name) -> Response:
    """The highest first, a release before its pre-releases."""
    return answer_list(request, await service.versions(state, actor.organization_id, name))


@router.delete(
    "/v1/seeds/{name}",
    response_model=ListEnvelope[SeedPackageOut],
    summary="Delete a seed package, or a version of it",
    operation_id="seeds_delete",
    **documented(audit="seed.delete"),
)
async def delete(
    request: Request, state: State, actor: Developer, name: _Name, version: _Going = None
) -> Response:
    """What has run of it stays, and what runs comes to its end: each run keeps what it was accepted with."""
    return answer_list(request, await service.delete(Caller(request, state, actor), name, version))
