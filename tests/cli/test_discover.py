"""`perdure blueprint discover` against the scripted API, and the choice of files."""

import os
from pathlib import Path
from typing import Any

import pytest

from cli import project
from cli.project import read_project
from tests.cli.conftest import Run, stdout_json
from tests.cli.scripted_api import ScriptedApi, data
from workflows.domain import discover_files

FOUND: dict[str, Any] = {
    "valid": True,
    "blueprint": {"name": "shop"},
    "yaml": "name: shop\n",
    "errors": [],
    "warnings": [],
    "notes": [
        {"file": "", "path": "", "kind": "chosen", "severity": "info", "message": "compose was taken"},
        {"file": "a.yaml", "path": "[0]", "kind": "secret", "severity": "warning", "message": "give it"},
    ],
    "unsupported": [{"file": "compose.yaml", "path": "services.web.build", "reason": "is not built"}],
    "sources": [],
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with all that may be met in one."""
    root = tmp_path / "Shop"
    for path, content in {
        "compose.yaml": b"services: {}",
        "k8s/web.yml": b"kind: Pod",
        "api/Dockerfile": b"FROM x",
        ".env": b"SECRET=1",
        "node_modules/x/compose.yaml": b"no",
        ".git/config.yaml": b"no",
        "main.go": b"no",
        "latin.yaml": b"\xe9",
        "large.yaml": b"a" * (project.LARGEST_FILE + 1),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (tmp_path / "outside.yaml").write_text("outside")
    (root / "out.yaml").symlink_to(tmp_path / "outside.yaml")
    (root / "round.yaml").symlink_to("round.yaml")
    (root / "inside.yaml").symlink_to("compose.yaml")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    return root


def test_a_name_that_is_not_utf8_is_skipped(shop: Path) -> None:
    (shop / os.fsdecode(b"bad\xff.Dockerfile")).write_text("FROM y")
    assert "its name is not UTF-8" in "\n".join(read_project(shop, env_files=False).skipped)


def test_only_files_that_matter_are_read(shop: Path) -> None:
    found = read_project(shop, env_files=False)
    assert found.texts == {
        "api/Dockerfile": "FROM x",
        "compose.yaml": "services: {}",
        "inside.yaml": "services: {}",
        "k8s/web.yml": "kind: Pod",
    }
    said = "\n".join(found.skipped)
    for name in (".env", "latin.yaml", "large.yaml", "out.yaml"):
        assert f"{name} was not sent" in said
    assert read_project(shop, env_files=True).texts[".env"] == "SECRET=1"


def test_a_directory_is_sent_and_the_blueprint_printed_alone(api: ScriptedApi, run: Run, shop: Path) -> None:
    api.on("POST", "/v1/environments/discover", data(FOUND))
    result = run("blueprint", "discover", str(shop), "--image", "web=x:1", "--kind", "compose")
    assert (result.exit_code, result.stdout) == (0, "name: shop\n")
    assert "note     compose was taken" in result.stderr
    assert "warning  a.yaml [0]: give it" in result.stderr
    assert "not carried over  compose.yaml services.web.build: is not built" in result.stderr
    assert ".env was not sent" in result.stderr
    body = api.requests[0].body
    assert {file["path"] for file in body.pop("files")} >= {"compose.yaml", "api/Dockerfile"}
    assert body == {
        "project": "Shop",
        "kind": "compose",
        "images": {"web": "x:1"},
        "variables": {},
        "profiles": [],
    }


def test_a_url_is_handed_on(api: ScriptedApi, run: Run) -> None:
    api.on("POST", "/v1/environments/discover", data(FOUND))
    url = "https://git.example.com/shop.git"
    result = run("blueprint", "discover", url, "--ref", "main", "--path", "deploy", "-o", "json")
    assert (result.exit_code, stdout_json(result)) == (0, FOUND)
    assert api.requests[0].body["repository"] == {"url": url, "ref": "main", "path": "deploy"}
    assert "files" not in api.requests[0].body


def test_errors_exit_2_after_the_blueprint(api: ScriptedApi, run: Run, shop: Path) -> None:
    error = {"file": "Dockerfile", "path": "", "message": "has no image", "suggestion": "name it"}
    api.on("POST", "/v1/environments/discover", data({**FOUND, "errors": [error], "valid": False}))
    result = run("blueprint", "discover", str(shop))
    assert (result.exit_code, result.stdout) == (2, "name: shop\n")
    assert "error    Dockerfile: has no image" in result.stderr


def test_faults_of_usage(
    api: ScriptedApi, run: Run, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("blueprint", "discover", str(tmp_path / "nowhere")).exit_code == 2
    (tmp_path / "empty").mkdir()
    assert run("blueprint", "discover", str(tmp_path / "empty")).exit_code == 2
    assert run("blueprint", "discover", str(shop), "--ref", "main").exit_code == 2
    monkeypatch.setattr(project, "MOST_FILES", 2)
    assert run("blueprint", "discover", str(shop)).exit_code == 2
    assert api.requests == []


class TestTheSameFiles:
    """The command line may not import the API's rules: it has them again, and they have to be the same."""

    NAMES = (
        *("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml", "compose.prod.yaml"),
        *("docker-compose-test.yml", "api.yaml", "Chart.yaml", "kustomization.yaml", "Kustomization"),
        *(
            "Dockerfile",
            "dockerfile",
            "Containerfile",
            "Dockerfile.prod",
            "api.Dockerfile",
            "x.containerfile",
        ),
        *(".env", ".env.local", "web.env", "README.md", "main.py", "yaml", "environment"),
    )

    def test_that_the_api_looks_at_are_sent(self, tmp_path: Path) -> None:
        for name in self.NAMES:
            (tmp_path / name).write_text("x: 1\n")
        sent = set(read_project(tmp_path, env_files=True).texts)
        wanted = {name for name in self.NAMES if discover_files.wanted(name)}
        assert wanted - sent == set()
        assert {"README.md", "main.py", "yaml", "environment"} & sent == set()

    def test_from_the_same_directories(self, tmp_path: Path) -> None:
        names = {*project._OTHERS, *discover_files._SKIPPED, ".git", "src", "vendored"}
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "api.yaml").write_text("x: 1\n")
        sent = {path.partition("/")[0] for path in read_project(tmp_path, env_files=False).texts}
        assert sent == {name for name in names if not discover_files.skipped_directory(name)}

    def test_with_limits_that_the_api_keeps(self) -> None:
        assert project.MOST_FILES == discover_files.MOST_FILES
        assert project.LARGEST_FILE == discover_files.LARGEST_FILE
        assert project.LARGEST_ALL <= discover_files.LARGEST_ALL
