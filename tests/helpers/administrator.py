"""The cluster as its administrator sees it, beside the product, in the test's own process.

A `kubectl` that is started costs a tenth of a second of processor time, which tests that look again and again
take from what they wait for.
"""

import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config
from kubernetes.stream import stream
from kubernetes.stream.ws_client import ERROR_CHANNEL, STDERR_CHANNEL, STDOUT_CHANNEL

from clusters.execution import PROTOCOL

_COMMAND_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 60.0
_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects that live in namespaces and can be listed."""

    name: str
    resource: str
    """As kubectl names it: `pods`, and with its group where that is not the core's, `jobs.batch`."""
    path: str
    """Of all namespaces: `/apis/batch/v1/jobs`."""

    def below(self, namespace: str) -> str:
        """The path of those in a namespace; an empty one stands for all."""
        if not namespace:
            return self.path
        before, _, plural = self.path.rpartition("/")
        return f"{before}/namespaces/{namespace}/{plural}"


class CommandError(AssertionError):
    """A command in a pod failed, or could not be run; `said` is what it printed until then."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


@dataclass(frozen=True)
class Administrator:
    """Somebody with all rights. Every method waits for its answer, and fails the test when there is none."""

    kubeconfig: Path

    def objects(self, namespace: str, kinds: str, labels: str = "") -> list[dict[str, Any]]:
        """Return live objects of kinds such as `pods,jobs`; an empty namespace stands for all."""
        known = {kind.resource.partition(".")[0]: kind for kind in reversed(self._kinds)}
        return [each for plural in kinds.split(",") for each in self._list(known[plural], namespace, labels)]

    def everything(self, namespace: str, without: Set[str]) -> list[dict[str, Any]]:
        """Return all objects of a namespace that can be listed, and itself; none when it is gone.

        `without`: kinds that are left out, as `Kind.resource`. The kinds are those of this moment.
        """
        kinds = [kind for kind in self._discovered() if kind.resource not in without]
        itself = self._items("/api/v1/namespaces", fieldSelector=f"metadata.name={namespace}")
        return [each for kind in kinds for each in self._list(kind, namespace)] + [
            {"kind": "Namespace", **each} for each in itself
        ]

    def close(self) -> None:
        """Close the connections; it may be asked again."""
        self._client.rest_client.pool_manager.clear()

    def namespaces(self, labels: str = "") -> list[str]:
        """The names of the namespaces with these labels, those that are being deleted included."""
        return [each["metadata"]["name"] for each in self._items("/api/v1/namespaces", labelSelector=labels)]

    def volumes(self) -> list[dict[str, Any]]:
        """All persistent volumes."""
        return self._items("/api/v1/persistentvolumes")

    def run_in(
        self, namespace: str, where: str, *command: str, container: str = "", check: bool = True
    ) -> str:
        """Run a command in a pod and return what it prints, without white space around it.

        `where`: a pod, or `deploy/api` or `sts/db` for one of its pods, a ready one if there is one. Unless
        `check`, a command that fails, or that cannot be run, returns what it printed until then.
        """
        try:
            pod = self._pod_of(namespace, where)
            return self._run(pod, container or pod["spec"]["containers"][0]["name"], command)
        except CommandError as error:
            if check:
                raise
            return error.said

    def _run(self, pod: dict[str, Any], container: str, command: Sequence[str]) -> str:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        # Not the one client of all threads: `stream` changes the client while it asks.
        client = ApiClient(self._client.configuration)
        client.set_default_header("sec-websocket-protocol", PROTOCOL)
        pods = CoreV1Api(client)
        try:
            running = stream(
                pods.connect_get_namespaced_pod_exec,
                name,
                namespace,
                container=container,
                command=list(command),
                stdout=True,
                stderr=True,
                binary=True,
                _preload_content=False,
            )
        except ApiException as error:
            raise CommandError(f"{command} cannot be run in {name}: {error}") from error
        try:
            running.run_forever(timeout=_COMMAND_SECONDS)
        finally:
            # `running.close` leaves the socket open when the other side has said that it closes.
            running.sock.shutdown()
        if running.is_open():
            raise CommandError(f"{command} runs for more than {_COMMAND_SECONDS:g} s in {name}")
        said, errors, status = (
            running.read_channel(each).decode(errors="replace").strip()
            for each in (STDOUT_CHANNEL, STDERR_CHANNEL, ERROR_CHANNEL)
        )
        if not status or json.loads(status)["status"] != "Success":
            raise CommandError(f"{command} in {name}: {errors} {status or 'The connection was cut.'}", said)
        return str(said)

    def _pod_of(self, namespace: str, where: str) -> dict[str, Any]:
        if "/" in where:
            pods = [each for each in self._pods_of(namespace, where) if _stays(each)]
        else:
            path = f"/api/v1/namespaces/{namespace}/pods"
            pods = self._items(path, fieldSelector=f"metadata.name={where}")
        if not pods:
            raise CommandError(f"there is no pod of {where} in {namespace}")
        return max(pods, key=_is_ready)

    def _pods_of(self, namespace: str, workload: str) -> list[dict[str, Any]]:
        short, _, name = workload.partition("/")
        kinds = {"deploy": "deployments", "sts": "statefulsets"}
        found = self.objects(namespace, kinds[short])
        selectors = [each["spec"]["selector"] for each in found if each["metadata"]["name"] == name]
        labels = [f"{key}={value}" for each in selectors for key, value in each["matchLabels"].items()]
        return self.objects(namespace, "pods", ",".join(labels)) if labels else []

    @cached_property
    def _client(self) -> ApiClient:
        return new_client_from_config(config_file=str(self.kubeconfig))

    @cached_property
    def _kinds(self) -> list[Kind]:
        return list(self._discovered())

    def _discovered(self) -> Iterator[Kind]:
        for root in ("/api", "/apis"):
            for group in self._items(root, accept=_DISCOVERY):
                name = group["metadata"].get("name", "")
                # The first version is the one that the cluster prefers.
                version = group["versions"][0]
                prefix = "/".join(part for part in (root, name, version["version"]) if part)
                for each in version["resources"]:
                    if each["scope"] == "Namespaced" and "list" in each["verbs"]:
                        plural = each["resource"]
                        resource = f"{plural}.{name}" if name else plural
                        yield Kind(each["responseKind"]["kind"], resource, f"{prefix}/{plural}")

    def _list(self, kind: Kind, namespace: str, labels: str = "") -> list[dict[str, Any]]:
        found = self._items(kind.below(namespace), labelSelector=labels)
        # Within a list, an object does not say what it is.
        return [{"kind": kind.name, **each} for each in found]

    def _items(self, path: str, *, accept: str = "application/json", **query: str) -> list[dict[str, Any]]:
        client = self._client
        headers: dict[str, str] = {"Accept": accept}
        url = client.configuration.host + path
        client.update_params_for_auth(headers, [], ["BearerToken"], url, "GET", None)
        answer = client.rest_client.pool_manager.request(
            "GET", url, fields=query, headers=headers, timeout=_ANSWER_SECONDS
        )
        if answer.status == HTTPStatus.NOT_FOUND:
            # A kind that another test has taken away since it was discovered.
            return []
        assert answer.status == HTTPStatus.OK, f"GET {path}: {answer.status} {answer.data!r}"
        items: list[dict[str, Any]] = json.loads(answer.data)["items"]
        return items


def _stays(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
