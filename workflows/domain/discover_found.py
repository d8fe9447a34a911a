"""The files of a discovery sorted by what they are."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from workflows.domain.discover_files import LARGEST_FILE, below, compose_rank, kind_by_name, path_rank
from workflows.domain.discover_report import NoteKind, Report, Source, SourceKind
from workflows.domain.kubernetes_objects import has_workload, is_object
from workflows.domain.wording import listed

_PATCHES: Final = ("patches", "patchesStrategicMerge", "patchesJson6902", "components", "configurations")

ReadYaml = Callable[[str], Sequence[object]]
"""All documents of a YAML text. Raises ValueError with a message for people that shows no content."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file by its path with `/`, relative to the root; `text` None: `problem` says why it is not there."""

    path: str
    text: str | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The files by what they are: `kinds` by path, `documents` of Kubernetes manifests, all texts."""

    read_yaml: ReadYaml
    texts: dict[str, str]
    kinds: dict[str, SourceKind]
    documents: dict[str, Sequence[object]]

    @classmethod
    def of(cls, files: Sequence[SourceFile], read_yaml: ReadYaml, only: str | None, report: Report) -> Found:
        """Sort files by what they are; what cannot be read is noted."""
        found = cls(read_yaml, {}, {}, {})
        for file in sorted(files, key=lambda each: path_rank(each.path)):
            problem = file.problem or _problem(file.text)
            if file.text is None or problem is not None:
                report.warn(file.path, NoteKind.UNREADABLE, problem or "could not be read")
            else:
                found.texts[file.path] = file.text
        charts = [posixpath.dirname(path) for path in found.texts if kind_by_name(path) is SourceKind.HELM]
        strange: list[str] = []
        for path in found.texts:
            found._sort(path, charts, only, strange, report)
        found._look_at_kustomizations(report)
        if strange:
            report.say("", NoteKind.LEFT, f"YAML without Kubernetes objects: {listed(strange)}")
        return found

    def _sort(
        self, path: str, charts: Sequence[str], only: str | None, strange: list[str], report: Report
    ) -> None:
        kind = kind_by_name(path)
        if only == path and kind in (SourceKind.KUBERNETES, None):
            kind = _kind_of_named(path, kind)
        elif kind is None or (only is not None and only != path):
            return
        if any(below(path, chart) for chart in charts) and kind is not SourceKind.HELM:
            return
        if kind is not SourceKind.KUBERNETES:
            self.kinds[path] = kind
            return
        try:
            documents = self.read_yaml(self.texts[path])
        except ValueError as error:
            report.warn(path, NoteKind.UNREADABLE, f"is no YAML that can be read: {error}")
            return
        if any(is_object(document) for document in documents):
            self.documents[path] = documents
            self.kinds[path] = kind
        else:
            strange.append(path)

    def _look_at_kustomizations(self, report: Report) -> None:
        """Take the patches of kustomizations out: they are parts of objects, not objects."""
        for path in [path for path, kind in self.kinds.items() if kind is SourceKind.KUSTOMIZE]:
            try:
                documents = self.read_yaml(self.texts[path])
            except ValueError as error:
                report.warn(path, NoteKind.UNREADABLE, f"is no YAML that can be read: {error}")
                continue
            for document in documents:
                for key, value in document.items() if isinstance(document, Mapping) else ():
                    if key not in ("apiVersion", "kind", "metadata", "resources", "bases"):
                        report.leave(
                            path, (str(key),), "kustomize is not run: render it, and send what it makes"
                        )
                    for patch in _paths_of(value) if key in _PATCHES else ():
                        patched = posixpath.normpath(posixpath.join(posixpath.dirname(path), patch))
                        if self.kinds.pop(patched, None) is not None:
                            report.leave(patched, (), f"is a patch of {path}, and kustomize is not run")

    def of_kind(self, kind: SourceKind) -> list[str]:
        """The files of a kind in the order in which they are taken; manifests only if one runs something."""
        paths = [path for path, each in self.kinds.items() if each is kind]
        if kind is SourceKind.COMPOSE:
            return sorted(paths, key=compose_rank)
        if kind is SourceKind.KUBERNETES and not any(has_workload(self.documents[path]) for path in paths):
            return []
        return paths

    def sources(self, used: Collection[str]) -> tuple[Source, ...]:
        """All files that describe services."""
        return tuple(Source(path, kind, path in used) for path, kind in self.kinds.items())

    def say_what_is_left(self, kind: SourceKind | None, used: Collection[str], report: Report) -> None:
        """Note the sources that the Blueprint was not made from."""
        for path, each in self.kinds.items():
            if path in used:
                continue
            if each is SourceKind.HELM:
                report.leave(path, (), "charts are not rendered: send what helm template makes of it")
            elif each is SourceKind.KUSTOMIZE:
                report.warn(path, NoteKind.LEFT, "kustomize is not run: manifests are taken as they stand")
            elif each is kind:
                report.say(path, NoteKind.LEFT, f"another {each} file comes first, and one is taken")
            elif each is SourceKind.KUBERNETES and not self.of_kind(each):
                report.say(path, NoteKind.LEFT, "no manifest runs anything, so that they make no services")
            else:
                report.say(path, NoteKind.LEFT, f"{kind or 'nothing'} was taken, not {each}")


def _kind_of_named(path: str, kind: SourceKind | None) -> SourceKind:
    """What a file is that was named by the caller, whatever it is called."""
    return kind or (SourceKind.DOCKERFILE if "." not in posixpath.basename(path) else SourceKind.KUBERNETES)


def _paths_of(value: object) -> list[str]:
    """The files that an entry of a kustomization names: paths, or mappings with a path."""
    found = [item.get("path") if isinstance(item, Mapping) else item for item in _listed(value)]
    return [path for path in found if isinstance(path, str) and "\n" not in path]


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _problem(text: str | None) -> str | None:
    if text is None:
        return None
    if "\0" in text:
        return "is not text"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return f"is larger than {LARGEST_FILE >> 10} KiB" if size > LARGEST_FILE else None
