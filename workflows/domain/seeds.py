"""Seeds: what puts data into a running environment, once, and the packages that seeds are kept in.

A value never becomes code. In SQL `${{ name }}` becomes a literal of its database, or for a secret a look at
a variable of the database session, so that no statement holds it; in a request over HTTP it is encoded as its
place asks for (`seeds_http`); everywhere else a parameter is a variable of the process's environment under
its own name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering
from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import DataStore
from workflows.domain.errors import FieldError, Path
from workflows.domain.failures import WireModel
from workflows.domain.seeds_http import HttpRequest, request_faults
from workflows.domain.templates import (
    REFERENCE,
    Parameter,
    ParameterType,
    ParameterValue,
    parameter_faults,
    values_of,
)

LONGEST_SCRIPT: Final = 256 * 1024
"""Characters of a script in SQL."""
LONGEST_SHELL: Final = 96 * 1024
"""UTF-8 bytes of a shell script: it is one argument of a process, of which Linux takes 128 KiB."""
RESERVED_NAMES: Final = frozenset({"publish", "search", "run"})
"""Names that no package has: they are routes."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SeedType(StrEnum):
    """How a seed is run, and by that how sure it is that it runs once (docs/seeds.md)."""

    SQL = "sql"
    """In the service's own pod, in one transaction with the mark that it has run."""
    SHELL = "shell"
    """As a Job of the service's image, with its environment."""
    JOB = "job"
    """As a Job of an image of its own, with the service's environment."""
    HTTP = "http"
    """As a request to the service, with a key by which the service may know it again."""


_NEEDED: Final[Mapping[SeedType, str]] = {
    SeedType.SQL: "script",
    SeedType.SHELL: "script",
    SeedType.JOB: "image",
    SeedType.HTTP: "http",
}
"""What a seed of each type has to have."""


class SeedOutcome(StrEnum):
    """What a run of a seed came to."""

    APPLIED = "applied"
    ALREADY = "already"
    """It had run in this environment before, with these parameters: nothing was done."""


class SeedParameter(Parameter):
    """One parameter; the value of a `secret` one is the name of a secret that the environment uses."""

    secret: bool = False


class SeedContent(WireModel):
    """What a seed does. What is not of its type is None or empty."""

    type: SeedType
    script: str | None = None
    """Of `sql` and `shell`."""
    image: str | None = None
    """Of `job`."""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    http: HttpRequest | None = None
    """Of `http`."""
    service: str | None = None
    """Against which service it runs, where a run names none."""
    parameters: tuple[SeedParameter, ...] = ()

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of what it does: the same seed under another version is the same seed."""
        does = self.model_dump(mode="json", exclude={"parameters": {"__all__": {"description"}}})
        if self.http is None:
            # Seeds ran before there were any over HTTP, and are remembered by the digest they had then.
            del does["http"]
        return f"sha256:{_digest(does)}"


class SeedRun(WireModel):
    """One run of a seed as it was accepted: all but the values of secrets, which only the cluster reads."""

    content: SeedContent
    service: str
    package: str = ""
    """`name@version`; empty for a seed of its own."""
    digest: str
    values: dict[str, ParameterValue] = {}
    secrets: dict[str, str] = {}
    """By parameter: the name of the environment's secret."""
    key: str
    """What the database or the cluster remembers it by, see `run_key`."""
    force: bool = False
    """Run it although it has run before."""
    first: str | None = None
    """Of a retry: the operation that it goes back to. What that has done all the same is not done again, but
    a Job of it that failed is no reason not to run another."""


def content_faults(content: SeedContent, place: Path = ()) -> tuple[FieldError, ...]:
    """All that is wrong with a seed by itself; `place` is where it stands."""
    faults: list[FieldError] = []
    needed = _NEEDED[content.type]
    for field in ("script", "image", "command", "args", "http"):
        given = getattr(content, field)
        allowed = field == needed or (content.type is SeedType.JOB and field in ("command", "args"))
        if given and not allowed:
            faults.append(_fault((*place, field), f"a seed of type {content.type} has none"))
        if field == needed and not (given.strip() if isinstance(given, str) else given):
            faults.append(_fault((*place, field), f"a seed of type {content.type} has to have one"))
    if content.type is SeedType.JOB and content.image and (wrong := rules.image(content.image)) is not None:
        faults.append(_fault((*place, "image"), *wrong))
    script = content.script or ""
    if "\0" in script:
        faults.append(_fault((*place, "script"), "cannot contain a NUL character"))
    if len(script) > LONGEST_SCRIPT:
        faults.append(_fault((*place, "script"), f"is longer than {LONGEST_SCRIPT} characters"))
    elif content.type is SeedType.SHELL and len(script.encode()) > LONGEST_SHELL:
        faults.append(_fault((*place, "script"), f"is longer than {LONGEST_SHELL} bytes in UTF-8"))
    if content.http is not None:
        secrets = {parameter.name: parameter.secret for parameter in content.parameters}
        faults += request_faults(content.http, secrets, (*place, "http"))
    return (*faults, *_parameters_faults(content, place))


def run_values(
    parameters: Sequence[SeedParameter], given: Mapping[str, object], known_secrets: Collection[str]
) -> tuple[dict[str, ParameterValue], dict[str, str], tuple[FieldError, ...]]:
    """The plain values, the secrets' names by parameter, and all faults of what was given.

    A secret has to be given (or have a default): an empty password is no password. `known_secrets`: names of
    those that the environment uses.
    """
    values, found = values_of(parameters, given)
    faults = [
        *found,
        *(
            _fault(("parameters", name), "cannot contain a NUL character")
            for name, value in values.items()
            if isinstance(value, str) and "\0" in value
        ),
    ]
    faulty = {fault.path for fault in faults}
    secrets: dict[str, str] = {}
    for parameter in parameters:
        if not parameter.secret:
            continue
        name = str(values.pop(parameter.name, ""))
        place: Path = ("parameters", parameter.name)
        if place in faulty:
            continue
        if not name:
            faults.append(_fault(place, "is required: the name of a secret that the environment uses"))
        elif name not in known_secrets:
            listed = ", ".join(sorted(known_secrets)) or "none"
            faults.append(_fault(place, "is not a secret that the environment uses", f"it uses: {listed}"))
        secrets[parameter.name] = name
    return values, secrets, tuple(faults)


def run_key(environment_id: str, service: str, digest: str, chosen: Mapping[str, ParameterValue]) -> str:
    """What one seed with these parameters in this environment is remembered by.

    `chosen`: values and the names of secrets by parameter. Another tenant's data, or another service, is
    another thing to be done; another value of the same secret is not.
    """
    told: JsonValue = {"service": service, "seed": digest, "parameters": dict(chosen)}
    return f"seed/{environment_id}/{_digest(told)}"


@dataclass(frozen=True, slots=True)
class FilledSql:
    """A script with its values in place, and the statements of ours that go before it."""

    script: str
    before: str = ""


def fill_sql(
    store: DataStore | None,
    script: str,
    values: Mapping[str, ParameterValue],
    secrets: Mapping[str, str],
) -> FilledSql:
    """Put literals in the place of parameters. `secrets`: by parameter, the value itself.

    A secret becomes a variable of the session, set beforehand: an error that quotes the statement at fault
    does not quote it. KeyError for a parameter that is in neither.
    """
    mysql = store is DataStore.MYSQL
    literal = _mysql_literal if mysql else _postgres_literal
    # By number: neither database tells apart names that differ in case alone.
    variables = {
        name: f"@perdure_secret_{number}" if mysql else f"perdure.secret_{number}"
        for number, name in enumerate(sorted(secrets), start=1)
    }

    def put(name: str) -> str:
        if name in variables:
            return variables[name] if mysql else f"current_setting('{variables[name]}')"
        value = values[name]
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        # `-1` behind a minus sign would begin a comment.
        return f"({value})" if isinstance(value, int) else literal(value)

    before = "".join(
        f"SET {variable} = {literal(secrets[name])};\n"
        if mysql
        else f"SELECT set_config('{variable}', {literal(secrets[name])}, true);\n"
        for name, variable in variables.items()
    )
    filled = REFERENCE.sub(lambda match: match[0][1:] if match[1] else put(match[2]), script)
    return FilledSql(filled, before)


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version (semver.org 2.0.0); build metadata takes no part in the order."""

    numbers: tuple[int, int, int]
    before: tuple[str, ...] = ()
    """Identifiers of a pre-release, which comes before the release."""

    def __lt__(self, other: Version) -> bool:
        """Order by precedence, section 11 of the specification."""
        return self._rank() < other._rank()

    def _rank(self) -> tuple[tuple[int, int, int], bool, list[tuple[bool, int, str]]]:
        parts = [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in self.before]
        return (self.numbers, not self.before, parts)


_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER: Final = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
)


def read_version(text: str) -> Version | None:
    """The version that a text spells; None when it is none, or has build metadata, which no package has."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    return Version(
        (int(match[1]), int(match[2]), int(match[3])), tuple(match[4].split(".")) if match[4] else ()
    )


def newest(versions: Collection[str]) -> str | None:
    """The highest release, or the highest pre-release where there is no release; None of none."""
    known = [(version, text) for text in versions if (version := read_version(text)) is not None]
    releases = [each for each in known if not each[0].before]
    return max(releases or known)[1] if known else None


def _parameters_faults(content: SeedContent, place: Path) -> list[FieldError]:
    faults: list[FieldError] = []
    names: set[str] = set()
    for index, parameter in enumerate(content.parameters):
        where: Path = (*place, "parameters", index)
        if not _VARIABLE.fullmatch(parameter.name):
            faults.append(_fault((*where, "name"), "is letters, digits and _, and begins with no digit"))
        if parameter.name in names:
            faults.append(_fault((*where, "name"), f'there is another parameter "{parameter.name}"'))
        names.add(parameter.name)
        if parameter.secret and parameter.type is not ParameterType.STRING:
            faults.append(_fault((*where, "type"), "a secret parameter is a string: the name of a secret"))
        faults += parameter_faults(parameter, where)
    if content.type is SeedType.SQL:
        used = {match[2] for match in REFERENCE.finditer(content.script or "") if not match[1]}
        faults += [
            _fault((*place, "script"), f'no parameter is called "{name[:100]}"', "declare it")
            for name in sorted(used - names)
        ]
        if re.search(r"""['"]\$\{\{""", content.script or ""):
            message = "a parameter stands inside quotes: it brings its own"
            faults.append(_fault((*place, "script"), message, "write ${{ name }} without them"))
    return faults


_PLAIN: Final = re.compile(r"[A-Za-z0-9_.,@/+ -]")


def _postgres_literal(value: str) -> str:
    """An `E''` of plain letters and escapes: it ends no quotes, whatever those around it are."""
    return "E'" + "".join(each if _PLAIN.match(each) else _escaped(each) for each in value) + "'"


def _escaped(character: str) -> str:
    point = ord(character)
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _mysql_literal(value: str) -> str:
    """Hexadecimal: the same in every SQL mode."""
    return f"_utf8mb4 x'{value.encode().hex()}'"


def _digest(value: JsonValue) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _fault(path: Path, message: str, suggestion: str | None = None) -> FieldError:
    return FieldError(path=path, message=message, suggestion=suggestion)
