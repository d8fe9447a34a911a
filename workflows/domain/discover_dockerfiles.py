"""Dockerfiles as services of a Blueprint document: what an image cannot tell Kubernetes by itself."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_checks import MAX_SERVICES
from workflows.domain.discover_report import NoteKind, Report
from workflows.domain.dockerfile import Dockerfile, DockerfileInvalid, HealthCheck, read_dockerfile
from workflows.domain.import_context import dns_label
from workflows.domain.import_nodes import Document, escaped
from workflows.domain.import_volumes import Volumes

_STEM = re.compile(r"(?:dockerfile|containerfile)[._-]?|\.(?:dockerfile|containerfile)$", re.IGNORECASE)


def import_dockerfiles(
    files: Sequence[tuple[str, str]], *, name: str, images: Mapping[str, str], report: Report
) -> list[JsonValue]:
    """A service for each Dockerfile, given as path and text; `name` is for one in the root.

    `images` has the image of each service by its name: images are not built here. No text makes it raise.
    """
    services: list[JsonValue] = []
    taken: set[str] = set()
    for path, text in files:
        try:
            found = read_dockerfile(text)
        except DockerfileInvalid as error:
            report.fault(path, f"is no Dockerfile that can be read: {error}")
            continue
        if len(services) >= MAX_SERVICES:
            report.fault(path, f"a Blueprint has at most {MAX_SERVICES} services")
            break
        services.append(_service(path, found, _name(path, name, taken), images, report))
    return services


def _name(path: str, name: str, taken: set[str]) -> str:
    """By the directory; `Dockerfile.worker` adds its own word."""
    directory, file = posixpath.split(path)
    word = _STEM.sub("", file)
    parts = [part for part in (posixpath.basename(directory) or ("" if word else name), word) if part]
    base = dns_label("-".join(parts), rules.LONGEST_SERVICE_NAME - 4) or "app"
    chosen, number = base, 2
    while chosen in taken:
        chosen = f"{base}-{number}"
        number += 1
    taken.add(chosen)
    return chosen


def _service(path: str, found: Dockerfile, name: str, images: Mapping[str, str], report: Report) -> Document:
    stage = found.last
    service: Document = {"name": name}
    if name in images:
        service["image"] = images[name]
    else:
        report.fault(
            path,
            f'the service "{name}" is built, not pulled',
            f"build and push it, and name the image of {name}",
        )
    if stage.ports:
        service["ports"] = [
            {"containerPort": number, "protocol": protocol} for number, protocol in stage.ports
        ]
    else:
        report.warn(path, NoteKind.ASSUMED, f"{name} has no EXPOSE, and so no ports: write those that it has")
    exposed = next((number for number, protocol in stage.ports if protocol == "TCP"), None)
    if exposed is not None:
        service["expose"] = {"port": exposed}
        report.say(
            path,
            NoteKind.ASSUMED,
            f"{name} is reached from outside at port {exposed}: take expose away if it is not to be",
        )
    env: dict[str, JsonValue] = {}
    for key, value in stage.env.items():
        if rules.env_key(key) is None:
            env[key] = escaped(value)
        else:
            report.leave(path, (key,), "the name is none that Kubernetes takes for an environment variable")
    if env:
        service["env"] = env
        report.say(path, NoteKind.ASSUMED, f"{name}: the variables are those of ENV, which the image has too")
    if stage.health is not None:
        service["probes"] = {"readiness": _probe(stage.health)}
        report.say(path, NoteKind.CHANGED, f"{name}: HEALTHCHECK became the readiness probe")
    _volumes(path, name, stage.volumes, service, report)
    _say_what_the_image_does(path, name, found, report)
    for remark in found.remarks:
        report.leave(path, (f"line {remark.line}",), remark.message)
    return service


def _probe(health: HealthCheck) -> Document:
    probe: Document = {"exec": {"command": [escaped(word) for word in health.command]}}
    for key, value in (
        ("periodSeconds", health.interval),
        ("timeoutSeconds", health.timeout),
        ("failureThreshold", health.retries),
    ):
        if value:
            probe[key] = value
    return probe


def _volumes(path: str, name: str, places: Sequence[str], service: Document, report: Report) -> None:
    volumes = Volumes()
    for place in places:
        problem = volumes.add(posixpath.basename(place.rstrip("/")), place, type="emptyDir")
        if problem is not None:
            report.leave(path, ("VOLUME", place), problem)
            continue
        report.warn(
            path,
            NoteKind.CHANGED,
            f"{name}: what is written to {place} lasts as long as its pod; a pvc volume would keep it",
        )
    if volumes.entries:
        service["volumes"] = volumes.entries


def _say_what_the_image_does(path: str, name: str, found: Dockerfile, report: Report) -> None:
    stage = found.last
    if found.stages > 1:
        report.say(path, NoteKind.CHOSEN, f"{name} is the last of {found.stages} stages, on {stage.base}")
    for word, value in (("ENTRYPOINT", stage.entrypoint), ("CMD", stage.command), ("USER", stage.user)):
        if value:
            report.say(
                path, NoteKind.CHANGED, f"{name}: {word} {value} comes with the image and is not written down"
            )
    if stage.volumes and stage.user not in ("", "0", "root"):
        report.warn(
            path,
            NoteKind.ASSUMED,
            f"{name} runs as {stage.user}, who may be unable to write to a pvc volume: no fsGroup is set",
        )
