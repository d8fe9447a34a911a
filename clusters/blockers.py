"""What keeps a namespace from going away."""

import asyncio
import re
from typing import Final

from clusters.connection import METADATA_LIST, Call, Connection
from clusters.discovery import Discovery
from clusters.errors import Forbidden, NotFound, NotServed, bounded
from clusters.objects import KINDS, Kind, Manifest
from workflows.domain.failures import Blocker
from workflows.domain.json_reading import children, strings, text

_PAGE: Final = "200"
_LOOKS_AT_ONCE: Final = 16
_CONTENT: Final = "NamespaceContentRemaining"
_FINALIZERS: Final = "NamespaceFinalizersRemaining"
_FAULTS: Final = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
)
_REMAINING: Final = re.compile(r"([a-z0-9-]+)\.([a-z0-9.-]*) has (\d+) resource instances")
_HELD: Final = re.compile(r"(\S+) in (\d+) resource instances")


async def find_blockers(connection: Connection, discovery: Discovery, namespace: str) -> tuple[Blocker, ...]:
    """Return what holds up the deletion of a namespace or its contents; see `Cluster.blockers`."""
    live = await _read(connection, namespace)
    if live is None:
        return ()
    terminating = bool(text(live, "metadata", "deletionTimestamp"))
    found, unreadable = await _search(connection, discovery, namespace, terminating=terminating)
    if terminating:
        found += _own(live)
        if unreadable:
            found += _from_conditions(live, unreadable)
    return tuple(sorted(set(found), key=lambda blocker: blocker.object))


async def _read(connection: Connection, namespace: str) -> Manifest | None:
    try:
        call = Call("GET", KINDS["Namespace"].path(name=namespace), idempotent=True)
        return (await connection.request(call)).body
    except NotFound:
        return None


async def _search(
    connection: Connection, discovery: Discovery, namespace: str, *, terminating: bool
) -> tuple[list[Blocker], list[Kind]]:
    """Return blockers among all objects of the namespace, and the kinds that we may not list."""
    at_once = asyncio.Semaphore(_LOOKS_AT_ONCE)
    unreadable: list[Kind] = []

    async def look(kind: Kind) -> list[Blocker]:
        call = Call("GET", kind.path(namespace), {"limit": _PAGE}, accept=METADATA_LIST, idempotent=True)
        try:
            async with at_once:
                items = children((await connection.request(call)).body, "items")
        except (NotFound, NotServed):
            return []
        except Forbidden:
            unreadable.append(kind)
            return []
        return [_blocker(kind, item) for item in items if _holds(item, terminating=terminating)]

    # Events in the newer group are the same objects as those in the core group, and never hold anything.
    kinds = [kind for kind in await discovery.listable() if kind.kind != "Event"]
    found = await asyncio.gather(*(look(kind) for kind in kinds))
    return [blocker for part in found for blocker in part], unreadable


def _holds(item: Manifest, *, terminating: bool) -> bool:
    deleted = bool(text(item, "metadata", "deletionTimestamp"))
    return deleted or (terminating and bool(strings(item, "metadata", "finalizers")))


def _blocker(kind: Kind, item: Manifest) -> Blocker:
    return Blocker(
        object=f"{kind.kind}/{text(item, 'metadata', 'name')}",
        finalizers=strings(item, "metadata", "finalizers"),
    )


def _own(live: Manifest) -> list[Blocker]:
    """Return what the namespace itself says: its finalizers, and faults of its deletion."""
    name = f"Namespace/{text(live, 'metadata', 'name')}"
    # "kubernetes" is how the deletion itself works; it goes when the contents are gone.
    finalizers = strings(live, "metadata", "finalizers") + tuple(
        finalizer for finalizer in strings(live, "spec", "finalizers") if finalizer != "kubernetes"
    )
    found = [Blocker(object=name, finalizers=finalizers)] if finalizers else []
    for condition in _true_conditions(live):
        if text(condition, "type") in _FAULTS:
            said = f"{text(condition, 'type')}: {text(condition, 'message')}"
            found.append(Blocker(object=bounded(f"{name} ({said})")))
    return found


def _from_conditions(live: Manifest, unreadable: list[Kind]) -> list[Blocker]:
    """Return what the cluster's own summary says about kinds that we may not list.

    The summary counts objects by kind and, apart from that, by finalizer: only when there is one such kind
    do the finalizers certainly belong to it.
    """
    kinds = {(kind.plural, kind.group): kind.kind for kind in unreadable}
    messages = {text(c, "type"): text(c, "message") for c in _true_conditions(live)}
    finalizers = tuple(name for name, _ in _HELD.findall(messages.get(_FINALIZERS, "")))
    remaining = [
        (kinds[plural, group], count)
        for plural, group, count in _REMAINING.findall(messages.get(_CONTENT, ""))
        if (plural, group) in kinds
    ]
    if not remaining:
        said = [messages[name] for name in (_CONTENT, _FINALIZERS) if name in messages]
        return [Blocker(object=bounded("; ".join(said)), finalizers=finalizers)] if said else []
    held = finalizers if len(remaining) == 1 else ()
    found = [Blocker(object=f"{kind} ({count} left)", finalizers=held) for kind, count in remaining]
    if finalizers and not held:
        found.append(Blocker(object="objects of these kinds", finalizers=finalizers))
    return found


def _true_conditions(live: Manifest) -> list[Manifest]:
    return [c for c in children(live, "status", "conditions") if text(c, "status") == "True"]
