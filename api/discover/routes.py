"""Discovery: a Blueprint from what a project has already."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from api.auth import Developer
from api.bodies import read_document
from api.discover import service
from api.discover.schemas import DiscoverBlueprint, DiscoverOut
from api.documentation import NOTHING, documented, json_body
from api.envelope import Envelope, answer
from api.environments.documents import validated
from api.idempotency import UnneededKey
from api.leaving import ClientGone
from api.middleware import BROKEN_OFF
from api.problems import RequestProblem
from api.state import State

router = APIRouter(prefix="/v1/environments", tags=["environments"])

_COMPOSE: Final = """\
services:
  web:
    image: ghcr.io/example/shop:1.4.2
    ports: ["8080:8080"]
"""
_DOCKERFILE: Final = "FROM python:3.12-slim\nEXPOSE 8080\nHEALTHCHECK CMD python /app/check.py\n"
_EXAMPLES: Final[dict[str, Any]] = {
    "files": {"files": [{"path": "compose.yaml", "content": _COMPOSE}], "name": "shop"},
    "image": {
        "files": [{"path": "Dockerfile", "content": _DOCKERFILE}],
        "name": "prices",
        "images": {"prices": "ghcr.io/example/prices:2.0.0"},
    },
    "repository": {
        "repository": {"url": "https://git.example.com/team/shop.git", "ref": "main", "path": "deploy"},
        "kind": "kubernetes",
    },
}


@router.post(
    "/discover",
    response_model=Envelope[DiscoverOut],
    summary="Discover a Blueprint in a repository or in files",
    operation_id="environments_discover",
    **documented(RequestProblem.NOT_SUPPORTED, body=json_body(DiscoverBlueprint, _EXAMPLES), audit=NOTHING),
)
async def discover(request: Request, state: State, actor: Developer, key: UnneededKey = None) -> Response:  # noqa: ARG001
    """The Blueprint, what it does not hold, and what has to be given still. Writes nothing.

    Compose goes before Kubernetes manifests, those before Dockerfiles, unless `kind` says otherwise.
    """
    wish = validated(DiscoverBlueprint, await read_document(request))
    try:
        return answer(request, await service.find(state, request, wish))
    except ClientGone:
        return Response(status_code=BROKEN_OFF)
