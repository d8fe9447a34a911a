"""The Kubernetes objects that services become: no two of a kind with one name, no name that is too long.

The renderer itself is asked for the names, so that only it knows what it derives from the name of a service.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from workflows.domain.blueprint_checks import Draft
from workflows.domain.blueprint_models import Blueprint, Service
from workflows.domain.blueprint_rules import MOST_REPLICAS, service_name
from workflows.domain.blueprint_tree import Faults
from workflows.domain.environment import EnvironmentContext, Overrides
from workflows.domain.json_reading import children, text
from workflows.domain.manifests_common import LONGEST_LABEL
from workflows.domain.manifests_workload import claim_name
from workflows.domain.manifests_workload import service as rendered

_CLAIM: Final = "PersistentVolumeClaim"
# No name within a namespace depends on whose it is.
_NOBODY: Final = EnvironmentContext(
    environment_id="",
    environment_name="",
    organization_id="",
    installation_id="",
    operation_id="",
    cluster="",
    namespace="",
    revision=0,
    fence=0,
)


class _Object(NamedTuple):
    """An object by its kind and name; `longest` is the longest name among it and its like for other pods."""

    kind: str
    name: str
    longest: int


def check_objects(drafts: Sequence[Draft], faults: Faults) -> None:
    """Note services of which the cluster would take one object for another's, and names it would not take."""
    owners: dict[tuple[str, str], str] = {}
    for draft in drafts:
        name = draft.service.name
        if service_name(name) is not None:
            continue
        for made in _objects(draft.service):
            owner = owners.setdefault((made.kind, made.name), name)
            if owner != name:
                _collision(owner, draft, made, faults)
            if made.longest > LONGEST_LABEL:
                _too_long(draft, made, faults)


def _objects(service: Service) -> Iterator[_Object]:
    """What the service is rendered to, and the claims that the controller makes for its StatefulSet."""
    for manifest in rendered(_NOBODY, Blueprint(name="", services=(service,)), service.name, Overrides()):
        name = text(manifest, "metadata", "name")
        yield _Object(text(manifest, "kind"), name, len(name))
        for template in children(manifest, "spec", "volumeClaimTemplates"):
            volume = text(template, "metadata", "name")
            longest = len(claim_name(volume, name, MOST_REPLICAS - 1))
            yield _Object(_CLAIM, claim_name(volume, name, 0), longest)


def _collision(owner: str, draft: Draft, made: _Object, faults: Faults) -> None:
    name = draft.service.name
    message = f'the services "{owner}" and "{name}" would both have a {made.kind} called "{made.name}"'
    hint = "give one of the two services another name"
    faults.add(draft.node.at("name"), message, f"{hint}, or its volume" if made.kind == _CLAIM else hint)


def _too_long(draft: Draft, made: _Object, faults: Faults) -> None:
    message = (
        f'its {made.kind} "{made.name}" would have a name of up to {made.longest} characters, '
        f"at most {LONGEST_LABEL} are allowed"
    )
    faults.add(draft.node.at("name"), message, "shorten the name of the service, or of its volume")
