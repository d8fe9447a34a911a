"""What a route does not declare is refused: parameters behind the `?` of its address, and a body.

A filter that is misspelt would list everything, and a misspelt `dry_run` would do what was only asked about.
So would one that is given twice, of which the last counted. A body that nobody reads asks for something that
is not done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.problems import ProblemError, ProblemField, RequestProblem

_SHORT_LENGTH: Final = 2
"""Digits of a body's length in bytes, up to which it is looked at."""


async def only_known_parameters(request: Request) -> None:
    """The dependency of a route that takes its own query parameters alone, each once but lists.

    Raises ProblemError.
    """
    if not request.scope["query_string"]:
        return
    route: APIRoute = request.scope["route"]
    lists = dict(_parameters(route.dependant))
    names = ", ".join(sorted(lists))
    faults = [
        ProblemField(
            path=f"query.{name[:100]}",
            message="is given more than once" if name in lists else "is not known here",
            suggestion="give it once" if name in lists else f"known: {names}" if names else "leave it out",
        )
        for name, count in Counter(name for name, _ in request.query_params.multi_items()).items()
        if name not in lists or (count > 1 and not lists[name])
    ]
    if faults:
        raise ProblemError(RequestProblem.VALIDATION_FAILED, "The request is not valid.", errors=faults)


async def no_body(request: Request) -> None:
    """The dependency of a route that takes no body. Raises ProblemError when one comes that says something.

    An empty object does not, and there are clients that cannot send a POST without one.
    """
    length = request.headers.get("content-length", "0")
    if length == "0" and "transfer-encoding" not in request.headers:
        return
    # What is long is not read: it says something.
    if len(length) > _SHORT_LENGTH or (await request.body()).strip() not in (b"", b"{}"):
        fault = ProblemField(path="", message="a body is not taken here", suggestion="send none")
        raise ProblemError(RequestProblem.VALIDATION_FAILED, "The request is not valid.", errors=[fault])


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """The names of the query parameters, and whether each is a list, which may be given more than once."""
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, each in model.model_fields.items():
                yield each.alias or name, _is_list(each.annotation)
        else:
            yield field.alias, _is_list(model)
    for inner in dependant.dependencies:
        yield from _parameters(inner)


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) in (list, tuple, set, frozenset):
        return True
    return any(_is_list(each) for each in get_args(annotation))
