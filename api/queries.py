"""What stands behind the `?` of an address: a parameter that a route does not know is refused.

A filter that is misspelt would list everything, and a misspelt `dry_run` would do what was only asked about.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.problems import ProblemError, ProblemField, RequestProblem


async def only_known_parameters(request: Request) -> None:
    """The dependency of a route that takes no other query parameters than its own. Raises ProblemError."""
    if not request.scope["query_string"]:
        return
    route: APIRoute = request.scope["route"]
    known = frozenset(_names(route.dependant))
    unknown = dict.fromkeys(name for name in request.query_params if name not in known)
    if unknown:
        names = ", ".join(sorted(known))
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The request is not valid.",
            errors=[
                ProblemField(
                    path=f"query.{name[:100]}",
                    message="is not known here",
                    suggestion=f"known: {names}" if names else "leave it out",
                )
                for name in unknown
            ],
        )


def _names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (each.alias or name for name, each in model.model_fields.items())
        else:
            yield field.alias
    for each in dependant.dependencies:
        yield from _names(each)
