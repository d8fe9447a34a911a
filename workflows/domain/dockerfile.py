"""What a Dockerfile says about the image's last stage: ports, variables, health check, volumes, user.

Format: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import re
import shlex
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from workflows.domain.compose_values import ComposeValueError, seconds

MOST_INSTRUCTIONS: Final = 2_000
_MOST_VARIABLES: Final = 1_000
_MOST_CHARACTERS: Final = 256 * 1024
_MOST_PORTS: Final = 50
_DIRECTIVE: Final = re.compile(r"#\s*escape\s*=\s*([\\`])\s*", re.IGNORECASE)
_PARSER_DIRECTIVE: Final = re.compile(r"#\s*[a-z]+\s*=.*", re.IGNORECASE)
_HEREDOC: Final = re.compile(r"<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\2")
_TAKES_HEREDOC: Final = re.compile(r"(?:run|copy|add)\s", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z]+")
_VARIABLE: Final = re.compile(
    r"\\?\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:[-+])([^{}]*))?\})"
)
_PORT: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_FLAG: Final = re.compile(r"--([a-z-]+)=(\S+)\s*")
_MATTERS: Final = frozenset(
    {"FROM", "ARG", "ENV", "EXPOSE", "VOLUME", "USER", "HEALTHCHECK", "CMD", "ENTRYPOINT"}
)


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about one line (from 1) that is not carried over."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A command that exits 0 in a healthy container; the times in seconds, None as Docker has them."""

    command: tuple[str, ...]
    interval: int | None = None
    timeout: int | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """The settings of an image so far; `base` is the image or stage that it stands on."""

    base: str = ""
    env: dict[str, str] = field(default_factory=dict)
    ports: tuple[tuple[int, str], ...] = ()
    volumes: tuple[str, ...] = ()
    user: str = ""
    health: HealthCheck | None = None
    command: str = ""
    entrypoint: str = ""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The last stage, and what of it could not be understood; `stages` counts all."""

    last: Stage
    stages: int
    remarks: tuple[Remark, ...] = ()


class DockerfileInvalid(ValueError):
    """The text is no Dockerfile; the message says why, for the user."""


@dataclass(frozen=True, slots=True)
class _Instruction:
    line: int
    word: str
    rest: str


def read_dockerfile(text: str) -> Dockerfile:
    """Read a Dockerfile as far as it describes the running container. Raises DockerfileInvalid."""
    reader = _Reader()
    for number, instruction in enumerate(_instructions(text)):
        if number >= MOST_INSTRUCTIONS:
            raise DockerfileInvalid(f"it has more than {MOST_INSTRUCTIONS} instructions")
        reader.take(instruction)
    if reader.stages == 0:
        raise DockerfileInvalid("it has no FROM")
    return Dockerfile(reader.stage, reader.stages, tuple(reader.remarks))


def _instructions(text: str) -> Iterator[_Instruction]:
    """The instructions with their continuation lines joined; bodies of here-documents are left out."""
    lines = text.splitlines()
    escape, place = "\\", 0
    while place < len(lines) and _PARSER_DIRECTIVE.fullmatch(lines[place].strip()):
        directive = _DIRECTIVE.fullmatch(lines[place].strip())
        escape = directive[1] if directive else escape
        place += 1
    while place < len(lines):
        first = place + 1
        parts: list[str] = []
        while place < len(lines):
            line = lines[place].strip()
            place += 1
            if line.startswith("#") or (parts and not line):
                continue
            goes_on = line.endswith(escape)
            parts.append(line[:-1] if goes_on else line)
            if not goes_on:
                break
        whole = " ".join(parts).strip()
        for _, _, end in _HEREDOC.findall(whole) if _TAKES_HEREDOC.match(whole) else ():
            while place < len(lines) and lines[place].strip("\t") != end:
                place += 1
            place += 1
        word = _WORD.match(whole)
        if word is not None:
            yield _Instruction(first, word[0].upper(), whole[word.end() :].strip())


class _Reader:
    """Takes instruction after instruction; `stage` is the one at hand."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.stages = 0
        self.remarks: list[Remark] = []
        self._named: dict[str, Stage] = {}
        self._name = ""
        self._global: dict[str, str] = {}
        self._arguments: dict[str, str] = {}
        self._characters = 0

    def take(self, instruction: _Instruction) -> None:
        word, rest, line = instruction.word, instruction.rest, instruction.line
        if word not in _MATTERS:
            return
        if word == "FROM":
            self._from(rest)
        elif word == "ARG":
            self._argument(rest)
        elif self.stages == 0:
            raise DockerfileInvalid(f"line {line} comes before the first FROM")
        elif word == "ENV":
            self._env(rest, line)
        elif word == "EXPOSE":
            self._expose(rest, line)
        elif word == "VOLUME":
            self._volume(rest)
        elif word == "USER":
            self.stage = replace(self.stage, user=self._filled(rest) or "")
        elif word == "HEALTHCHECK":
            self._health(rest, line)
        elif word == "CMD":
            self.stage = replace(self.stage, command=rest)
        else:
            # A new entry point takes the command of the base image away.
            self.stage = replace(self.stage, entrypoint=rest, command="")

    def _from(self, rest: str) -> None:
        if self._name:
            self._named[self._name] = self.stage
        self._named[str(self.stages - 1)] = self.stage
        words = [word for word in rest.split() if not word.startswith("--")]
        base = (_fill(words[0], self._global) or words[0]) if words else ""
        named = len(words) >= 3 and words[1].lower() == "as"
        self._name = words[2].lower() if named else ""
        self.stage = replace(self._named.get(base.lower(), Stage()), base=base)
        self.stages += 1
        self._arguments = {}

    def _argument(self, rest: str) -> None:
        for word in _split(rest):
            name, equals, value = word.partition("=")
            filled = self._filled(value) if equals else self._global.get(name)
            if filled is not None:
                (self._arguments if self.stages else self._global)[name] = filled

    def _filled(self, text: str) -> str | None:
        filled = _fill(text, ChainMap(self.stage.env, self._arguments, self._global))
        self._characters += len(filled or "")
        if self._characters > _MOST_CHARACTERS:
            raise DockerfileInvalid(f"its variables are larger than {_MOST_CHARACTERS >> 10} KiB together")
        return filled

    def _env(self, rest: str, line: int) -> None:
        words = _split(rest)
        if words and "=" not in words[0]:
            name, _, value = rest.partition(" ")
            words = [f"{name}={value.strip()}"]
        found: dict[str, str] = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not name:
                self.remarks.append(Remark(line, "is not NAME=value"))
                continue
            filled = self._filled(value)
            if filled is None:
                self.remarks.append(
                    Remark(line, f"{name[:100]} is made of a variable whose value is not in this file")
                )
                continue
            found[name] = filled
        env = {**self.stage.env, **found}
        if len(env) > _MOST_VARIABLES:
            raise DockerfileInvalid(f"it has more than {_MOST_VARIABLES} variables")
        self.stage = replace(self.stage, env=env)

    def _expose(self, rest: str, line: int) -> None:
        found = dict.fromkeys(self.stage.ports)
        for word in (self._filled(rest) or rest).split():
            match = _PORT.fullmatch(word)
            first = int(match[1]) if match else 0
            last = int(match[2] or first) if match else 0
            if match is None or not 1 <= first <= last < min(65_536, first + _MOST_PORTS):
                self.remarks.append(Remark(line, f"{word[:60]} is no port such as 8080 or 53/udp"))
                continue
            protocol = (match[3] or "tcp").upper()
            found.update(dict.fromkeys((number, protocol) for number in range(first, last + 1)))
        self.stage = replace(self.stage, ports=tuple(found)[: 4 * _MOST_PORTS])

    def _volume(self, rest: str) -> None:
        places = _array(rest) or _split(rest)
        filled = [self._filled(place) or place for place in places]
        self.stage = replace(self.stage, volumes=tuple(dict.fromkeys((*self.stage.volumes, *filled)))[:100])

    def _health(self, rest: str, line: int) -> None:
        flags: dict[str, str] = {}
        while (flag := _FLAG.match(rest)) is not None:
            flags[flag[1]] = flag[2]
            rest = rest[flag.end() :]
        word, _, command = rest.partition(" ")
        if word.upper() != "CMD" or not command.strip():
            if word.upper() != "NONE":
                self.remarks.append(Remark(line, "is neither CMD nor NONE"))
            self.stage = replace(self.stage, health=None)
            return
        words = _array(command) or ["/bin/sh", "-c", command.strip()]
        retries = flags.get("retries", "")
        self.stage = replace(
            self.stage,
            health=HealthCheck(
                tuple(words),
                _seconds(flags.get("interval")),
                _seconds(flags.get("timeout")),
                int(retries) if retries.isascii() and retries.isdigit() and len(retries) < 5 else None,
            ),
        )


def _seconds(text: str | None) -> int | None:
    try:
        return None if text is None else min(max(seconds(text), 1), 3_600)
    except ComposeValueError:
        return None


def _split(text: str) -> list[str]:
    """Words with their quotes taken off; by blanks alone when the quotes do not match."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _array(text: str) -> list[str]:
    """The words of the JSON form `["a", "b"]`; empty when it is not in that form."""
    if not text.startswith("["):
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else []


def _fill(text: str, values: Mapping[str, str]) -> str | None:
    """The text with its variables filled in; None when one of them is not known, or it grows too long."""
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        if match[0].startswith("\\"):
            return match[0][1:]
        found = values.get(match[1] or match[2])
        if match[3] == ":-":
            return found or match[4]
        if match[3] == ":+":
            return match[4] if found else ""
        unknown = unknown or found is None
        return found or ""

    filled = _VARIABLE.sub(value, text)
    return None if unknown or len(filled) > 32_768 else filled
