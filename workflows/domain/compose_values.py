"""Values of Compose files: variables in text, durations, byte sizes, port and volume strings, `.env` files.

Formats: https://github.com/compose-spec/compose-spec/blob/main/spec.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR: Final = re.compile(r":-|:\?|:\+|-|\?|\+")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)")
_UNIT_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"([0-9]+)\s*(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_PORT: Final = re.compile(
    r"(?:(?:(?P<ip>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-fA-F:]+\]):)?(?:(?P<published>[0-9]+(?:-[0-9]+)?)?:))?"
    r"(?P<target>[0-9]+)(?:-(?P<last>[0-9]+))?(?:/(?P<protocol>tcp|udp|sctp))?",
    re.IGNORECASE,
)
_MOST_PORTS_IN_RANGE: Final = 50
_DEEPEST_DEFAULT: Final = 10


class ComposeValueError(ValueError):
    """A value is not written the way Compose writes it; the text says why, for the user."""


@dataclass(slots=True)
class Interpolation:
    """Puts variables into texts and remembers which were not set."""

    variables: Mapping[str, str]
    unset: list[str]

    def apply(self, text: str, depth: int = 0) -> str:
        """The text with `$NAME`, `${NAME}` and its longer forms replaced; `$$` is `$`.

        Raises ComposeValueError for a required variable that is not set and for what is no variable at all.
        """
        result: list[str] = []
        place = 0
        while (dollar := text.find("$", place)) >= 0:
            result.append(text[place:dollar])
            following = text[dollar + 1 : dollar + 2]
            if following == "$":
                result.append("$")
                place = dollar + 2
            elif following == "{":
                end = _closing(text, dollar + 2)
                result.append(self._braced(text[dollar + 2 : end], depth))
                place = end + 1
            else:
                name = _NAME.match(text, dollar + 1)
                result.append(self._value(name[0]) if name else "$")
                place = name.end() if name else dollar + 1
        result.append(text[place:])
        return "".join(result)

    def _braced(self, inner: str, depth: int) -> str:
        if depth >= _DEEPEST_DEFAULT:
            raise ComposeValueError("variables are nested too deeply")
        name = _NAME.match(inner)
        if name is None:
            raise ComposeValueError("${...} does not begin with the name of a variable")
        rest = inner[name.end() :]
        if not rest:
            return self._value(name[0])
        operator = _OPERATOR.match(rest)
        if operator is None:
            raise ComposeValueError(f"the form of ${{{name[0]}...}} is not known")
        word = rest[operator.end() :]
        value = self.variables.get(name[0])
        holds = bool(value) if operator[0].startswith(":") else value is not None
        match operator[0][-1]:
            case "-":
                return value if holds and value is not None else self.apply(word, depth + 1)
            case "+":
                return self.apply(word, depth + 1) if holds else ""
            case _:
                if holds and value is not None:
                    return value
                raise ComposeValueError(f"the variable {name[0]} is required and not set")

    def _value(self, name: str) -> str:
        value = self.variables.get(name)
        if value is None:
            self.unset.append(name)
            return ""
        return value


def _closing(text: str, start: int) -> int:
    depth = 1
    for index in range(start, len(text)):
        if text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
        elif text[index] == "{" and text[index - 1] == "$":
            depth += 1
    raise ComposeValueError("a ${ is not closed")


def seconds(text: str) -> int:
    """A duration (`1m30s`, `500ms`) in whole seconds, rounded up. Raises ComposeValueError."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ComposeValueError("not a duration such as 1m30s")
    return math.ceil(sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))


def byte_quantity(value: str | int) -> str:
    """A byte size (`512m`, `1gb`, 1048576) as Kubernetes quantity; Compose counts by 1024.

    Raises ComposeValueError.
    """
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ComposeValueError("not a size such as 256m")
    return f"{match[1]}{match[2].upper()}i" if match[2] else match[1]


@dataclass(frozen=True, slots=True)
class PortMapping:
    """Container ports of one entry; `host` is the host's part as written, None when there is none."""

    ports: tuple[int, ...]
    protocol: str
    host: str | None


def port_mapping(text: str) -> PortMapping:
    """The short form of a port: `[[ip:][published]:]target[-last][/protocol]`. Raises ComposeValueError."""
    match = _PORT.fullmatch(text.strip())
    if match is None:
        raise ComposeValueError("not a port such as 8080:80")
    first = _port_number(match["target"])
    last = _port_number(match["last"]) if match["last"] else first
    if not first <= last < first + _MOST_PORTS_IN_RANGE:
        raise ComposeValueError(f"a range of ports grows and has at most {_MOST_PORTS_IN_RANGE}")
    host = ":".join(part for part in (match["ip"], match["published"]) if part) or None
    protocol = (match["protocol"] or "tcp").upper()
    return PortMapping(tuple(range(first, last + 1)), protocol, host)


def _port_number(digits: str) -> int:
    number = int(digits) if len(digits) <= 5 else 0
    if not 1 <= number <= 65535:
        raise ComposeValueError("a port is from 1 to 65535")
    return number


def env_file(text: str) -> dict[str, str]:
    """The variables of a `.env` file: `KEY=value` lines, quotes, `#` comments, optional `export`.

    Raises ComposeValueError naming the first line that is none of these; it never shows a value.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise ComposeValueError(f"line {number} is not KEY=value")
        found[key.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quote = value[:1]
    if quote in ("'", '"') and (end := value.find(quote, 1)) > 0:
        inner = value[1:end]
        return inner.replace("\\n", "\n") if quote == '"' else inner
    return re.split(r"\s#", value, maxsplit=1)[0].rstrip() if not value.startswith("#") else ""
