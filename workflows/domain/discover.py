"""From the files of a repository to a Blueprint document, with an account of everything that was found.

One kind of source is taken: Compose before Kubernetes manifests before Dockerfiles. A Compose file says most
of what a Blueprint needs in the terms of one developer's environment, manifests say it for a cluster that is
not ours, a Dockerfile describes one image. Mixing them would describe services twice.
"""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import Blueprint
from workflows.domain.blueprint_parse import parse_blueprint
from workflows.domain.compose import import_compose
from workflows.domain.compose_values import ComposeValueError, env_file
from workflows.domain.discover_dockerfiles import import_dockerfiles
from workflows.domain.discover_found import Found, ReadYaml, SourceFile
from workflows.domain.discover_report import Fault, Left, Note, NoteKind, Report, Source, SourceKind
from workflows.domain.errors import BlueprintInvalid
from workflows.domain.import_context import dns_label
from workflows.domain.kubernetes import import_manifests
from workflows.domain.kubernetes_objects import ManifestFile
from workflows.domain.wording import listed

ORDER: Final = (SourceKind.COMPOSE, SourceKind.KUBERNETES, SourceKind.DOCKERFILE)
"""Which kind is taken when there are several."""
_NONE: Final = {
    SourceKind.COMPOSE: "no Compose file",
    SourceKind.KUBERNETES: "no Kubernetes workload",
    SourceKind.DOCKERFILE: "no Dockerfile",
}
_PLACEHOLDER: Final = "images.invalid/not-named:yet"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller wants: `name` of the environment, `images` by service, `kind` of source if not any.

    Without a name it is that of the Compose project, else it is made from `fallback`. `variables` and
    `profiles` are those of Compose. `only`: the one file that is to be the source.
    """

    name: str | None = None
    fallback: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    profiles: Collection[str] = ()
    kind: SourceKind | None = None
    only: str | None = None

    def environment(self, *projects: object) -> str:
        """What the environment is called; `projects` are the names that a source has."""
        written = [project for project in projects if isinstance(project, str)]
        return self.name or name_for(*written, self.fallback)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found. `document` is None when there is nothing to make a Blueprint of.

    With `faults` the document is no valid Blueprint, and `blueprint` None.
    """

    document: dict[str, JsonValue] | None
    blueprint: Blueprint | None
    notes: tuple[Note, ...]
    left: tuple[Left, ...]
    faults: tuple[Fault, ...]
    sources: tuple[Source, ...]


def discover(files: Sequence[SourceFile], read_yaml: ReadYaml, wish: Wish) -> Discovery:
    """Find services in files. No content makes it raise; what it returns has no values of Secrets."""
    report = Report()
    found = Found.of(files, read_yaml, wish.only, report)
    kind, document, used = _document(found, wish, report)
    if document is None and not report.faults:
        report.fault("", *_nothing(found, wish.kind))
    found.say_what_is_left(kind, used, report)
    if document is not None:
        _refuse_unknown(wish.images, document, report)
    blueprint = _checked(document, report) if document is not None else None
    return Discovery(
        document,
        blueprint,
        report.listed_notes(),
        report.listed_left(),
        report.bounded_faults(),
        found.sources(used),
    )


def _nothing(found: Found, asked: SourceKind | None) -> tuple[str, str]:
    """Say that there is no source, of the kind that was asked for or of any; and what to do."""
    there = [kind for kind in ORDER if found.of_kind(kind)]
    if asked is None or asked in there or not there:
        missing = ORDER if asked is None else (asked,)
        return (
            f"there is {_joined([_NONE[kind] for kind in missing], 'and')} to make a Blueprint of",
            "name the directory that has them",
        )
    names = _joined(there, "or")
    return (
        f"there is {_NONE[asked]}, as was asked for, to make a Blueprint of",
        f"ask for {names}, which there is, or for no kind",
    )


def _joined(words: Sequence[str], last: str) -> str:
    return f" {last} ".join([part for part in (", ".join(words[:-1]), words[-1]) if part])


def _document(
    found: Found, wish: Wish, report: Report
) -> tuple[SourceKind | None, dict[str, JsonValue] | None, frozenset[str]]:
    """The kind that was taken, the Blueprint document, and the files that it was made from."""
    for kind in ORDER if wish.kind is None else (wish.kind,):
        candidates = found.of_kind(kind)
        if not candidates:
            continue
        others = [other for other in ORDER if other is not kind and found.of_kind(other)]
        if others:
            why = "as was asked for" if wish.kind is not None else f"the order is {', '.join(ORDER)}"
            report.say("", NoteKind.CHOSEN, f"{kind} was taken, not {' and '.join(others)}: {why}")
        if kind is SourceKind.COMPOSE:
            return kind, _from_compose(candidates[0], found, wish, report), frozenset(candidates[:1])
        if kind is SourceKind.KUBERNETES:
            manifests = [ManifestFile(path, found.documents[path]) for path in candidates]
            services = import_manifests(manifests, images=wish.images, report=report)
        else:
            texts = [(path, found.texts[path]) for path in candidates]
            services = import_dockerfiles(texts, name=wish.environment(), images=wish.images, report=report)
        document: dict[str, JsonValue] | None = {"name": wish.environment(), "services": services}
        return kind, document if services else None, frozenset(candidates)
    return None, None, frozenset()


def _from_compose(path: str, found: Found, wish: Wish, report: Report) -> dict[str, JsonValue] | None:
    try:
        documents = found.read_yaml(found.texts[path])
    except ValueError as error:
        report.fault(path, f"cannot be read: {error}")
        return None
    if len(documents) != 1:
        report.fault(path, f"holds {len(documents)} documents; a Compose file is one")
        return None
    beside = _Beside(found.texts, posixpath.dirname(path))
    variables = {**_variables(beside, path, report), **wish.variables}
    document = documents[0]
    carried = import_compose(
        document,
        name=wish.environment(document.get("name") if isinstance(document, Mapping) else None),
        env_files=beside,
        images=wish.images,
        profiles=wish.profiles,
        variables=variables,
    )
    report.adopt_faults(path, carried.errors)
    for note in carried.notes:
        report.say(path, NoteKind.CHANGED, note)
    for each in carried.unsupported:
        report.leave(path, each.path, each.reason)
    made = carried.blueprint_document
    _hide_secrets(made, path, report)
    return made if made["services"] else None


class _Beside(Mapping[str, str]):
    """The files of the repository by the paths that a file in `directory` names them with."""

    def __init__(self, texts: Mapping[str, str], directory: str) -> None:
        self._texts = texts
        self._directory = directory

    def __getitem__(self, key: str) -> str:
        return self._texts[posixpath.normpath(posixpath.join(self._directory, key))]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _variables(beside: Mapping[str, str], path: str, report: Report) -> dict[str, str]:
    """What the `.env` beside a Compose file sets, as Compose reads it."""
    text = beside.get(".env")
    if text is None:
        return {}
    try:
        found = env_file(text)
    except ComposeValueError as error:
        report.warn(path, NoteKind.UNREADABLE, f"the .env beside it was not read: {error}")
        return {}
    report.say(path, NoteKind.CHANGED, f"variables were taken from the .env beside it: {listed(list(found))}")
    return found


def _hide_secrets(document: dict[str, JsonValue], path: str, report: Report) -> None:
    """Make references of the values that the files of a Compose file's secrets have."""
    services = document["services"]
    for service in services if isinstance(services, list) else []:
        secrets = service.get("secrets") if isinstance(service, dict) else None
        for secret in secrets if isinstance(secrets, list) else []:
            if not isinstance(secret, dict):
                continue
            name = str(secret["name"])
            if secret.pop("value", None) is not None:
                secret["valueFrom"] = {"secret": name}
            report.warn(
                path,
                NoteKind.SECRET,
                f'{secret["envKey"]} is the secret {name}: store it once with "perdure secret set {name}"',
            )


def _refuse_unknown(images: Mapping[str, str], document: dict[str, JsonValue], report: Report) -> None:
    """An image for a service that is not there is a mistake in its name."""
    services = document["services"]
    names = (
        [str(each["name"]) for each in services if isinstance(each, dict)]
        if isinstance(services, list)
        else []
    )
    for name in sorted(images.keys() - set(names)):
        report.fault(
            "", f"an image is given for {name}, and no service is called that", f"one of {listed(names)}"
        )


def _checked(document: dict[str, JsonValue], report: Report) -> Blueprint | None:
    """The Blueprint, or None with all its faults reported; images that are missing have been already."""
    whole = copy.deepcopy(document)
    services = whole["services"]
    for service in services if isinstance(services, list) else []:
        if isinstance(service, dict) and "image" not in service:
            service["image"] = _PLACEHOLDER
    try:
        blueprint = parse_blueprint(whole)
    except BlueprintInvalid as error:
        report.adopt_faults("", error.errors)
        return None
    return None if report.faults else blueprint


def name_for(*candidates: str | None) -> str:
    """The first candidate that has letters to make an environment's name of; "discovered" when none has."""
    for candidate in candidates:
        name = dns_label(candidate or "", rules.LONGEST_BLUEPRINT_NAME)
        if name:
            return name
    return "discovered"
