"""What the documentation tells people to type is what the command line takes: commands, options, and all."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperCommand
from typer.main import get_command

from cli.main import app
from tests.cli.conftest import Run

REPO = Path(__file__).parents[2]
_COMMAND = re.compile(r"^ *(?:\$ )?perdure (.+)$", re.MULTILINE)
_NEXT = {"|", "||", "&&", ";", ">", "<", "&"}


def commands(line: str) -> list[list[str]]:
    """The arguments of each `perdure` in a line of a shell; what else is in it is left out."""
    words = shlex.shlex(f"perdure {line}", posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, "#"
    found: list[list[str]] = []
    current: list[str] | None = []
    for word in words:
        if word in _NEXT:
            current = None
        elif word == "perdure":
            current = []
            found.append(current)
        elif current is not None:
            current.append(word)
    return found


def documented() -> list[tuple[str, list[str]]]:
    """Every command of every page, and where it stands."""
    pages = [*sorted(REPO.glob("docs/*.md")), REPO / "README.md"]
    return [
        (page.name, arguments)
        for page in pages
        for line in _COMMAND.findall(page.read_text())
        for arguments in commands(line)
    ]


@pytest.mark.slow
def test_every_documented_command_is_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TyperCommand, "invoke", lambda *_: None)  # it is read, and not run
    assert run("snapshot", "restore", "snap_1", "--no-such-option").exit_code == 2
    assert run("snapshot", "verify").exit_code == 2
    found = documented()
    assert len(found) > 100
    wrong = [
        (page, arguments, result.stderr)
        for page, arguments in found
        if (result := run(*arguments)).exit_code != 0
    ]
    assert wrong == []


def barest(command: Any, words: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Every command below this one with what it cannot do without, and no more."""
    for name, below in getattr(command, "commands", {}).items():
        yield from barest(below, (*words, name))
    if not hasattr(command, "commands"):
        needed = [each for each in command.params if each.required]
        options = [each.opts[0] for each in needed if each.param_type_name == "option"]
        arguments = [each.name for each in needed if each.param_type_name == "argument"]
        values = ["bash" if name == "shell" else "1" for name in arguments]
        yield [*words, *(word for option in options for word in (option, "1")), *values]


@pytest.mark.slow
def test_every_command_takes_its_own_defaults(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TyperCommand, "invoke", lambda *_: None)  # it is read, and not run
    found = list(barest(get_command(app)))
    assert len(found) > 80
    assert ["env", "extend", "1"] in found
    wrong = [(arguments, result.stderr) for arguments in found if (result := run(*arguments)).exit_code != 0]
    assert wrong == []
