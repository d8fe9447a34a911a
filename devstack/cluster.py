"""The cluster under the stack: made by `python -m devcluster`, or one that the user has already."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import DevstackError
from devstack.settings import CONTEXT, KUBECONFIG, Stack


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of one stack.

    A `PERDURE_KUBECONFIG` with a `perdure.kubeconfig` beside it is a development cluster that another stack
    keeps: it is used as it is, and left alone.
    """

    stack: Stack

    @property
    def shared(self) -> bool:
        """Whether somebody else keeps the cluster."""
        given = self.stack.given_kubeconfig
        return given is not None and given.with_name("perdure.kubeconfig").is_file()

    @property
    def given(self) -> bool:
        """Whether the cluster is the user's own, and stays when the stack goes."""
        return self.stack.given_kubeconfig is not None

    @property
    def admin_kubeconfig(self) -> Path:
        """For people: all rights."""
        return self.stack.given_kubeconfig or self._state / "admin.kubeconfig"

    @property
    def perdure_kubeconfig(self) -> Path:
        """For worker and API: the service account with the documented rights only."""
        given = self.stack.given_kubeconfig
        return (
            given.with_name("perdure.kubeconfig")
            if given and self.shared
            else self._state / "perdure.kubeconfig"
        )

    def up(self) -> None:
        """Bring the cluster up, or find it up. Raises DevstackError."""
        if self.shared:
            return
        self._devcluster("up")
        for path in (self.admin_kubeconfig, self.perdure_kubeconfig):
            if not path.is_file():
                raise DevstackError(f"the cluster is up, but {path} is missing")

    def images(self) -> None:
        """Build the demo's images where they are missing, and load them. Raises DevstackError."""
        if not self.shared:
            self._devcluster("images")

    def down(self) -> None:
        """Take the cluster down, unless it is somebody else's. Raises DevstackError."""
        if not self.shared:
            self._devcluster("down")

    def status(self) -> str:
        """Return what there is to say about the cluster, in one line."""
        if self.shared:
            return f"shared, by {KUBECONFIG}"
        asked = self._run("status", quiet=True)
        lines = [line.strip() for line in (asked.stdout or "").splitlines() if line.strip()]
        return "; ".join(lines[:3]) or ("up" if asked.returncode == 0 else "down")

    def environment(self) -> dict[str, str]:
        """Return devcluster's environment: with the user's own cluster, though the shell may not say it."""
        given = self.stack.given_kubeconfig
        own = {} if given is None else {KUBECONFIG: str(given), CONTEXT: self.stack.given_context}
        return {**os.environ, **own}

    def _devcluster(self, command: str) -> None:
        ended = self._run(command).returncode
        if ended != 0:
            raise DevstackError(
                f"`python -m devcluster {command}` ended with status {ended}; what it says is above"
            )

    def _run(self, command: str, *, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "devcluster", command],
            cwd=self.stack.repo,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
            text=True,
            check=False,
        )

    @property
    def _state(self) -> Path:
        return self.stack.repo / ".dev" / "cluster"
