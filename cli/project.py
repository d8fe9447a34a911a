"""The files of a directory that describe services, as they are sent for a discovery."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cli.errors import UsageFault

MOST_FILES = 500
LARGEST_FILE = 512 * 1024
LARGEST_ALL = 3 * 1024 * 1024
"""Bytes of all of them: as JSON they have to fit into one request."""
_OTHERS = {"node_modules", "bower_components", "vendor", "venv", "__pycache__", "testdata", "fixtures"}
_DESCRIBING = re.compile(
    r".+\.ya?ml|kustomization|(?:docker|container)file(?:[._-].+)?|.+\.(?:docker|container)file",
    re.IGNORECASE,
)
_ENV_FILE = re.compile(r"\.env(?:\..+)?|.+\.env")


@dataclass(slots=True)
class Project:
    """What is sent: texts by their path below the directory; `skipped` says of others why they are not."""

    texts: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def read_project(directory: Path, *, env_files: bool) -> Project:
    """Read the files that describe services; `env_files` only when that is wished: they hold secrets.

    Raises UsageFault when there are none, or too many.
    """
    if not directory.is_dir():
        raise UsageFault(
            f"{directory} is no directory.",
            hints=["Name the directory of a project, or an https:// URL: with --path that may be one file."],
        )
    root = directory.resolve()
    project, total = Project(), 0
    for path in _candidates(root, project):
        name = path.relative_to(root).as_posix()
        if not _is_text(name):
            project.skipped.append(f"{name!a} was not sent, for its name is not UTF-8")
            continue
        if _ENV_FILE.fullmatch(path.name) and not env_files:
            project.skipped.append(f"{name} was not sent, for it may hold secrets; --env-files sends it")
            continue
        text = _text(path, name, project)
        if text is None:
            continue
        total += len(text.encode())
        if len(project.texts) >= MOST_FILES or total > LARGEST_ALL:
            raise UsageFault(
                f"More than {MOST_FILES} files or {LARGEST_ALL >> 20} MiB may describe services there.",
                hints=["Name the directory that matters."],
            )
        project.texts[name] = text
    if not project.texts:
        raise UsageFault(f"{directory} has no Compose file, no YAML and no Dockerfile.")
    return project


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8: the system hands out others with halves of surrogate pairs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _candidates(root: Path, project: Project) -> Iterator[Path]:
    """Files by their names, in an order that does not change; links stay within the directory."""
    for place, directories, names in os.walk(root):
        directories[:] = sorted(
            each for each in directories if each not in _OTHERS and not each.startswith(".")
        )
        for name in sorted(names):
            path = Path(place) / name
            if not (_DESCRIBING.fullmatch(name) or _ENV_FILE.fullmatch(name)):
                continue
            shown = path.relative_to(root).as_posix()
            if not _leads_into(path, root):
                project.skipped.append(f"{shown} was not sent: it is a link to no file of the directory")
            elif path.is_file():
                yield path


def _leads_into(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # to nothing, or round in a circle
        return False


def _text(path: Path, name: str, project: Project) -> str | None:
    """The content of a file; None, noted, when it cannot be sent."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            project.skipped.append(f"{name} was not sent: it is larger than {LARGEST_FILE >> 10} KiB")
            return None
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        project.skipped.append(f"{name} was not sent: {error.strerror}")
    except UnicodeDecodeError:
        project.skipped.append(f"{name} was not sent: it is not UTF-8 text")
    return None
