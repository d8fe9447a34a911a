"""Completion, as a shell asks for it: the script is sourced in a real bash."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.scripted_api import Reply, Request, ScriptedApi, data, environment

pytestmark = pytest.mark.slow
Command = tuple[list[str], dict[str, str]]


@pytest.fixture
def on_path(process: Command, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds `perdure`."""
    _, variables = process
    program = tmp_path / "bin" / "perdure"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n')
    program.chmod(0o755)
    return {**variables, "PATH": f"{program.parent}:{variables['PATH']}"}


def tab(variables: dict[str, str], *words: str, within: float = 60.0) -> list[str]:
    """What bash offers on a Tab at the end of these words; nothing else may be printed."""
    quoted = " ".join(f"'{word}'" for word in words)
    done = subprocess.run(
        [
            "bash",
            "--norc",
            "-c",
            "source <(perdure completion bash) && "
            f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1} && "
            "$(complete -p perdure | sed 's/.*-F \\([^ ]*\\) .*/\\1/') perdure && "
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ],
        env=variables,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.split()


def test_commands_are_offered(on_path: dict[str, str]) -> None:
    assert {"env", "op", "doctor", "completion"} <= set(tab(on_path, "perdure", ""))
    assert tab(on_path, "perdure", "env", "cre") == ["create"]


def test_names_of_environments_are_offered(api: ScriptedApi, on_path: dict[str, str]) -> None:
    gone = environment("deleted", name="shop-old", id="env_01K0000000000000000000OLD0")
    others = [
        environment(name=name, id=f"env_01K00000000000000000000{name[-3:].upper()}")
        for name in ("shop-two", "blog")
    ]
    api.on("GET", "/v1/environments", data([environment(), gone, *others]))
    assert tab(on_path, "perdure", "env", "get", "sho") == ["shop", "shop-two"]
    assert tab(on_path, "perdure", "env", "delete", "") == ["blog", "shop", "shop-two"]


def test_other_names_are_offered(api: ScriptedApi, on_path: dict[str, str]) -> None:
    shop = environment(services=[{"name": name} for name in ("web", "worker", "db")])
    api.on("GET", "/v1/environments", data([shop]))
    api.on("GET", f"/v1/environments/{shop['id']}", data(shop))
    api.on(
        "GET",
        "/v1/operations",
        data([{"id": each, "kind": "update", "state": "running"} for each in ("op_1", "op_2")]),
    )
    api.on("GET", "/v1/templates", data([{"id": "tpl_1", "name": "postgres-api"}]))
    api.on("GET", "/v1/environments/snapshots", data([{"id": "snap_1", "state": "available"}]))
    api.on("GET", "/v1/seeds/search", data([{"name": "orders", "version": "1.0.0"}]))
    assert tab(on_path, "perdure", "env", "restart", "shop", "w") == ["web", "worker"]
    assert tab(on_path, "perdure", "env", "logs", "shop", "--service", "") == ["db", "web", "worker"]
    assert tab(on_path, "perdure", "seed", "run", "orders", "shop", "--service", "d") == ["db"]
    assert tab(on_path, "perdure", "op", "watch", "o") == ["op_1", "op_2"]
    assert tab(on_path, "perdure", "template", "get", "") == ["postgres-api"]
    assert tab(on_path, "perdure", "snapshot", "get", "") == ["snap_1"]
    assert tab(on_path, "perdure", "seed", "show", "") == ["orders"]


def test_the_other_program_says_what_it_has(on_path: dict[str, str]) -> None:
    assert {"backup", "restore", "orphans", "rotate-keys"} <= set(tab(on_path, "perdure", "admin", ""))
    assert tab(on_path, "perdure", "admin", "re") == ["restore"]
    assert tab(on_path, "perdure", "admin", "restore", "--k") == ["--keys-to"]
    assert "--passphrase-file" in tab(on_path, "perdure", "admin", "restore", "here.backup", "--")


def test_an_api_that_is_away_gives_no_names_and_no_errors(on_path: dict[str, str]) -> None:
    assert tab({**on_path, "PERDURE_URL": "http://127.0.0.1:9"}, "perdure", "env", "get", "s") == []
    without = {name: value for name, value in on_path.items() if name != "PERDURE_URL"}
    assert tab({**without, "PERDURE_PROFILE": "none"}, "perdure", "env", "get", "s") == []


def test_an_api_that_hangs_is_not_waited_for(api: ScriptedApi, on_path: dict[str, str]) -> None:
    asked, answered = threading.Event(), threading.Event()

    def hang(_: Request) -> Reply:
        asked.set()
        api.closing.wait(60)
        answered.set()
        return data([])

    api.on("GET", "/v1/environments", hang)
    # Well below what the client itself allows an answer.
    assert tab(on_path, "perdure", "env", "get", "s", within=20) == []
    assert asked.is_set()
    assert not answered.is_set()


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "perdure env get sh"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "perdure env get sh", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_other_shells_get_their_script_and_names(
    api: ScriptedApi, process: Command, run: Run, shell: str, variables: dict[str, str]
) -> None:
    """These shells are not at hand everywhere: the question is put as their scripts put it."""
    written = run("completion", shell).stdout
    for name in variables:
        assert name in written
    assert f"_PERDURE_COMPLETE=complete_{shell}" in written
    api.on("GET", "/v1/environments", data([environment()]))
    command, ours = process
    asked = {**ours, **variables, "_PERDURE_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(command, env=asked, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, "shop" in done.stdout) == ("", True)


def test_another_shell_is_refused(run: Run) -> None:
    result = run("completion", "tcsh")
    assert result.exit_code == 2
    assert "bash" in result.output
