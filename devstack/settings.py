"""Where a stack keeps its state and which ports it takes: the one module here that reads the environment."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack import envfile
from devstack.errors import DevstackError

STATE: Final = "PERDURE_DEV_STATE"
API_PORT: Final = "PERDURE_DEV_API_PORT"
TEMPORAL_PORT: Final = "PERDURE_DEV_TEMPORAL_PORT"
TEMPORAL_UI_PORT: Final = "PERDURE_DEV_TEMPORAL_UI_PORT"
KUBECONFIG: Final = "PERDURE_KUBECONFIG"
CONTEXT: Final = "PERDURE_KUBE_CONTEXT"
GIVEN_KUBECONFIG: Final = "PERDURE_DEV_GIVEN_KUBECONFIG"
"""In the stack's own settings: the cluster that its state is about; empty: the one that devcluster made."""
GIVEN_CONTEXT: Final = "PERDURE_DEV_GIVEN_CONTEXT"

_DEFAULT_PORTS: Final = {API_PORT: 8080, TEMPORAL_PORT: 7233, TEMPORAL_UI_PORT: 8233}
# A Unix socket's path has room for 107 bytes, and supervisor binds to the path with a suffix first.
_MAX_SOCKET_PATH: Final = 90


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack: a checkout, a state directory, three ports and the cluster it works on."""

    repo: Path
    state: Path
    api_port: int = _DEFAULT_PORTS[API_PORT]
    temporal_port: int = _DEFAULT_PORTS[TEMPORAL_PORT]
    temporal_ui_port: int = _DEFAULT_PORTS[TEMPORAL_UI_PORT]
    given_kubeconfig: Path | None = None
    """A cluster of the user's choice, `PERDURE_KUBECONFIG`; None: the one that devcluster makes."""
    given_context: str = ""
    """Its context, `PERDURE_KUBE_CONTEXT`; empty: the kubeconfig's current one."""

    @property
    def run(self) -> Path:
        """Directory of the pid files."""
        return self.state / "run"

    @property
    def log(self) -> Path:
        """Directory of the logs, one per program."""
        return self.state / "log"

    def pid_file(self, program: str) -> Path:
        """Where a program's process id stands."""
        return self.run / f"{program}.pid"

    @property
    def user_env(self) -> Path:
        """What a user's shell and the command line need."""
        return self.state / "env"

    @property
    def stack_env(self) -> Path:
        """What the stack's own processes need."""
        return self.state / "stack.env"

    @property
    def api_key(self) -> Path:
        """The development key's token."""
        return self.state / "api-key"

    @property
    def master_keys(self) -> Path:
        """The key file that wraps data keys."""
        return self.state / "master-keys"

    @property
    def seal_key(self) -> Path:
        """The private key that opens what is sealed for the cluster."""
        return self.state / "seal-key"

    @property
    def socket(self) -> Path:
        """Where the process runner listens: below the state directory, or where paths are short."""
        below = self.run / "supervisor.sock"
        if len(os.fsencode(below)) <= _MAX_SOCKET_PATH:
            return below
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"perdure-{os.getuid()}-{digest}" / "supervisor.sock"

    @property
    def database_url(self) -> str:
        """The SQLite file of this stack."""
        return f"sqlite+aiosqlite:///{self.state / 'perdure.db'}"

    @property
    def api_url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def temporal_address(self) -> str:
        """Where Temporal's frontend answers, `host:port`."""
        return f"127.0.0.1:{self.temporal_port}"

    @property
    def temporal_ui_url(self) -> str:
        """Where Temporal's UI answers."""
        return f"http://127.0.0.1:{self.temporal_ui_port}"


def read(environ: Mapping[str, str] | None = None) -> Stack:
    """Return the stack that the environment describes, on the cluster that its state is about.

    Raises DevstackError for a port that is none, and for another cluster than the state's.
    """
    environ = os.environ if environ is None else environ
    repo = Path(__file__).resolve().parent.parent
    state = Path(environ.get(STATE) or repo / ".dev").expanduser().absolute()
    kubeconfig, context = _cluster(environ, state)
    return Stack(
        repo=repo,
        state=state,
        api_port=_port(environ, API_PORT),
        temporal_port=_port(environ, TEMPORAL_PORT),
        temporal_ui_port=_port(environ, TEMPORAL_UI_PORT),
        given_kubeconfig=kubeconfig,
        given_context=context,
    )


def inherited(stack: Stack, python: str) -> dict[str, str]:
    """Return the environment of the process runner and of every program below it.

    What the user exported stays, so that any setting of worker and API can be tried without a file.
    """
    return {
        **os.environ,
        STATE: str(stack.state),
        "PERDURE_DEV_PYTHON": python,
        "PERDURE_DEV_SOCKET": str(stack.socket),
    }


def _cluster(environ: Mapping[str, str], state: Path) -> tuple[Path | None, str]:
    """Return the kubeconfig and context of the user's own cluster; a shell that names none means the state's.

    So `down` in another shell does not throw away what the stack knows of environments that go on running.
    """
    named = environ.get(KUBECONFIG)
    given = Path(named).expanduser().absolute() if named else None
    known = envfile.read(state / "stack.env")
    # Written before this was noted, or never.
    if GIVEN_KUBECONFIG not in known:
        return given, environ.get(CONTEXT, "")
    kept = Path(known[GIVEN_KUBECONFIG]) if known[GIVEN_KUBECONFIG] else None
    kept_context = known.get(GIVEN_CONTEXT, "")
    if given is None:
        return kept, kept_context
    context = environ.get(CONTEXT, "")
    if (given, context) != (kept, kept_context):
        own = "the cluster that was made here" if kept is None else f"{kept} {kept_context}".rstrip()
        raise DevstackError(
            f"{KUBECONFIG}={given} {context}".rstrip() + f": the state in {state} is about {own}. "
            f"Unset {KUBECONFIG}, or keep a second stack's state elsewhere with {STATE}"
        )
    return kept, kept_context


def _port(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name)
    if not text:
        return _DEFAULT_PORTS[name]
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise DevstackError(f"{name}={text}: a port is a number from 1 to 65535")
    return int(text)
