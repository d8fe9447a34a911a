"""Discovery: from a repository or files to a Blueprint, with an account of what was found. Writes nothing."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import yaml
from starlette.requests import Request

from api.bodies import YamlReader
from api.discover.addresses import RepositoryRefused, RepositoryUrl, addresses, read_url
from api.discover.git import Bounds, GitMissing, fetched
from api.discover.schemas import (
    DiscoverBlueprint,
    DiscoverFault,
    DiscoverNote,
    DiscoverOut,
    DiscoverSource,
    DiscoverUnsupported,
    RepositoryIn,
)
from api.discover.tree import read_files
from api.environments.validation import findings
from api.leaving import unless_left
from api.problems import ProblemError, ProblemField, RequestProblem
from api.settings import ApiSettings
from api.state import AppState
from workflows.domain.discover import ORDER, Discovery, Wish, discover
from workflows.domain.discover_files import LARGEST_ALL
from workflows.domain.discover_found import SourceFile

# What a refspec gives a meaning to is left out, and so is what an option begins with.
_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+#=-]*")


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read: the files, the one that is to be the source, the name and the commit of a repository."""

    files: Sequence[SourceFile]
    only: str | None = None
    name: str | None = None
    commit: str | None = None


async def find(state: AppState, request: Request, wish: DiscoverBlueprint) -> DiscoverOut:
    """Find the services of a repository or of files.

    Raises ProblemError for what is no request or cannot be read; ClientGone, with all stopped, when the
    client left while a repository was fetched.
    """
    faults = _faults(wish, state.settings)
    if faults:
        raise _invalid(faults)
    if wish.repository is not None:
        read = await unless_left(request.receive, _fetch(state, wish.repository))
    else:
        read = _Read([SourceFile(_tidy(file.path), file.content) for file in wish.files or ()])
    async with state.fetches.taking_apart:
        return await asyncio.to_thread(_discovered, wish, read)


def _faults(wish: DiscoverBlueprint, settings: ApiSettings) -> list[ProblemField]:
    """All that is wrong with a request, before anything is done."""
    faults: list[ProblemField] = []
    if (wish.repository is None) == (wish.files is None):
        faults.append(ProblemField(path="repository", message="give either a repository or files"))
    if wish.kind is not None and wish.kind not in ORDER:
        faults.append(
            ProblemField(
                path="kind",
                message=f"no Blueprint is made of {wish.kind}",
                suggestion=f"one of {', '.join(ORDER)}",
            )
        )
    if wish.repository is not None:
        faults += _repository_faults(wish.repository, settings)
    size = sum(len(file.content.encode()) for file in wish.files or ())
    if size > LARGEST_ALL:
        # The body's own limit is the operator's, and may be higher.
        faults.append(
            ProblemField(
                path="files",
                message=f"are larger than {LARGEST_ALL >> 20} MiB together",
                suggestion="send those that describe services",
            )
        )
    seen: set[str] = set()
    for index, file in enumerate(wish.files or ()):
        problem = _path_problem(file.path)
        tidy = _tidy(file.path)
        if problem is None and tidy in seen:
            problem = "is the path of another file too"
        seen.add(tidy)
        if problem is not None:
            faults.append(ProblemField(path=f"files[{index}].path", message=problem))
    return faults


def _repository_faults(wish: RepositoryIn, settings: ApiSettings) -> list[ProblemField]:
    faults: list[ProblemField] = []
    try:
        read_url(wish.url, http=settings.discover_http)
    except RepositoryRefused as error:
        faults.append(_refused(error))
    if wish.ref is not None and (not _REF.fullmatch(wish.ref) or ".." in wish.ref):
        faults.append(
            ProblemField(path="repository.ref", message="is no name of a branch or tag, and no commit id")
        )
    problem = None if not wish.path or _tidy(wish.path) == "." else _path_problem(wish.path)
    if problem is not None:
        faults.append(ProblemField(path="repository.path", message=problem))
    return faults


def _path_problem(path: str) -> str | None:
    """Why a text is no path below the root; None when it is."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not path.isprintable():
        return "has characters that cannot be printed"
    if path.startswith("/") or "\\" in path or ".." in path.split("/") or _tidy(path) == ".":
        return "has to be relative to the root, with / and without .."
    return None


def _tidy(path: str) -> str:
    return posixpath.normpath(path)


def _refused(error: RepositoryRefused) -> ProblemField:
    return ProblemField(path=f"repository.{error.place}", message=str(error), suggestion=error.suggestion)


def _invalid(faults: list[ProblemField]) -> ProblemError:
    return ProblemError(RequestProblem.VALIDATION_FAILED, "Nothing can be read from this.", errors=faults)


async def _fetch(state: AppState, wish: RepositoryIn) -> _Read:
    settings = state.settings
    path = "" if not wish.path or _tidy(wish.path) == "." else _tidy(wish.path)
    try:
        with state.fetches.admitted():
            url = read_url(wish.url, http=settings.discover_http)
            found = await addresses(
                url, allowed=settings.discover_allowed_networks, refused=settings.discover_refused_networks
            )
            bounds = Bounds(settings.discover_seconds, settings.discover_bytes)
            async with fetched(url, found, wish.ref, bounds) as repository:
                files, only = await read_files(repository, path)
                commit = await repository.run("rev-parse", "FETCH_HEAD^{commit}")
    except RepositoryRefused as error:
        raise _invalid([_refused(error)]) from error
    except GitMissing as error:
        raise ProblemError(
            RequestProblem.NOT_SUPPORTED, f"No repository can be read: {error}. Send the files instead."
        ) from error
    return _Read(files, only, _name(url, path, only), commit.stdout.decode("ascii", "replace").strip())


def _name(url: RepositoryUrl, path: str, only: str | None) -> str:
    """What is called after a place in a repository: its directory, else the repository."""
    return posixpath.basename(posixpath.dirname(path) if only else path) or url.name


def _discovered(wish: DiscoverBlueprint, read: _Read) -> DiscoverOut:
    found = discover(
        read.files,
        YamlReader(),
        Wish(
            name=wish.name,
            fallback=wish.project or read.name,
            images=wish.images,
            variables=wish.variables,
            profiles=wish.profiles,
            kind=wish.kind,
            only=read.only,
        ),
    )
    return _out(found, read.commit)


def _out(found: Discovery, commit: str | None) -> DiscoverOut:
    text = None
    if found.document is not None:
        text = yaml.safe_dump(found.document, sort_keys=False, allow_unicode=True, width=100)
    return DiscoverOut(
        valid=found.blueprint is not None,
        blueprint=found.document,
        yaml=text,
        errors=[
            DiscoverFault(
                file=fault.file,
                path=fault.error.field,
                message=fault.error.message,
                suggestion=fault.error.suggestion,
                code=fault.error.code,
            )
            for fault in found.faults
        ],
        warnings=findings(found.blueprint) if found.blueprint is not None else [],
        notes=[
            DiscoverNote(
                file=note.file, path=note.place, kind=note.kind, severity=note.severity, message=note.message
            )
            for note in found.notes
        ],
        unsupported=[
            DiscoverUnsupported(file=left.file, path=left.place, reason=left.reason) for left in found.left
        ],
        sources=[
            DiscoverSource(path=source.file, kind=source.kind, used=source.used) for source in found.sources
        ],
        commit=commit,
    )
