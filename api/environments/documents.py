"""From a request's body to a Blueprint, with every fault of both the wrapper and the document."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from api.bodies import IN_THREAD_ABOVE, DocumentInvalid, malformed, parse_yaml, read_document
from api.envelope import ApiInput
from api.environments.shapes import field_problems
from api.parameters import NO_NUL
from api.problems import ProblemError, ProblemField, RequestProblem
from workflows.domain.blueprint import SECRET_AUTO, Blueprint, BlueprintInvalid, parse_blueprint
from workflows.domain.errors import render_path
from workflows.domain.failures import FailureKind
from workflows.domain.operations import OnFailure

Input = TypeVar("Input", bound=ApiInput)
_IN_THREAD_ABOVE_SERVICES: Final = 20
_LONGEST_MESSAGE: Final = 500
_MOST_ERRORS: Final = 1_000
NUL: Final = "\\u0000"
"""How JSON writes it."""


@dataclass(frozen=True, slots=True)
class BlueprintRequest:
    """A body that carries a Blueprint: its document, and the choices beside it; `size` in bytes."""

    document: object
    size: int
    name: str | None
    plan: str | None
    faults: tuple[ProblemField, ...] = ()
    message: str = ""
    on_failure: OnFailure | None = None
    snapshot_id: str | None = None


async def read_blueprint_request(
    request: Request, allowed: frozenset[str], *, name: str | None, plan: str | None
) -> BlueprintRequest:
    """Read a body that is a Blueprint or wraps one: `{"blueprint": {...} | "yaml text", "name", "plan"}`.

    `name` and `plan` are those of the query; the wrapper's go before them. `allowed` names the wrapper's
    members. Raises ProblemError for what is no document; faults of the wrapper come back, to be listed with
    those of the Blueprint.
    """
    body, size = await read_document(request), len(await request.body())
    if not (isinstance(body, dict) and "blueprint" in body):
        if isinstance(body, dict) and "services" in body:
            return BlueprintRequest(body, size, name, plan)
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED,
            "The body holds no Blueprint.",
            errors=[
                ProblemField(
                    path="blueprint",
                    message="is missing",
                    suggestion='send {"blueprint": {...}}, or the Blueprint itself with its services',
                )
            ],
        )
    faults = [
        ProblemField(
            path=str(key)[:100],
            message="is not known here",
            suggestion=f"known: {', '.join(sorted(allowed))}",
        )
        for key in body
        if key not in allowed
    ]
    document = body["blueprint"]
    if isinstance(document, str):
        document = await parse_text(document, field="blueprint")
    name = _text(body, "name", faults) or name
    plan = _text(body, "plan", faults) or plan
    message = _text(body, "message", faults) or ""
    on_failure = _on_failure(_text(body, "onFailure", faults), faults)
    snapshot_id = _text(body, "snapshotId", faults)
    return BlueprintRequest(
        document, size, name, plan, tuple(faults), message[:_LONGEST_MESSAGE], on_failure, snapshot_id
    )


def _on_failure(word: str | None, faults: list[ProblemField]) -> OnFailure | None:
    if word is None:
        return None
    try:
        return OnFailure(word)
    except ValueError:
        known = ", ".join(OnFailure)
        faults.append(ProblemField(path="onFailure", message="is not known", suggestion=f"one of {known}"))
        return None


def _text(body: Mapping[str, Any], key: str, faults: list[ProblemField]) -> str | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        faults.append(ProblemField(path=key, message="has to be text"))
        return None
    faults += _unstorable(value, (key,))
    return value


async def parse_text(text: str, *, field: str) -> object:
    """Parse YAML text that stands in a field of the body. Raises ProblemError with line and column."""
    try:
        return await asyncio.to_thread(parse_yaml, text) if len(text) > IN_THREAD_ABOVE else parse_yaml(text)
    except DocumentInvalid as error:
        raise malformed("YAML", error, field=field) from error


async def blueprint_of(found: BlueprintRequest) -> tuple[Blueprint | None, list[ProblemField]]:
    """Read the Blueprint of a request, or list all that is wrong with it and with its wrapper."""
    faults = list(found.faults)
    try:
        blueprint = await _parse(found)
    except BlueprintInvalid as error:
        return None, [*faults, *field_problems(error.errors)]
    return (None if faults else blueprint), faults


async def _parse(found: BlueprintRequest) -> Blueprint:
    document = found.document
    services = document.get("services") if isinstance(document, dict) else None
    many = isinstance(services, list | dict) and len(services) > _IN_THREAD_ABOVE_SERVICES
    # There may be long init scripts in it, which are read too.
    if many or found.size > IN_THREAD_ABOVE:
        return await asyncio.to_thread(parse_blueprint, document, plan=found.plan, name=found.name)
    return parse_blueprint(document, plan=found.plan, name=found.name)


def without_secrets(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The document as it may be kept with the answer: a given secret is stored encrypted, or not at all."""

    def strip(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                strip(item)
        elif isinstance(value, dict):
            listed = value.get("secrets")
            for secret in listed if isinstance(listed, list) else []:
                if isinstance(secret, dict) and secret.get("value") not in (None, SECRET_AUTO):
                    del secret["value"]
            for child in value.values():
                strip(child)

    bare = copy.deepcopy(document)
    strip(bare)
    return bare


def blueprint_invalid(faults: list[ProblemField]) -> ProblemError:
    """The answer that lists all faults of a Blueprint."""
    count = len(faults)
    return ProblemError(
        FailureKind.BLUEPRINT_INVALID,
        f"The Blueprint has {count} fault{'' if count == 1 else 's'}.",
        errors=faults[:_MOST_ERRORS],
    )


def validated(model: type[Input], body: object) -> Input:
    """Check a body against its model, and take no type for another: `"3"` is no number, as the schema says.

    Raises ProblemError with every fault.
    """
    try:
        text = json.dumps(body)
    except TypeError:
        text = None  # a type of YAML's own: whoever reads the document in the body names its place
    faults = [] if text is None or NUL not in text else [*_unstorable(body, ())]
    try:
        found = model.model_validate(body) if text is None else model.model_validate_json(text, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        faults += [problem_field(detail, known=_names(model)) for detail in details]
        raise _invalid(faults) from error
    if faults:
        raise _invalid(faults)
    return found


def _invalid(faults: list[ProblemField]) -> ProblemError:
    return ProblemError(RequestProblem.VALIDATION_FAILED, "The body is not valid.", errors=faults)


def _unstorable(value: object, place: tuple[int | str, ...]) -> Iterator[ProblemField]:
    """The texts that hold U+0000: Postgres has no such text, and no program takes it in its environment."""
    if isinstance(value, str) and "\0" in value:
        yield ProblemField(path=render_path(place), message="holds the character U+0000")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unstorable(item, (*place, number))
    elif isinstance(value, dict):
        for key, item in value.items():
            if "\0" in str(key):
                yield ProblemField(path=render_path(place), message="holds a key with the character U+0000")
            yield from _unstorable(item, (*place, str(key)))


def _names(model: type[BaseModel]) -> tuple[str, ...]:
    """What a body's fields are called on the wire."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def problem_field(detail: ErrorDetails, skip: int = 0, known: Sequence[str] = ()) -> ProblemField:
    """Shape one of pydantic's faults, in words for people who do not know pydantic.

    `skip` leaves out the first parts of its place; `known` are the fields at the top.
    """
    place = detail["loc"][skip:]
    if place and place[-1] == "[key]":
        # So pydantic says that a key is at fault, not what it holds: the message does, too.
        place = place[:-1]
    message, suggestion = detail["msg"], None
    if detail["type"] == "extra_forbidden":
        message = "is not known here"
        suggestion = f"known: {', '.join(sorted(known))}" if known and len(place) == 1 else "leave it out"
    elif detail["type"] == "string_type" and isinstance(detail.get("input"), int | float):
        # As YAML reads `version: 1.0` or `name: on`.
        message, suggestion = "has to be text", "write it in quotes"
    elif detail["type"] == "value_error":
        message = message.removeprefix("Value error, ")
    elif detail["type"] == "string_pattern_mismatch" and detail.get("ctx", {}).get("pattern") == NO_NUL:
        message = "holds the character U+0000"
    return ProblemField(path=render_path(place), message=message, suggestion=suggestion)
