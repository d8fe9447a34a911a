"""Templates: Blueprint documents with parameters, and the document that values make of them.

`${{ name }}` stands for a parameter: alone it becomes the value with its type, inside a text its text form.
`$${{` is the text `${{` itself. Only values are looked at, never keys, and what a parameter puts in is not
looked at again: a value can change the value that it stands for and nothing else of the document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue

from workflows.domain.blueprint_models import SECRET_AUTO
from workflows.domain.errors import FieldError, Path

ParameterValue = str | int | bool
LONGEST_TEXT: Final = 4_096
REFERENCE: Final = re.compile(r"(\$?)\$\{\{\s*([A-Za-z0-9_-]*)\s*\}\}")
"""`${{ name }}`: group 2 is the name, group 1 a dollar when it is meant literally."""
_LARGEST: Final = 2**53


class ParameterType(StrEnum):
    """What values a parameter takes."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    ENUM = "enum"


class Parameter(BaseModel):
    """One parameter; `values` are those of an `enum`, `pattern` has to match a whole `string`."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str = ""
    type: ParameterType = ParameterType.STRING
    default: ParameterValue | None = None
    required: bool = False
    pattern: str | None = None
    values: tuple[str, ...] = ()


def template_faults(parameters: Sequence[Parameter], blueprint: JsonValue) -> tuple[FieldError, ...]:
    """All that is wrong with a template by itself; what becomes of it is for `parse_blueprint`."""
    faults: list[FieldError] = []
    known: dict[str, Parameter] = {}
    for index, parameter in enumerate(parameters):
        place: Path = ("parameters", index)
        if parameter.name in known:
            faults.append(_fault((*place, "name"), f'there is another parameter "{parameter.name}"'))
        known.setdefault(parameter.name, parameter)
        faults += parameter_faults(parameter, place)
    used: set[str] = set()
    for path, text in _texts(blueprint, ("blueprint",)):
        for match in REFERENCE.finditer(text):
            if match[1]:
                continue
            used.add(match[2])
            if match[2] not in known:
                faults.append(_fault(path, f'no parameter is called "{match[2]}"', "declare it"))
    faults += [
        _fault(("parameters", index, "name"), "the Blueprint does not use it", f"${{{{ {each.name} }}}}")
        for index, each in enumerate(parameters)
        if each.name not in used
    ]
    return (*faults, *_secret_faults(known, blueprint, ("blueprint",)))


def instantiate(
    parameters: Sequence[Parameter], blueprint: JsonValue, given: Mapping[str, object]
) -> tuple[JsonValue, tuple[FieldError, ...]]:
    """The document with these values, and all faults of the values; with faults it is not to be used."""
    values, faults = values_of(parameters, given)
    return (None if faults else filled(blueprint, values)), faults


def values_of(
    parameters: Sequence[Parameter], given: Mapping[str, object]
) -> tuple[dict[str, ParameterValue], tuple[FieldError, ...]]:
    """The value of each parameter, given or default, and all faults of what was given.

    One without either is empty: no text, zero, false, the first of an enum.
    """
    values: dict[str, ParameterValue] = {}
    faults: list[FieldError] = []
    known = {parameter.name for parameter in parameters}
    for name in given:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            faults.append(
                _fault(("parameters", name[:100]), "there is no such parameter", f"known: {listed}")
            )
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is None:
            value = parameter.default
        if value is None:
            if parameter.required:
                faults.append(_fault(("parameters", parameter.name), "is required"))
            value = _EMPTY[parameter.type] if not parameter.values else parameter.values[0]
        elif (problem := value_problem(parameter, value)) is not None:
            faults.append(_fault(("parameters", parameter.name), problem))
        if isinstance(value, str | int):
            values[parameter.name] = value
    return values, tuple(faults)


_EMPTY: Final[Mapping[ParameterType, ParameterValue]] = {
    ParameterType.STRING: "",
    ParameterType.INTEGER: 0,
    ParameterType.BOOLEAN: False,
    ParameterType.ENUM: "",
}


def value_problem(parameter: Parameter, value: object) -> str | None:  # noqa: PLR0911 - a table
    """Why a parameter does not take a value; None when it does. The value itself is not repeated."""
    match parameter.type:
        case ParameterType.INTEGER:
            if not isinstance(value, int) or isinstance(value, bool):
                return "has to be a whole number"
            return None if abs(value) <= _LARGEST else "is too large"
        case ParameterType.BOOLEAN:
            return None if isinstance(value, bool) else "has to be true or false"
        case ParameterType.ENUM:
            good = isinstance(value, str) and value in parameter.values
            return None if good else f"has to be one of {', '.join(parameter.values)}"
        case ParameterType.STRING:
            if not isinstance(value, str):
                return "has to be text"
            if len(value) > LONGEST_TEXT:
                return f"is longer than {LONGEST_TEXT} characters"
            if parameter.pattern is not None and not _matches(parameter.pattern, value):
                return f"does not match {parameter.pattern}"
    return None


def read_value(parameter: Parameter, text: str) -> ParameterValue:
    """A value that was given as text, in the parameter's type where the text has that form."""
    if parameter.type is ParameterType.INTEGER and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if parameter.type is ParameterType.BOOLEAN and text in ("true", "false"):
        return text == "true"
    return text


def parameter_faults(parameter: Parameter, place: Path) -> list[FieldError]:
    """All that is wrong with one parameter, which stands at `place`."""
    faults: list[FieldError] = []
    is_enum = parameter.type is ParameterType.ENUM
    if is_enum != bool(parameter.values):
        message = "an enum has values" if is_enum else "only an enum has values"
        faults.append(_fault((*place, "values"), message))
    if parameter.pattern is not None:
        if parameter.type is not ParameterType.STRING:
            faults.append(_fault((*place, "pattern"), "only a string has a pattern"))
        elif (problem := _pattern_problem(parameter.pattern)) is not None:
            faults.append(_fault((*place, "pattern"), problem))
    if not faults and parameter.default is not None:
        problem = value_problem(parameter, parameter.default)
        if problem is not None:
            faults.append(_fault((*place, "default"), problem))
    return faults


# Python's matcher backtracks: a repetition inside a repetition, alternation or two open repetitions in a row
# can take longer than the universe has. What is left matches in time linear in text and pattern, about.
_ATOM: Final = r"(?:\[\^?[A-Za-z0-9_.:/@ -]+\]|\\[dws.]|[A-Za-z0-9_:/@ -])"
_TIMES: Final = r"(?:[+*?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})?"
_PATTERN: Final = re.compile(rf"\^?(?:{_ATOM}{_TIMES})*\$?")
_MOST_REPETITIONS: Final = 3


def _pattern_problem(pattern: str) -> str | None:
    repetitions = len(re.findall(r"[+*?}]", re.sub(r"\[[^\]]*\]", "", pattern)))
    if not _PATTERN.fullmatch(pattern) or repetitions > _MOST_REPETITIONS:
        return (
            "a pattern is made of characters, classes like [a-z0-9-] and at most three repetitions of them, "
            "without groups and alternatives"
        )
    try:
        re.compile(pattern)
    except re.error as error:
        return f"is no regular expression: {error}"
    return None


def _matches(pattern: str, value: str) -> bool:
    # Three repetitions over some hundred characters are the most that a matcher is asked to try.
    return len(value) <= 256 and re.fullmatch(pattern, value) is not None


def _secret_faults(known: Mapping[str, Parameter], value: JsonValue, path: Path) -> list[FieldError]:
    """A template is stored as it is written: no secret may stand in it."""
    faults: list[FieldError] = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            faults += _secret_faults(known, item, (*path, index))
    if not isinstance(value, dict):
        return faults
    for key, child in value.items():
        faults += _secret_faults(known, child, (*path, key))
    secrets = value.get("secrets")
    for index, secret in enumerate(secrets if isinstance(secrets, list) else []):
        written = secret.get("value") if isinstance(secret, dict) else None
        if written is None or written == SECRET_AUTO:
            continue
        match = REFERENCE.fullmatch(written) if isinstance(written, str) else None
        parameter = known.get(match[2]) if match is not None and not match[1] else None
        if match is None or match[1]:
            message = "a template stores no secret in clear"
        elif parameter is not None and parameter.default not in (None, SECRET_AUTO):
            message = "the parameter has a default, which would be a secret in clear"
        else:
            continue
        faults.append(_fault((*path, "secrets", index, "value"), message, f"{SECRET_AUTO}, or a parameter"))
    return faults


def filled(value: JsonValue, values: Mapping[str, ParameterValue]) -> JsonValue:
    """The document with values in the place of parameters. KeyError for one that has none."""
    if isinstance(value, dict):
        return {key: filled(child, values) for key, child in value.items()}
    if isinstance(value, list):
        return [filled(item, values) for item in value]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole is not None and not whole[1]:
        return values[whole[2]]
    return REFERENCE.sub(lambda match: match[0][1:] if match[1] else value_text(values[match[2]]), value)


def value_text(value: ParameterValue) -> str:
    """A value's text form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _texts(value: JsonValue, path: Path) -> list[tuple[Path, str]]:
    if isinstance(value, dict):
        return [found for key, child in value.items() for found in _texts(child, (*path, key))]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _texts(item, (*path, index))]
    return [(path, value)] if isinstance(value, str) else []


def _fault(path: Path, message: str, suggestion: str | None = None) -> FieldError:
    return FieldError(path=path, message=message, suggestion=suggestion)
