"""The one HTTP client of the command line: a module for each subject, over one transport.

A new route gets a method in its subject's module; a new subject gets a module and a place among the bases.
"""

from cli.client.access import AccessCalls
from cli.client.blueprints import BlueprintCalls
from cli.client.environments import EnvironmentCalls
from cli.client.installation import InstallationCalls
from cli.client.lifecycle import LifecycleCalls
from cli.client.operations import OperationCalls
from cli.client.readings import ReadingCalls
from cli.client.registry import RegistryCalls
from cli.client.replays import ReplayCalls
from cli.client.seeds import SeedCalls
from cli.client.shares import ShareCalls
from cli.client.snapshots import SnapshotCalls
from cli.client.streams import StreamCalls
from cli.client.stubs import StubCalls
from cli.client.templates import TemplateCalls
from cli.client.transport import Answer, Backoff

__all__ = ["Answer", "ApiClient", "Backoff"]


class ApiClient(
    EnvironmentCalls,
    LifecycleCalls,
    BlueprintCalls,
    OperationCalls,
    StreamCalls,
    ReadingCalls,
    ShareCalls,
    RegistryCalls,
    AccessCalls,
    TemplateCalls,
    SeedCalls,
    ReplayCalls,
    SnapshotCalls,
    StubCalls,
    InstallationCalls,
):
    """Requests to one API as one key. Use it as a context manager; `trace` gets a line for each request."""
