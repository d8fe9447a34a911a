"""Tables of seed packages."""

import json
from collections.abc import Sequence

from cli.models import Operation
from cli.models_seeds import SeedPackage
from cli.text import age, columns, plain


def package_list(packages: Sequence[SeedPackage]) -> list[str]:
    """Return packages as a table."""
    rows = [
        [
            each.name,
            each.version,
            each.type,
            each.service or "",
            age(each.created_at),
            plain(each.description),
        ]
        for each in packages
    ]
    return columns(["NAME", "VERSION", "TYPE", "SERVICE", "AGE", "DESCRIPTION"], rows)


def package(found: SeedPackage) -> list[str]:
    """Return one version with its parameters and what it runs."""
    rows = [
        [
            each.name,
            "secret" if each.secret else each.type,
            "required" if each.required else "" if each.default is None else plain(str(each.default)),
            plain(each.description),
        ]
        for each in found.parameters
    ]
    runs = found.script if found.script is not None else _request(found) or " ".join(_job(found))
    return [
        *package_list([found]),
        "",
        found.digest,
        *(["", *columns(["PARAMETER", "TYPE", "DEFAULT", ""], rows)] if rows else []),
        *(["", *(plain(line) for line in runs.splitlines())] if runs else []),
    ]


def outcome(operation: Operation, environment: str) -> str:
    """Say what a seed that succeeded came to."""
    found = next((step.output for step in operation.steps if step.kind == "seed" and step.output), {})
    if found.get("outcome") == "already":
        return f"It had run in {environment} before: nothing was done. --force runs it again."
    return f"Seed of {environment} succeeded."


def _job(found: SeedPackage) -> list[str]:
    return [each for each in (found.image, *found.command, *found.args) if each]


def _request(found: SeedPackage) -> str:
    """What is sent, as the package was published with it."""
    if found.http is None:
        return ""
    said = {key: value for key, value in found.http.items() if value not in (None, [], {})}
    return json.dumps(said, indent=2, ensure_ascii=False)
