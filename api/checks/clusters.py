"""Checks of a cluster: whether it answers, what we may do there, and what it has that we use."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from api.checks.schemas import CheckOut, fail, ok, warn
from api.checks.stores import CLOCKS_APART, clock
from api.state import AppState
from clusters.errors import Forbidden
from clusters.objects import ObjectRef
from clusters.rights import EVERYWHERE, IN_ENVIRONMENTS, Right
from workflows.domain.json_reading import text
from workflows.domain.names import FENCE_POLICIES, INSTALLATION
from workflows.domain.wording import listed

if TYPE_CHECKING:
    from clusters.gateway import Cluster

OLDEST: Final = (1, 30)
"""Before this, ValidatingAdmissionPolicy is not served as v1."""
_SHOWN: Final = 5


async def cluster(state: AppState, name: str) -> list[CheckOut]:
    """Look at one cluster. Raises ClusterError when it does not answer."""
    at = f"cluster/{name}"
    gateway = await state.clusters.get(name)
    await gateway.ping()
    version = await gateway.version()
    checks = [_version(at, version)]
    told = await gateway.clock()
    if told is not None:
        # Its clock is told in whole seconds.
        checks.append(clock(f"{at}/clock", told, CLOCKS_APART + timedelta(seconds=1)))
    example = await _example(gateway, await state.installation.id())
    checks.append(_rights(f"{at}/rights", await gateway.missing_rights(EVERYWHERE), "everywhere"))
    if example is not None:
        lacking = await gateway.missing_rights(IN_ENVIRONMENTS, example)
        checks.append(_rights(f"{at}/rights/environments", lacking, f"in {example}"))
    checks.append(await _fencing(f"{at}/fencing", gateway, example))
    checks.append(await _metrics(f"{at}/metrics", gateway))
    return checks


def _version(name: str, version: str) -> CheckOut:
    numbers = version.removeprefix("v").split(".")
    known = len(numbers) >= 2 and all(each.isdigit() for each in numbers[:2])
    if known and (int(numbers[0]), int(numbers[1])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return fail(name, f"Kubernetes {version} is too old", f"Upgrade the cluster to {oldest} or later.")
    return ok(name, f"Kubernetes {version} answers")


async def _example(gateway: Cluster, installation_id: str) -> str | None:
    """Return the namespace of some environment of ours."""
    try:
        found = await gateway.list("Namespace", labels={INSTALLATION: installation_id}, limit=20)
    except Forbidden:
        return None  # the check of rights says so
    living = [each for each in found.items if not text(each, "metadata", "deletionTimestamp")]
    return text(living[0], "metadata", "name") if living else None


def _rights(name: str, missing: tuple[Right, ...], where: str) -> CheckOut:
    if not missing:
        return ok(name, f"all that are needed {where}")
    told = listed([str(each) for each in missing], _SHOWN)
    return fail(
        name,
        f"missing {where}: {told}",
        "Apply deploy/cluster/20-rights.yaml as an administrator of the cluster.",
    )


async def _fencing(name: str, gateway: Cluster, example: str | None) -> CheckOut:
    remedy = "Apply deploy/cluster/30-fence.yaml; its matchConditions have to name our service account."
    try:
        missing = [
            f"{kind}/{policy}"
            for policy in FENCE_POLICIES
            for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            if await gateway.get(ObjectRef(kind, policy)) is None
        ]
    except Forbidden:
        return warn(name, "we may not look for the admission policies", remedy)
    if missing:
        return fail(name, f"missing: {', '.join(missing)}; late writes are only checked before", remedy)
    if example is not None and not await gateway.fence_enforced(example):
        return fail(name, "the policy is installed and does not refuse our late writes", remedy)
    return ok(name, "the policy is installed" + (" and refuses late writes" if example else ""))


async def _metrics(name: str, gateway: Cluster) -> CheckOut:
    if await gateway.served("PodMetrics"):
        return ok(name, "metrics.k8s.io is served")
    return warn(
        name,
        "metrics.k8s.io is not served: CPU and memory are read by a command in each container",
        "Install metrics-server, for those without a shell and for CPU over more than half a second.",
    )
