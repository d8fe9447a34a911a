from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workflows.domain.blueprint import parse_blueprint
from workflows.domain.quality import warnings

EXAMPLES = Path(__file__).parents[2] / "examples"
BLUEPRINTS = sorted(path for path in EXAMPLES.glob("*.yaml") if path.name != "compose.yaml")


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.name)
def test_every_example_is_a_valid_blueprint_with_one_line_on_what_it_shows(path: Path) -> None:
    text = path.read_text()
    document = yaml.safe_load(text)
    for plan in (None, *document.get("plans", {})):
        blueprint = parse_blueprint(document, plan=plan)
        assert blueprint.services
    assert text.startswith("# Shows ")


def test_the_shop_is_an_application_with_a_database() -> None:
    blueprint = parse_blueprint(yaml.safe_load((EXAMPLES / "shop.yaml").read_text()))
    assert warnings(blueprint) == ()
    assert blueprint.service("db").stateful
    assert blueprint.service("db").init is not None
    assert set(blueprint.service("api").depends_on) == {"db", "cache"}
