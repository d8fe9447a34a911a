"""A scripted API, and `perdure` run against it: in this process, or as a process of its own."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.cli.scripted_api import API_KEY, LiveOperation, ScriptedApi

Run = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with ScriptedApi().running() as server:
        yield server


@pytest.fixture
def environ(api: ScriptedApi, tmp_path: Path) -> dict[str, str | None]:
    """The variables of a user who has set address and key, and nothing else of ours."""
    ours = {name: None for name in os.environ if name.startswith(("PERDURE_", "XDG_"))}
    # pytest loads readline, which writes a size into the environment of every process it starts, as those of
    # `-n`: a terminal's own size would not count.
    size = {"COLUMNS": None, "LINES": None}
    return {
        **ours,
        **size,
        "HOME": str(tmp_path),
        "PERDURE_URL": api.url,
        "PERDURE_API_KEY": API_KEY,
        "NO_COLOR": "1",
    }


@pytest.fixture
def run(environ: dict[str, str | None]) -> Run:
    """Run `perdure` in this process. Whatever it prints, the key is not in it."""

    def invoke(*arguments: str, stdin: str | bytes | None = None, **variables: str | None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin, env={**environ, **variables})
        assert API_KEY not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return invoke


@pytest.fixture
def process(environ: dict[str, str | None]) -> tuple[list[str], dict[str, str]]:
    """The command and the environment to run `perdure` as a process."""
    variables = {**os.environ, **{name: value for name, value in environ.items() if value is not None}}
    for name, value in environ.items():
        if value is None:
            variables.pop(name, None)
    return [sys.executable, "-m", "cli"], {**variables, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def live(api: ScriptedApi) -> Callable[..., LiveOperation]:
    """Install an operation that gets on while it is watched."""

    def install(*changes: Any, **more: Any) -> LiveOperation:
        operation = LiveOperation(api, list(changes), **more)
        operation.install()
        return operation

    return install


@pytest.fixture
def blueprint(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\nservices: [{name: api, image: example/api:1}]\n", encoding="utf-8")
    return path


def stdout_json(result: Result) -> Any:
    """The whole of standard output as one JSON document."""
    return json.loads(result.stdout)
