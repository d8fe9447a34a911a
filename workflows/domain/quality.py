"""The quality gate: what a Blueprint had better say differently. All warn, save L006, which is an error."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from workflows.domain.blueprint_checks import L006, SHARED_VOLUME_HINT, SHARED_VOLUME_MESSAGE
from workflows.domain.blueprint_models import Blueprint, Service, ServiceKind
from workflows.domain.blueprint_rules import image_unpinned
from workflows.domain.errors import Path, render_path
from workflows.domain.mirror import mirror_of, mirrored_ports


class GateCode(StrEnum):
    """Codes of the quality gate."""

    UNPINNED_IMAGE = "L001"
    EXPOSED_WITHOUT_READINESS = "L002"
    NO_MEMORY_LIMIT = "L003"
    LITERAL_SECRET = "L004"  # noqa: S105 - a code
    UNKNOWN_HOST = "L005"
    SHARED_VOLUME = L006
    WITHOUT_READINESS = "L008"
    PORT_NOT_MIRRORED = "L009"


class Finding(BaseModel):
    """One finding of the gate: its code, its place in the Blueprint, the reason and a way out."""

    model_config = ConfigDict(frozen=True)

    code: GateCode
    path: tuple[str | int, ...]
    message: str
    suggestion: str

    @property
    def field(self) -> str:
        """The path in its written form."""
        return render_path(self.path)


_SECRET_WORDS: Final = frozenset(
    {"password", "passwd", "passphrase", "pwd", "token", "secret", "secrets", "key", "apikey", "credentials"}
)
# Keys with a secret word in them whose last word says that the value is about the secret, not the secret.
_PUBLIC_WORDS: Final = frozenset(
    {"file", "path", "id", "name", "prefix", "header", "url", "type", "algorithm", "version"}
    | {"ttl", "length", "size", "bits", "count", "limit", "timeout", "seconds", "minutes", "expiry"}
)
_REFERENCE: Final = re.compile(r"(?<!\$)(?:\$\$)*\$\([-._a-zA-Z][-._a-zA-Z0-9]*\)")
_HOST: Final = r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)"
_URL: Final = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#@]*@)?(?P<hosts>{_HOST}(?::[0-9]+)?(?:,{_HOST}(?::[0-9]+)?)*)"
)
_HOST_PORT: Final = re.compile(rf"(?P<host>{_HOST}):(?P<port>[0-9]{{1,5}})")
_LOCAL: Final = frozenset({"localhost", "host.docker.internal"})


def warnings(blueprint: Blueprint) -> tuple[Finding, ...]:
    """All findings of a Blueprint in document order; no finding shows a value that may be a secret."""
    services = {service.name for service in blueprint.services}
    return tuple(
        finding
        for index, service in enumerate(blueprint.services)
        for finding in _of(service, index, services)
    )


def _of(service: Service, index: int, services: set[str]) -> Iterator[Finding]:
    place: Path = ("services", index)
    if image_unpinned(service.image):
        yield Finding(
            code=GateCode.UNPINNED_IMAGE,
            path=(*place, "image"),
            message=f"{service.image} may be another image tomorrow",
            suggestion="name a version tag or a digest",
        )
    if service.mock is not None and image_unpinned(service.mock.image):
        yield Finding(
            code=GateCode.UNPINNED_IMAGE,
            path=(*place, "mock", "image"),
            message=f"{service.mock.image} may be another image tomorrow",
            suggestion="name a version tag or a digest",
        )
    yield from _not_mirrored(service, place)
    if service.unsafely_replicated:
        yield Finding(
            code=GateCode.SHARED_VOLUME,
            path=(*place, "replicas"),
            message=SHARED_VOLUME_MESSAGE,
            suggestion=SHARED_VOLUME_HINT,
        )
    # A worker that serves nothing has nothing to be asked.
    serves = service.exposure is not None or bool(service.ports)
    if serves and service.probes.readiness is None and service.kind is ServiceKind.SERVICE:
        yield _without_readiness(place, exposed=service.exposure is not None)
    yield from _env(service, place, services)
    if service.resources.limits.memory is None:
        yield Finding(
            code=GateCode.NO_MEMORY_LIMIT,
            path=(*place, "resources", "limits", "memory"),
            message="no memory limit: a leak takes the memory of its neighbours",
            suggestion="resources: {limits: {memory: 256Mi}}",
        )


def _not_mirrored(service: Service, place: Path) -> Iterator[Finding]:
    mirrored = mirrored_ports(service)
    for index, port in enumerate(service.ports):
        if mirror_of(service) is not None and port not in mirrored:
            yield Finding(
                code=GateCode.PORT_NOT_MIRRORED,
                path=(*place, "ports", index),
                message=f"port {port.container_port} is not known to speak HTTP: its requests are not copied",
                suggestion="name it http, or http-...",
            )


def _without_readiness(place: Path, *, exposed: bool) -> Finding:
    exposed_message = "exposed without a readiness probe: requests arrive before the program can answer them"
    message = "no readiness probe: it counts as ready after three seconds, whether or not it answers"
    return Finding(
        code=GateCode.EXPOSED_WITHOUT_READINESS if exposed else GateCode.WITHOUT_READINESS,
        path=(*place, "probes", "readiness"),
        message=exposed_message if exposed else message,
        suggestion="probes: {readiness: {http: {path: /healthz, port: ...}}}",
    )


def _env(service: Service, place: Path, services: set[str]) -> Iterator[Finding]:
    for key, value in service.env.items():
        if names_secret(key) and value and _REFERENCE.search(value) is None:
            yield Finding(
                code=GateCode.LITERAL_SECRET,
                path=(*place, "env", key),
                message="the name says secret, the value stands here in clear",
                suggestion=f"secrets: [{{name: ..., envKey: {key}, value: auto-generated}}]",
            )
        for host in hosts_in(value):
            if not _resolvable(host, services):
                yield Finding(
                    code=GateCode.UNKNOWN_HOST,
                    path=(*place, "env", key),
                    message=f'the host "{host}" is neither a service of this Blueprint nor a qualified name',
                    suggestion="name a service of this Blueprint, or the full host name",
                )


def names_secret(key: str) -> bool:
    """Whether the name of an environment variable says that its value is a secret."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    if not words or words[-1] in _PUBLIC_WORDS or "public" in words:
        return False
    return any(word in _SECRET_WORDS or word.endswith("password") for word in words)


def hosts_in(value: str) -> tuple[str, ...]:
    """Hosts that a value points at: those of URLs, or the value itself as `host:port[,host:port]`."""
    if len(value) > 4096:
        return ()
    found: list[str] = []
    for match in _URL.finditer(value):
        found.extend(_without_port(part) for part in match["hosts"].split(","))
    if not found:
        parts = [_HOST_PORT.fullmatch(part.strip()) for part in value.split(",")]
        pairs = [match for match in parts if match is not None and 0 < int(match["port"]) <= 65535]
        # Numbers with a colon between them are times, ratios and versions, not addresses.
        if len(pairs) == len(parts) and not any(match["host"].isdigit() for match in pairs):
            found.extend(match["host"] for match in pairs)
    return tuple(dict.fromkeys(host.strip("[]") for host in found))


def _without_port(part: str) -> str:
    return part if part.endswith("]") else part.rsplit(":", 1)[0] if ":" in part else part


def _resolvable(host: str, services: set[str]) -> bool:
    if host in services or "." in host or host.lower() in _LOCAL:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
