"""The templates that come with Perdure: files in documents/, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from api.bodies import parse_yaml
from api.templates.schemas import ParameterOut, TemplateIn, TemplateOut, TemplateSource

_DIRECTORY: Final = Path(__file__).parent / "documents"


@cache
def bundled_templates() -> tuple[TemplateOut, ...]:
    """All of them, by name; the name, which is the id too, is the file's."""
    return tuple(_read(path) for path in sorted(_DIRECTORY.glob("*.yaml")))


def bundled_template(key: str) -> TemplateOut | None:
    """The one of this name; None when there is none."""
    return next((each for each in bundled_templates() if each.id == key), None)


def _read(path: Path) -> TemplateOut:
    document = parse_yaml(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise TypeError(f"{path.name} is no template")
    read = TemplateIn.model_validate({"name": path.stem, **document})
    assert isinstance(read.blueprint, dict)  # noqa: S101 - written so in our own files
    return TemplateOut(
        id=read.name,
        name=read.name,
        description=read.description,
        source=TemplateSource.BUNDLED,
        parameters=[ParameterOut.model_validate(each.model_dump()) for each in read.parameters],
        blueprint=read.blueprint,
    )
