"""Which cluster to use: one that was named, one in a container engine, or the embedded node."""

import os
import platform
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from devcluster.errors import DevclusterError
from devcluster.tools import succeeds

ENGINES = ("docker", "podman")


class ProviderName(StrEnum):
    """The three ways to a cluster."""

    KUBECONFIG = "kubeconfig"
    KIND = "kind"
    EMBEDDED = "embedded"


class Provider(Protocol):
    """What the command line asks of each of them."""

    def check(self) -> None:
        """Raise with what to do when it cannot work here; touches nothing."""

    def up(self) -> None:
        """Make the cluster run, or find that it does."""

    def down(self) -> None:
        """Remove everything `up` made."""

    def status(self) -> list[str]:
        """Lines for people."""

    def images(self) -> None:
        """Build the demo's images where needed and bring them into the cluster and its registry."""

    def load(self, archive: Path) -> None:
        """Import an image archive into the cluster."""

    def push(self, reference: str) -> None:
        """Push an image the cluster has to the registry named in its reference."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice depends on."""

    kubeconfig: str
    context: str
    engine: str | None
    is_linux: bool
    is_root: bool


def look_around() -> Machine:
    """Find out about this machine; an engine counts only if it answers."""
    return Machine(
        kubeconfig=os.environ.get("PERDURE_KUBECONFIG", ""),
        context=os.environ.get("PERDURE_KUBE_CONTEXT", ""),
        engine=next((name for name in ENGINES if succeeds(name, "info")), None),
        is_linux=platform.system() == "Linux",
        is_root=os.geteuid() == 0,
    )


def choose(machine: Machine, forced: ProviderName | None = None) -> ProviderName:
    """The first provider that can work here, or the forced one; raises with what to do when none can."""
    embedded = machine.is_linux and machine.is_root
    usable = {
        ProviderName.KUBECONFIG: bool(machine.kubeconfig),
        ProviderName.KIND: machine.engine is not None,
        ProviderName.EMBEDDED: embedded and (forced is not None or machine.engine is None),
    }
    if forced is not None:
        if not usable[forced]:
            raise DevclusterError(f"provider {forced} cannot be used: {_NEEDS[forced]}")
        return forced
    for name, possible in usable.items():
        if possible:
            return name
    raise DevclusterError(
        "no way to a Kubernetes cluster here. One of these would do:\n"
        + "\n".join(f"  {name}: {need}" for name, need in _NEEDS.items())
    )


_NEEDS = {
    ProviderName.KUBECONFIG: "set PERDURE_KUBECONFIG (and PERDURE_KUBE_CONTEXT) to a cluster you may use",
    ProviderName.KIND: "install and start Docker or Podman",
    ProviderName.EMBEDDED: "run as root on Linux",
}
