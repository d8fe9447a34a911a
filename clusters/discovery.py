"""What a cluster serves, for the two places that have to look beyond our own kinds."""

import asyncio
import time
from typing import Final

from clusters.connection import Call, Connection
from clusters.errors import NotFound, NotServed
from clusters.objects import KINDS, Kind, Manifest, kind_of
from workflows.domain.json_reading import children, strings, text

_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_SERVED_FOR: Final = 600.0
_MISSING_FOR: Final = 30.0


class Discovery:
    """Answers from discovery, remembered: presence for ten minutes, absence for half a minute."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._served: dict[str, tuple[bool, float]] = {}

    async def served(self, name: str) -> bool:
        """Return whether the cluster serves a kind of the registry."""
        kind = kind_of(name)
        known = self._served.get(name)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        try:
            answer = await self._connection.request(Call("GET", kind.group_path, idempotent=True))
            plurals = {text(resource, "name") for resource in children(answer.body, "resources")}
        except (NotServed, NotFound):
            plurals = set()
        present = kind.plural in plurals
        self._served[name] = (present, time.monotonic() + (_SERVED_FOR if present else _MISSING_FOR))
        return present

    async def resolve(self, name: str) -> Kind:
        """Return where any kind is served: of the registry at once, others by discovery."""
        if name in KINDS:
            return KINDS[name]
        for kind in await self.listable():
            if kind.kind == name:
                return kind
        raise NotServed(f"the cluster does not serve the kind {name!r}")

    async def listable(self) -> tuple[Kind, ...]:
        """Return all namespaced kinds that can be listed, each in its preferred version."""
        core, groups = await asyncio.gather(self._aggregated("/api"), self._aggregated("/apis"))
        return core + groups

    async def _aggregated(self, path: str) -> tuple[Kind, ...]:
        call = Call("GET", path, accept=_AGGREGATED, idempotent=True)
        found: list[Kind] = []
        for group in children((await self._connection.request(call)).body, "items"):
            # Versions come in order of preference; a stale one belongs to an API server that is away.
            versions = [v for v in children(group, "versions") if text(v, "freshness") != "Stale"]
            if versions:
                found += _kinds(text(group, "metadata", "name"), versions)
        return tuple(found)


def _kinds(group: str, versions: list[Manifest]) -> list[Kind]:
    seen: dict[str, Kind] = {}
    for version in versions:
        for resource in children(version, "resources"):
            plural = text(resource, "resource")
            if (
                plural not in seen
                and text(resource, "scope") == "Namespaced"
                and "list" in strings(resource, "verbs")
            ):
                seen[plural] = Kind(
                    text(resource, "responseKind", "kind"), group, text(version, "version"), plural
                )
    return list(seen.values())
