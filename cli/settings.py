"""Which API to talk to, and as whom: options, then environment, then a profile, then a checkout's `.dev/env`.

The only module of `cli` that reads the environment.
"""

import os
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cli.errors import UsageFault

URL: Final = "PERDURE_URL"
API_KEY: Final = "PERDURE_API_KEY"
ORGANIZATION: Final = "PERDURE_ORGANIZATION"
PROFILE: Final = "PERDURE_PROFILE"
_FIELDS: Final = {URL: "url", API_KEY: "api_key", ORGANIZATION: "organization"}


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the API is and how to authenticate. `origins` says where each part came from, for `-v`."""

    url: str
    api_key: str
    organization: str | None = None
    origins: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Connection(url={self.url!r}, organization={self.organization!r})"


@dataclass(frozen=True, slots=True)
class _Part:
    value: str
    origin: str


def config_file(environ: Mapping[str, str], home: Path) -> Path:
    """Return the path of the configuration file, whether it exists or not."""
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else home / ".config") / "perdure" / "config.toml"


def resolve(
    options: Mapping[str, str | None],
    *,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    home: Path | None = None,
) -> Connection:
    """Find the connection. `options` maps the names of the variables to what was given on the command line.

    Each part is looked up by itself: option, variable, profile. A `.dev/env` above `cwd` counts only when
    none of them gave a URL or a key, so that a development key is never sent elsewhere. Raises UsageFault.
    """
    environ = os.environ if environ is None else environ
    home = home or Path(environ.get("HOME") or "~").expanduser()
    parts = _from_profile(config_file(environ, home), profile or environ.get(PROFILE))
    parts |= {name: _Part(environ[name], f"variable {name}") for name in _FIELDS if environ.get(name)}
    given = {name: _Part(value, "command line") for name, value in options.items() if value}
    parts |= given
    if URL not in parts and API_KEY not in parts:
        parts = _from_checkout(cwd or Path.cwd()) | parts
    missing = [name for name in (URL, API_KEY) if name not in parts]
    if missing:
        raise UsageFault(
            "No API to talk to is configured." if URL in missing else "No API key is configured.",
            details=[f"missing: {', '.join(missing)}"],
            hints=[
                "In a checkout, `make dev-up` starts a local one; its `.dev/env` is found by itself.",
                f"Otherwise set {URL} and {API_KEY}, or write a profile to {config_file(environ, home)}.",
            ],
        )
    connection = Connection(url=_checked_url(parts[URL]), api_key=_checked_key(parts[API_KEY]))
    if ORGANIZATION in parts:
        connection = replace(connection, organization=parts[ORGANIZATION].value)
    return replace(
        connection,
        origins=tuple(f"{_FIELDS[name]}: {parts[name].origin}" for name in _FIELDS if name in parts),
    )


def _from_profile(path: Path, profile: str | None) -> dict[str, _Part]:
    """Read a profile of the configuration file; without a name, the file's `default`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if profile:
            raise UsageFault(f"There is no profile {profile!r}: {path} does not exist.") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageFault(f"{path} cannot be read: {error}") from error
    name = profile or document.get("default")
    if name is None:
        return {}
    profiles = document.get("profiles")
    table = profiles.get(name) if isinstance(profiles, dict) and isinstance(name, str) else None
    if not isinstance(table, dict):
        known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
        raise UsageFault(f"{path} has no profile {name!r}.", details=[f"profiles: {known}"])
    faults = [f"{key}: unknown key" for key in table if key not in _FIELDS.values()]
    faults += [f"{key}: has to be text" for key, value in table.items() if not isinstance(value, str)]
    if faults:
        raise UsageFault(f"{path}: profile {name!r} is not valid.", details=faults)
    return {
        variable: _Part(table[key], f"profile {name} of {path}")
        for variable, key in _FIELDS.items()
        if table.get(key)
    }


def _from_checkout(cwd: Path) -> dict[str, _Part]:
    """Read the `.dev/env` of the checkout around `cwd`, if it belongs to this user."""
    for folder in (cwd, *cwd.parents):
        path = folder / ".dev" / "env"
        try:
            # Somebody else's file in a shared folder must not decide where Blueprints are sent.
            if path.stat().st_uid != os.getuid():
                continue
            text = path.read_text(encoding="utf-8")
        except OSError:
            continue
        values: dict[str, _Part] = {}
        for word in shlex.split(text, comments=True):
            name, separator, value = word.partition("=")
            if separator and value and name in _FIELDS:
                values[name] = _Part(value, str(path))
        return values
    return {}


def _checked_url(part: _Part) -> str:
    try:
        pieces = urlsplit(part.value)
        valid = pieces.scheme in {"http", "https"} and bool(pieces.hostname) and pieces.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageFault(f"{part.value!r} is not an http or https URL ({part.origin}).")
    if pieces.username or pieces.password:
        raise UsageFault(f"The URL must not hold a user or a password ({part.origin}); use {API_KEY}.")
    return part.value.rstrip("/")


def _checked_key(part: _Part) -> str:
    if not part.value.isascii() or not part.value.isprintable() or " " in part.value:
        raise UsageFault(f"The API key has characters that no key has ({part.origin}).")
    return part.value
