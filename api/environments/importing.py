"""Importing a Compose file: the Blueprint that it becomes, and with `create` the environment."""

from __future__ import annotations

import yaml
from fastapi import Response
from pydantic import JsonValue

from api.bodies import read_document
from api.envelope import answer
from api.environments.creating import create_beside
from api.environments.documents import blueprint_invalid, parse_text, validated, without_secrets
from api.environments.schemas import ImportCompose, ImportOut, UnsupportedOut
from api.environments.service import Caller
from api.environments.shapes import field_problems
from api.environments.validation import findings
from api.problems import ProblemField
from workflows.domain.blueprint import Blueprint, BlueprintInvalid, parse_blueprint
from workflows.domain.compose import ComposeImport
from workflows.domain.compose import import_compose as carry_over


async def import_compose(caller: Caller, wait: int) -> Response:
    """Answer a Compose file as a Blueprint; raises ProblemError when it cannot become a valid one."""
    wish = validated(ImportCompose, await read_document(caller.request))
    document = wish.compose
    carried = carry_over(
        await parse_text(document, field="compose") if isinstance(document, str) else document,
        name=wish.name or _project_name(document),
        env_files=wish.env_files,
        images=wish.images,
        profiles=wish.profiles,
        variables=wish.variables,
    )
    blueprint = _checked(carried)
    if not wish.create:
        return answer(caller.request, _import_out(carried, carried.blueprint_document, blueprint))
    # This answer may be kept for a repeated request: values of secrets are stored encrypted, or not at all.
    shaped = _import_out(carried, without_secrets(carried.blueprint_document), blueprint)
    return await create_beside(caller, blueprint, None, shaped, wait)


def _project_name(document: object) -> str:
    name = document.get("name") if isinstance(document, dict) else None
    return name if isinstance(name, str) else "imported"


def _checked(carried: ComposeImport) -> Blueprint:
    """The Blueprint, or all faults of the Compose file and of what it became."""
    faults = field_problems(carried.errors)
    try:
        blueprint = parse_blueprint(carried.blueprint_document)
    except BlueprintInvalid as error:
        # Faults of the Compose file leave holes in the Blueprint, which are no news.
        faults = faults or field_problems(error.errors)
        raise blueprint_invalid(faults) from error
    if faults:
        raise blueprint_invalid(faults)
    return blueprint


def _import_out(carried: ComposeImport, document: dict[str, JsonValue], blueprint: Blueprint) -> ImportOut:
    notes = [ProblemField(path="", message=note) for note in carried.notes]
    return ImportOut(
        blueprint=document,
        yaml=yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100),
        unsupported=[UnsupportedOut(path=each.field, reason=each.reason) for each in carried.unsupported],
        warnings=[*notes, *findings(blueprint)],
    )
