"""Use cases on templates: keep them, and make Blueprints and environments of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from fastapi import Response
from pydantic import JsonValue
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import TemplateRecord
from activities.db.repositories import templates
from activities.db.repositories.paging import cut_page
from activities.db.repositories.templates import TemplateContent
from api.bodies import read_document
from api.envelope import answer
from api.environments.creating import create_beside
from api.environments.documents import blueprint_invalid, parse_text, validated, without_secrets
from api.environments.service import Caller
from api.environments.shapes import field_problems
from api.environments.validation import findings
from api.idempotency import Outcome, answer_outcome, once
from api.problems import ProblemError, ProblemField, RequestProblem
from api.state import AppState
from api.templates.bundled import bundled_template, bundled_templates
from api.templates.schemas import (
    InstantiateTemplate,
    InstantiationOut,
    ParameterOut,
    TemplateIn,
    TemplateOut,
    TemplateSource,
)
from workflows.domain.blueprint import Blueprint, BlueprintInvalid, parse_blueprint
from workflows.domain.blueprint_tree import Faults, build_tree
from workflows.domain.failures import FailureKind
from workflows.domain.templates import Parameter, instantiate, template_faults


async def find(
    state: AppState, organization_id: str, *, limit: int, cursor: str | None
) -> tuple[Sequence[TemplateOut], str | None]:
    """Return a page of the bundled ones and the organisation's own, and the next one's cursor.

    Raises InvalidCursor.
    """
    async with state.database.reading() as session:
        records = await templates.list_templates(session, organization_id)
    # Of two places, and never more than MOST_TEMPLATES and the few bundled ones.
    every = [*bundled_templates(), *(_out(record) for record in records)]
    page = cut_page(every, _place, "templates", limit=limit, cursor=cursor)
    return page.items, page.next_cursor


def _place(template: TemplateOut) -> tuple[str, str]:
    return ("0" if template.source is TemplateSource.BUNDLED else "1"), template.name


async def get(state: AppState, organization_id: str, key: str) -> TemplateOut:
    """Return one by id or name. Raises NotFound."""
    found = bundled_template(key)
    if found is not None:
        return found
    async with state.database.reading() as session:
        return _out(await templates.get_template(session, organization_id, key))


async def create(caller: Caller) -> Response:
    """Keep a new template; nothing is written when anything is wrong with it."""
    content = await _content(caller)

    async def work(session: AsyncSession) -> Outcome[None]:
        record = await templates.create_template(session, caller.actor, content)
        return Outcome(None, 201, _out(record), headers={"Location": f"/v1/templates/{record.id}"})

    outcome = await once(caller.request, caller.state, caller.actor, caller.key, work)
    return answer_outcome(caller.request, outcome)


async def replace(caller: Caller, key: str) -> Response:
    """Put another content in a template's place. Raises NotFound, ProblemError for a bundled one."""
    _refuse_bundled(key)
    # A template that is not there is said to be so whatever the body holds.
    await get(caller.state, caller.actor.organization_id, key)
    content = await _content(caller)
    async with caller.state.database.transaction() as session:
        record = await templates.update_template(session, caller.actor, key, content)
    return answer(caller.request, _out(record))


async def delete(caller: Caller, key: str) -> Response:
    """Remove a template. Raises NotFound, ProblemError for a bundled one."""
    _refuse_bundled(key)
    async with caller.state.database.transaction() as session:
        record = await templates.delete_template(session, caller.actor, key)
    return answer(caller.request, _out(record))


async def make(caller: Caller, key: str, wait: int) -> Response:
    """Answer the Blueprint that a template and values make, and with `create` its environment."""
    template = await get(caller.state, caller.actor.organization_id, key)
    wish = validated(InstantiateTemplate, await read_document(caller.request, allow_yaml=False))
    document, faults = instantiate(_parameters(template.parameters), template.blueprint, wish.parameters)
    if faults:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The parameters do not fit the template.",
            errors=field_problems(faults),
        )
    if wish.name is not None and isinstance(document, dict):
        document = {**document, "name": wish.name}
    try:
        blueprint = parse_blueprint(document, plan=wish.plan)
    except BlueprintInvalid as error:
        raise blueprint_invalid(field_problems(error.errors)) from error
    assert isinstance(document, dict)  # noqa: S101 - parse_blueprint takes nothing else
    if not wish.create:
        return answer(caller.request, _instantiation(document, blueprint))
    shaped = _instantiation(without_secrets(document), blueprint)
    return await create_beside(caller, blueprint, wish.plan, shaped, wait)


async def _content(caller: Caller) -> TemplateContent:
    wish = validated(TemplateIn, await read_document(caller.request))
    document: Any = wish.blueprint
    if isinstance(document, str):
        document = await parse_text(document, field="blueprint")
    faults: list[ProblemField] = []
    if bundled_template(wish.name) is not None:
        faults.append(ProblemField(path="name", message="is the name of a bundled template"))
    if not isinstance(document, dict):
        faults.append(ProblemField(path="blueprint", message="a Blueprint is a mapping"))
        document = {}
    # YAML has types that JSON has not; the Blueprint's own reader says which and where.
    faults += _foreign({**wish.model_dump(), "blueprint": document})
    parameters = [Parameter.model_validate(each.model_dump()) for each in wish.parameters]
    if not faults:
        faults += field_problems(template_faults(parameters, document))
    if not faults and all(each.default is not None or not each.required for each in parameters):
        faults += _example_faults(parameters, document)
    if faults:
        raise ProblemError(
            FailureKind.BLUEPRINT_INVALID, "The template cannot be used as it is.", errors=faults[:1000]
        )
    kept = [each.model_dump(mode="json") for each in parameters]
    return TemplateContent(wish.name, wish.description, [*kept], document)


def _foreign(document: object) -> list[ProblemField]:
    faults = Faults()
    build_tree(document, faults)
    return field_problems(faults.ordered())


def _example_faults(parameters: list[Parameter], document: JsonValue) -> list[ProblemField]:
    """What is wrong with the Blueprint that the defaults make. Values without default are unknown yet."""
    if any(each.default is None for each in parameters):
        return []
    filled, _ = instantiate(parameters, document, {})
    try:
        parse_blueprint(filled)
    except BlueprintInvalid as error:
        return [
            field.model_copy(update={"path": f"blueprint.{field.path}" if field.path else "blueprint"})
            for field in field_problems(error.errors)
        ]
    return []


def _refuse_bundled(key: str) -> None:
    if bundled_template(key) is not None:
        raise ProblemError(
            FailureKind.CONFLICT, f"The template {key!r} is bundled and cannot be changed; copy it instead."
        )


def _parameters(shaped: list[ParameterOut]) -> list[Parameter]:
    return [Parameter.model_validate(each.model_dump()) for each in shaped]


def _instantiation(document: dict[str, JsonValue], blueprint: Blueprint) -> InstantiationOut:
    return InstantiationOut(
        blueprint=document,
        yaml=yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100),
        warnings=findings(blueprint),
    )


def _out(record: TemplateRecord) -> TemplateOut:
    return TemplateOut(
        id=record.id,
        name=record.name,
        description=record.description,
        source=TemplateSource.ORGANIZATION,
        parameters=[ParameterOut.model_validate(each) for each in record.parameters],
        blueprint=record.blueprint,
        created_by=record.created_by,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )
