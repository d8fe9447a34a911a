"""Reading request bodies: JSON and YAML documents from people who may be careless or hostile.

Faults of syntax are answered with line and column. What would cost more than it is worth is refused:
documents that are nested deeply (the C composer of YAML overflows its stack), that grow by aliases, or that
hold too many nodes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

import yaml
from starlette.requests import Request
from yaml import CSafeLoader
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    NodeEvent,
    ScalarEvent,
)

from api.problems import Extension, ExtensionName, ProblemError, RequestProblem

Parsed = TypeVar("Parsed")
JSON_TYPES: Final = frozenset({"application/json"})
YAML_TYPES: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
MAX_DEPTH: Final = 100
MAX_NODES: Final = 200_000
"""Nodes of a YAML document with its aliases expanded; 200 large services have some 20,000."""
IN_THREAD_ABOVE: Final = 64 * 1024
"""Larger texts are read in a thread, so that other requests are answered meanwhile."""


class DocumentInvalid(ValueError):
    """A text is not a well-formed document. `line` and `column` count from 1; None when not known."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        """The message with its place."""
        if self.line is None:
            return self.message
        return f"{self.message} (line {self.line}, column {self.column})"


def media_type(request: Request) -> str:
    """The request's media type without parameters, in lower case; empty when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Whether a media type is JSON."""
    return kind in JSON_TYPES or (kind.startswith("application/") and kind.endswith("+json"))


async def read_document(request: Request, *, allow_yaml: bool = True) -> object:
    """Read the body as JSON or YAML, as its media type says.

    Raises ProblemError: 400 for an empty or malformed body, 415 for other types.
    """
    kind = media_type(request)
    as_json = is_json(kind)
    if not as_json and not (allow_yaml and kind in YAML_TYPES):
        accepted = "application/json or application/yaml" if allow_yaml else "application/json"
        raise ProblemError(
            RequestProblem.UNSUPPORTED_MEDIA_TYPE,
            f"The body has the type {kind[:100]!r}; {accepted} is understood."
            if kind
            else f"The request has no Content-Type; {accepted} is understood.",
            headers={"Accept": accepted.replace(" or ", ", ")},
        )
    return await parse_document(await request.body(), as_json=as_json)


async def parse_document(body: bytes, *, as_json: bool) -> object:
    """Parse a body. Raises ProblemError with line and column when it is malformed."""
    if not body.strip():
        raise ProblemError(RequestProblem.MALFORMED_BODY, "The body is empty.")
    parse = parse_json if as_json else parse_yaml
    try:
        text = body.decode("utf-8-sig")
        if len(body) > IN_THREAD_ABOVE:
            return await asyncio.to_thread(parse, text)
        return parse(text)
    except UnicodeDecodeError as error:
        raise ProblemError(
            RequestProblem.MALFORMED_BODY, f"The body is not UTF-8: byte {error.start} cannot be read."
        ) from error
    except DocumentInvalid as error:
        raise malformed("JSON" if as_json else "YAML", error) from error


def malformed(language: str, error: DocumentInvalid, *, field: str | None = None) -> ProblemError:
    """The answer for a text that is no document; `field` when the text stood in a field of the body."""
    place: dict[ExtensionName, Extension] = {}
    if error.line is not None and error.column is not None:
        place = {"line": error.line, "column": error.column}
    where = f"The text in `{field}`" if field else "The body"
    return ProblemError(
        RequestProblem.MALFORMED_BODY, f"{where} is not valid {language}: {error}.", extensions=place
    )


def parse_json(text: str) -> object:
    """Parse JSON.

    Raises DocumentInvalid, also for repeated keys, NaN, nesting no document needs, and halves of surrogate
    pairs: no database and no answer can hold those.
    """
    try:
        parsed: object = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        if "\\u" in text:
            json.dumps(parsed, ensure_ascii=False).encode()
        return parsed
    except UnicodeEncodeError as error:
        raise DocumentInvalid("a text in it holds half of a surrogate pair, which is no character") from error
    except json.JSONDecodeError as error:
        raise DocumentInvalid(error.msg, error.lineno, error.colno) from error
    except RecursionError as error:
        raise DocumentInvalid("it is nested too deeply") from error
    except DocumentInvalid:
        raise
    except ValueError as error:  # an integer with thousands of digits
        raise DocumentInvalid("a number in it is too long") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DocumentInvalid(f"the key {repeated[:100]!r} stands twice in one object")
    return entries


def _constant(name: str) -> object:
    raise DocumentInvalid(f"{name} is not JSON")


def parse_yaml(text: str) -> object:
    """Parse one YAML document with the safe types only.

    Raises DocumentInvalid: syntax, repeated keys, unknown tags, several documents, and documents that are
    deeper or (aliases expanded) larger than any Blueprint.
    """
    return _read_yaml(text, lambda: yaml.load(text, Loader=_Loader))  # noqa: S506 - a safe loader


class YamlReader:
    """Reads all documents of YAML texts, within the limits that `parse_yaml` has for one, all together.

    Raises DocumentInvalid, whose message shows keys of mappings and no values.
    """

    def __init__(self) -> None:
        self._measure = _Measure()

    def __call__(self, text: str) -> list[object]:
        """Return the documents of one more text."""
        self._measure.start()
        return _read_yaml(text, lambda: list(yaml.load_all(text, Loader=_Loader)), self._measure)


def _read_yaml(text: str, read: Callable[[], Parsed], measure: _Measure | None = None) -> Parsed:
    measure = measure or _Measure()
    try:
        for event in yaml.parse(text, Loader=CSafeLoader):
            measure.take(event)
        return read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = error.problem or error.context or "it cannot be read"
        if mark is None:
            raise DocumentInvalid(message) from error
        raise DocumentInvalid(message, mark.line + 1, mark.column + 1) from error
    except yaml.reader.ReaderError as error:
        raise DocumentInvalid(
            f"it holds the character #x{error.character:04x}, which YAML does not allow"
        ) from error
    except yaml.YAMLError as error:
        raise DocumentInvalid("it cannot be read") from error
    except RecursionError as error:
        raise DocumentInvalid("it is nested too deeply") from error
    except DocumentInvalid:
        raise
    except (ValueError, OverflowError) as error:  # dates and numbers that YAML's types cannot hold
        raise DocumentInvalid(
            "a date or number in it does not exist; quote it if you mean the text"
        ) from error


class _Measure:
    """Depth and expanded size of a document, from its events: before anything is built."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = []
        self._total = 0
        self._before = 0

    def start(self) -> None:
        """Begin another text: its anchors are its own, what came before counts."""
        self._sizes.clear()
        self._open.clear()
        self._before = self._total

    def take(self, event: Event) -> None:
        if isinstance(event, CollectionEndEvent):
            anchor, before = self._open.pop()
            if anchor is not None:
                self._sizes[anchor] = self._total - before
            return
        if not isinstance(event, NodeEvent):
            return
        if isinstance(event, AliasEvent):
            if any(anchor == event.anchor for anchor, _ in self._open):
                raise _refused("an alias refers to what contains it", event)
            self._total += self._sizes.get(event.anchor or "", 1)
        elif isinstance(event, CollectionStartEvent):
            if len(self._open) >= MAX_DEPTH:
                raise _refused(f"it is nested deeper than {MAX_DEPTH} levels", event)
            self._open.append((event.anchor, self._total))
            self._total += 1
        elif isinstance(event, ScalarEvent):
            self._total += 1
            if event.anchor is not None:
                self._sizes[event.anchor] = 1
        if self._total > MAX_NODES:
            what = "with what was read before it and all aliases" if self._before else "with all aliases"
            raise _refused(f"{what} there are more than {MAX_NODES} nodes", event)


def _refused(message: str, event: Event) -> DocumentInvalid:
    mark = event.start_mark
    return DocumentInvalid(message, mark.line + 1, mark.column + 1) if mark else DocumentInvalid(message)


class _Loader(CSafeLoader):
    """The safe loader, which takes a repeated key for the mistake that it is."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                raise DocumentInvalid(
                    f"the key {key.value[:100]!r} stands twice in one mapping",
                    key.start_mark.line + 1,
                    key.start_mark.column + 1,
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)
