"""Which methods an address takes. HEAD is taken wherever GET is, save where that would be another thing."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute, Match

_GET, _HEAD = "GET", "HEAD"


def with_head(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Return routes that take HEAD where they take GET: all is done alike, and the server sends no body.

    Not where HEAD has a route of its own (an application is sent it), and not streams, which would not end.
    """
    own = {route.path for route in routes if isinstance(route, APIRoute) and _HEAD in _methods(route)}

    def takes(route: BaseRoute) -> BaseRoute:
        if not isinstance(route, APIRoute) or _GET not in _methods(route):
            return route
        left = route.path in own or _streams(route)
        return route if left else _with_methods(route, _methods(route) | {_HEAD})

    return [takes(route) for route in routes]


def without_head(route: APIRoute) -> APIRoute:
    """Return the route as the document has it, in which HEAD goes without saying where there is GET."""
    methods = _methods(route)
    return _with_methods(route, methods - {_HEAD}) if _GET in methods else route


def allowed(request: Request) -> str:
    """All methods of an address, of which each route knows its own alone."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in routes for method in _methods(route)}))


def _methods(route: BaseRoute) -> set[str]:
    return getattr(route, "methods", None) or set()


def _with_methods(route: APIRoute, methods: set[str]) -> APIRoute:
    other = copy(route)
    other.methods = methods
    return other


def _streams(route: APIRoute) -> bool:
    return "text/event-stream" in route.responses.get(200, {}).get("content", {})
