"""docs/blueprint.md says all that the parser knows, and its example is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflows.domain import blueprint_models
from workflows.domain.blueprint import SECRET_AUTO, Blueprint, parse_blueprint
from workflows.domain.blueprint_models import BlueprintModel
from workflows.domain.blueprint_parse import BLUEPRINT_KEYS
from workflows.domain.blueprint_service import SERVICE_KEYS
from workflows.domain.quality import GateCode, warnings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "blueprint.md").read_text()
EXAMPLE = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
REFERENCE = re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL)
WORDS = {
    word for span in re.findall(r"`([^`\n]+)`", REFERENCE) for word in re.findall(r"[A-Za-z0-9-]+", span)
}


def _models() -> Iterator[type[BlueprintModel]]:
    return (
        model for model in BlueprintModel.__subclasses__() if model.__module__ == blueprint_models.__name__
    )


KEYS = {field.alias or name for model in _models() for name, field in model.model_fields.items()}
CHOICES = {
    member.value
    for kind in vars(blueprint_models).values()
    if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
    for member in kind
}


def example() -> Any:
    assert EXAMPLE is not None
    return yaml.safe_load(EXAMPLE[1])


def test_the_example_is_valid_with_and_without_its_plans() -> None:
    document = example()
    for plan in (None, *document["plans"]):
        blueprint = parse_blueprint(document, plan=plan)
        assert warnings(blueprint) == ()


def test_the_keys_are_those_of_the_parser() -> None:
    assert Blueprint in set(_models())
    assert {*BLUEPRINT_KEYS, *SERVICE_KEYS} <= KEYS


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_is_in_the_reference(key: str) -> None:
    assert key in WORDS


def test_every_choice_and_code_is_in_the_reference() -> None:
    assert {*CHOICES, SECRET_AUTO, *GateCode} <= WORDS
