"""`perdure stub generate` against the scripted API."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.scripted_api import ScriptedApi, data

STUB = {
    "mock": {"mode": "replace", "files": {"stub.json": '{"port": 8080}'}},
    "yaml": "- name: prices\n",
    "unsupported": [{"path": "paths./a", "reason": "callbacks are not made"}],
}


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "examples.yaml"
    path.write_text("- {method: GET, path: /prices/1, body: {cents: 890}}\n")
    return path


def test_the_service_is_printed_and_what_is_missing_is_told(
    api: ScriptedApi, run: Run, tmp_path: Path
) -> None:
    api.on("POST", "/v1/stubs/generate", data(STUB))
    document = tmp_path / "openapi.yaml"
    document.write_text("openapi: 3.1.0\n")
    result = run("stub", "generate", "prices", "--openapi", str(document), "--mode", "mirror")
    assert result.exit_code == 0, result.output
    assert result.stdout == "- name: prices\n"
    assert "paths./a: callbacks are not made" in result.stderr
    sent = api.requests[-1].body
    assert sent == {"service": "prices", "port": 8080, "mode": "mirror", "openapi": "openapi: 3.1.0\n"}


def test_the_files_are_written_and_not_written_over(
    api: ScriptedApi, run: Run, tmp_path: Path, examples: Path
) -> None:
    api.on("POST", "/v1/stubs/generate", data(STUB))
    target = tmp_path / "made" / "here"
    words = ("stub", "generate", "prices", "--examples", str(examples), "--dir", str(target))
    assert run(*words).exit_code == 0
    assert api.requests[-1].body["examples"] == [
        {"method": "GET", "path": "/prices/1", "body": {"cents": 890}}
    ]
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "prices.yaml": "- name: prices\n",
        "stub.json": '{"port": 8080}',
    }
    (target / "stub.json").write_text("mine")
    (target / "prices.yaml").unlink()
    refused = run(*words)
    assert refused.exit_code == 2
    assert "stub.json" in refused.stderr
    assert [path.read_text() for path in target.iterdir()] == ["mine"]
    assert run(*words, "--force").exit_code == 0
    assert (target / "stub.json").read_text() == '{"port": 8080}'


def test_a_name_of_a_file_that_leads_elsewhere_stays_within(
    api: ScriptedApi, run: Run, tmp_path: Path, examples: Path
) -> None:
    api.on("POST", "/v1/stubs/generate", data({**STUB, "mock": {"files": {"../../evil": "x"}}}))
    target = tmp_path / "a" / "b"
    assert run("stub", "generate", "prices", "--examples", str(examples), "--dir", str(target)).exit_code == 0
    assert sorted(path.name for path in target.iterdir()) == ["evil", "prices.yaml"]
    assert not (tmp_path / "evil").exists()


def test_one_source_is_needed(run: Run, examples: Path) -> None:
    assert run("stub", "generate", "prices").exit_code == 2
    both = ("--openapi", str(examples), "--examples", str(examples))
    assert run("stub", "generate", "prices", *both).exit_code == 2
    examples.write_text("{a: b}")
    assert run("stub", "generate", "prices", "--examples", str(examples)).exit_code == 2
