"""Each route of the API has a command, or stands here with the reason why it has none."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_COMMAND = {
    "shares_view": "for those who were given a link",
    "shares_portal": "a page for browsers",
    "shares_open": "a page for browsers",
    "codec_encode": "for Temporal's own tools",
    "codec_decode": "for Temporal's own tools",
    "health_get": "for machines",
    "health_live": "for machines",
    "health_ready": "for machines",
    "health_ready_alias": "for machines",
    "health_details": "for machines",
    "metrics_get": "for machines",
}
PROXIED = ("get", "post", "put", "patch", "delete", "head", "options")
"""`env open` leads through the service proxy; the requests are the browser's."""


def pattern(path: str) -> str:
    return re.sub(r"\{[^{}]*\}", "*", path.partition("?")[0])


def asked_for() -> set[str]:
    """The paths that the command line knows, with `*` for what is filled in."""
    found = set()
    for file in (ROOT / "cli").rglob("*.py"):
        found |= {pattern(path) for path in re.findall(r'"(/v1/[^"]*)"', file.read_text())}
    return found


def test_every_route_has_a_command_or_a_reason() -> None:
    paths = asked_for()
    routes = {
        operation["operationId"]: pattern(path)
        for path, methods in json.loads((ROOT / "openapi.json").read_text())["paths"].items()
        for operation in methods.values()
        if isinstance(operation, dict)
    }
    missing = {
        name
        for name, path in routes.items()
        if path not in paths and not any(re.fullmatch(known.replace("*", "[^/]*"), path) for known in paths)
    }
    expected = {*WITHOUT_COMMAND, *(f"services_proxy_{method}" for method in PROXIED)}
    assert missing <= expected
    assert expected <= set(routes)
