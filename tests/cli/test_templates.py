"""`perdure template` against the scripted API."""

from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.scripted_api import ScriptedApi, data

TEMPLATE = {
    "id": "hello",
    "name": "hello",
    "source": "bundled",
    "parameters": [
        {"name": "replicas", "type": "integer", "default": 1},
        {"name": "expose", "type": "boolean"},
        {"name": "tag"},
    ],
}


def test_values_are_sent_in_the_types_of_their_parameters(api: ScriptedApi, run: Run) -> None:
    api.on("GET", "/v1/templates/hello", data(TEMPLATE))
    api.on("POST", "/v1/templates/hello/instantiate", data({"blueprint": {}, "yaml": "name: hello\n"}))
    result = run(
        *("template", "instantiate", "hello", "--name", "mine"),
        *("--set", "replicas=3", "--set", "expose=true", "--set", "tag=1=2"),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == "name: hello\n"
    assert api.requests[-1].body["parameters"] == {"replicas": 3, "expose": True, "tag": "1=2"}
    assert run("template", "instantiate", "hello", "--set", "=secret").exit_code == 2


def test_a_template_is_listed_created_and_deleted(api: ScriptedApi, run: Run, tmp_path: Path) -> None:
    api.on("GET", "/v1/templates", data([TEMPLATE]))
    api.on("POST", "/v1/templates", data(TEMPLATE, 201))
    api.on("DELETE", "/v1/templates/hello", data(TEMPLATE))
    assert "hello" in run("template", "list").stdout
    file = tmp_path / "template.yaml"
    file.write_text("name: hello\nblueprint: {name: hello}\n")
    assert "replicas" in run("template", "create", "-f", str(file)).stdout
    assert api.requests[-1].body == {"name": "hello", "blueprint": {"name": "hello"}}
    assert run("template", "delete", "hello").exit_code == 0
    file.write_text("[]")
    assert run("template", "create", "-f", str(file)).exit_code == 2
