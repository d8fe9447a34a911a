"""Entity tags of environments, and the requests that depend on them (RFC 9110, 8.8.3 and 13).

A tag has two parts, `"12.9f3c52a1d0b7e844"`: the version of the environment's row, and a digest of all
that the
answer shows, the live numbers included. `If-None-Match` compares the whole, so that 304 never hides a pod
that fell over; `If-Match` compares the version alone, so that a pod that fell over makes no write stale. It
takes the bare version (`"12"`) too, which every environment in a list bears. See docs/adr/0013.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Annotated, Final

from fastapi import Header, Request, Response
from pydantic import BaseModel
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.repositories._rows import locked_environment, locked_organization
from api.envelope import answer
from api.problems import ProblemError, ProblemField, RequestProblem

_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_MATCH: Final = re.compile(r"([0-9]{1,18})(?:\.[0-9a-f]{1,64})?")
_LONGEST: Final = 1_000

IfMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=_LONGEST,
        description="`ETag` or `version` of the environment as it was read: 412 when it has changed since",
    ),
]
IfNoneMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-None-Match", max_length=_LONGEST, description="`ETag` of what is known: 304 if it is so"
    ),
]


@dataclass(frozen=True, slots=True)
class Precondition:
    """Versions of one environment, one of which it has to have; None: any, as long as it is there."""

    environment_id: str | None
    """None: of a name that only the use case looks up, see `check_named`."""
    versions: frozenset[int] | None

    async def check(self, session: AsyncSession, organization_id: str) -> None:
        """Compare under the row's lock, which lasts as long as the transaction. Raises NotFound,
        ProblemError.

        The organisation is locked first: what follows may want that lock too, and locks have one order.
        """
        if self.environment_id is None:
            return
        await locked_organization(session, organization_id)
        environment = await locked_environment(session, self.environment_id, organization_id)
        if environment.deleted_at is not None or self.versions is None:
            return  # that it is gone is said by what follows
        if environment.version not in self.versions:
            raise ProblemError(
                RequestProblem.PRECONDITION_FAILED,
                f"The environment has version {environment.version} now; If-Match names another.",
                headers={"ETag": f'"{environment.version}"'},
                extensions={"version": environment.version},
            )


async def if_match(request: Request, given: IfMatchHeader = None) -> None:
    """The dependency of a route that changes an environment, in a transaction that checks it.

    Raises ProblemError for a header that holds no tags of ours.
    """
    if given is None:
        return
    request.state.precondition = Precondition(request.path_params.get("id"), _versions(given))


async def check_precondition(request: Request, session: AsyncSession, organization_id: str) -> None:
    """Check what the request's `If-Match` asks for, if it has one. Raises NotFound, ProblemError."""
    found: Precondition | None = getattr(request.state, "precondition", None)
    if found is not None:
        await found.check(session, organization_id)


async def check_named(
    request: Request, session: AsyncSession, organization_id: str, environment_id: str | None
) -> None:
    """The same for an environment that was found by its name; None: there is none, so that no tag matches.

    Raises ProblemError.
    """
    found: Precondition | None = getattr(request.state, "precondition", None)
    if found is None:
        return
    if environment_id is None:
        raise ProblemError(
            RequestProblem.PRECONDITION_FAILED,
            "There is no environment of this name, and If-Match names one.",
        )
    await replace(found, environment_id=environment_id).check(session, organization_id)


def entity_tag(version: int, shown: BaseModel, *, without: frozenset[str] = frozenset()) -> str:
    """Return the tag of an answer that shows an environment; fields `without` do not count."""
    text = shown.model_dump_json(exclude_none=True, exclude=set(without))
    return f'"{version}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"'


def answer_tagged(request: Request, shown: BaseModel, tag: str, if_none_match: str | None) -> Response:
    """Answer with what is shown, or 304 when the client has it."""
    # `no-cache`: it may be kept, and has to be asked about each time.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if if_none_match is not None and _known(if_none_match, tag):
        return Response(None, 304, headers)
    return answer(request, shown, headers=headers)


def _known(given: str, tag: str) -> bool:
    return given.strip() == "*" or tag[1:-1] in _TAG.findall(given)


def _versions(given: str) -> frozenset[int] | None:
    if given.strip() == "*":
        return None
    found = [_MATCH.fullmatch(tag) for tag in _TAG.findall(given)]
    if not found or re.sub(_TAG, "", given).strip(", \t") or not all(found):
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "If-Match holds no entity tags of an environment.",
            errors=[
                ProblemField(
                    path="header.If-Match",
                    message="is not a list of tags",
                    suggestion='the ETag of an answer, or the version in quotes: "12"',
                )
            ],
        )
    return frozenset(int(match.group(1)) for match in found if match is not None)
