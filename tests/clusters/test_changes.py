"""What update, stop and their undo do in a real cluster: pods away, objects away, room for a replacement."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue
from temporalio.exceptions import ApplicationError

from activities._replacement import make_way
from activities.provision import ClusterProvision
from activities.secrets import Opener, new_private_key
from activities.stop import ClusterStop
from activities.storage.objects import ObjectStore
from activities.update import ClusterUpdate
from clusters.gateway import Cluster
from clusters.objects import Manifest, ObjectRef, ref_of
from tests.clusters.conftest import IMAGE, Environment
from tests.helpers.attempts import handed_out
from tests.helpers.waiting import eventually_async
from workflows.contracts.operation import PreImage
from workflows.contracts.provision import DeployService, Replacement, Undo
from workflows.contracts.stop import StopService
from workflows.contracts.update import RemoveService
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.environment import EnvironmentContext, GuardRails, ObjectName, Overrides
from workflows.domain.failures import Failure, FailureKind
from workflows.domain.json_reading import at, text
from workflows.domain.names import ENVIRONMENT, NAME
from workflows.domain.operations import Cleanup

pytestmark = pytest.mark.cluster

STOPPED = Overrides(stopped=True)
HOLD = "example.com/hold"


def context_of(environment: Environment, *, fence: int = 5, revision: int = 2) -> EnvironmentContext:
    """Return the context of an operation on a test's namespace."""
    return EnvironmentContext(
        environment_id=environment.name,
        environment_name="shop",
        organization_id="org_1",
        installation_id="tests",
        operation_id="op_1",
        cluster="local",
        namespace=environment.name,
        revision=revision,
        fence=fence,
    )


def shop(**fields: JsonValue) -> Blueprint:
    """Return a service `api` that ends at once when it is told to, with a file and a port."""
    files: JsonValue = {"name": "conf", "mountPath": "/etc/x", "type": "files", "files": {"a": "1"}}
    service: dict[str, JsonValue] = {
        "image": IMAGE,
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
        "ports": [{"containerPort": 80}],
        "volumes": [files],
        **fields,
    }
    return parse_blueprint({"name": "shop", "services": {"api": service}})


def stateful(size: str) -> Blueprint:
    """Return the service with a volume."""
    return shop(volumes=[{"name": "data", "mountPath": "/data", "type": "pvc", "size": size}])


async def put(
    cluster: Cluster, context: EnvironmentContext, blueprint: Blueprint, overrides: Overrides | None = None
) -> list[Manifest]:
    """Apply the service and return its live objects."""
    rendered = manifests.service(context, blueprint, "api", overrides or Overrides())
    return [(await cluster.apply(each)).live for each in rendered]


async def pods(cluster: Cluster, environment: Environment) -> list[Manifest]:
    """Return the pods of the service."""
    labels = {ENVIRONMENT: environment.name, NAME: "api"}
    return list((await cluster.list("Pod", environment.name, labels=labels)).items)


async def with_a_pod(cluster: Cluster, environment: Environment) -> list[Manifest]:
    """Apply the service and wait until a pod of it runs."""
    for each in manifests.guard_rails(context_of(environment), GuardRails(), shop()):
        if each["kind"] == "ServiceAccount":  # the pods run as that
            await cluster.apply(each)
    made = await put(cluster, context_of(environment), shop())

    async def runs() -> bool:
        return any(text(pod, "status", "phase") == "Running" for pod in await pods(cluster, environment))

    await eventually_async(runs, "a pod runs", within=60)
    return made


def removal(environment: Environment, *names: str, fence: int = 5, seconds: float = 60) -> RemoveService:
    """Return the request to remove these objects (`Kind/name`) of a service that leaves."""
    parts = [name.split("/") for name in names]
    return RemoveService(
        context=context_of(environment, fence=fence),
        service="api",
        objects=tuple(ObjectName(kind=kind, name=name) for kind, name in parts),
        leaves=True,
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
    )


def reason_of(error: ApplicationError) -> Failure:
    """Return the failure that an activity ended with."""
    return Failure.model_validate(error.details[0])


class TestStop:
    def request(self, environment: Environment, seconds: float = 60) -> StopService:
        context = context_of(environment)
        return StopService(
            context=context,
            service="api",
            manifests=manifests.service(context, shop(), "api", STOPPED),
            deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        )

    async def test_returns_when_the_pods_are_gone_and_keeps_the_objects(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        made = await with_a_pod(perdure, environment)
        request = self.request(environment)
        for _ in range(2):
            await handed_out().run(ClusterStop(perdure).stop_service, request)
            assert await pods(perdure, environment) == []
        for each in made:
            live = await perdure.get(ref_of(each))
            assert live is not None
            assert text(live, "metadata", "uid") == text(each, "metadata", "uid")

    async def test_names_the_pods_that_do_not_end(self, perdure: Cluster, environment: Environment) -> None:
        await with_a_pod(perdure, environment)
        with pytest.raises(ApplicationError) as raised:
            await handed_out().run(ClusterStop(perdure).stop_service, self.request(environment, seconds=0))
        reason = reason_of(raised.value)
        assert reason.kind is FailureKind.TIMEOUT
        assert raised.value.non_retryable
        assert [each.object.split("/")[0] for each in reason.blocked_by] == ["Pod"]


class TestRemove:
    async def test_removes_what_is_named_and_jobs_of_the_service_and_waits_for_pods(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        await with_a_pod(perdure, environment)
        job = manifests.shell_job(context_of(environment), shop().service("api"), "true", "key")
        await perdure.create(job)
        await perdure.apply(environment.config_map("other"))
        request = removal(environment, "Deployment/api", "Service/api")
        for _ in range(2):
            await handed_out().run(ClusterUpdate(perdure).remove_service, request)
        assert await pods(perdure, environment) == []
        for ref in (environment.ref("Deployment", "api"), environment.ref("Service", "api"), ref_of(job)):
            assert await perdure.get(ref) is None
        for name in ("api", "other"):
            assert await perdure.get(environment.ref("ConfigMap", name)) is not None

    async def test_leaves_what_is_not_this_environments(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        await perdure.apply(environment.config_map("theirs"))
        with pytest.raises(ApplicationError) as raised:
            await handed_out().run(
                ClusterUpdate(perdure).remove_service, removal(environment, "ConfigMap/theirs")
            )
        assert reason_of(raised.value).kind is FailureKind.CONFLICT
        assert await perdure.get(environment.ref("ConfigMap", "theirs")) is not None

    async def test_leaves_what_a_later_operation_put_back(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        await put(perdure, context_of(environment, fence=6), shop(), STOPPED)
        with pytest.raises(ApplicationError) as raised:
            await handed_out().run(
                ClusterUpdate(perdure).remove_service, removal(environment, "Deployment/api", fence=5)
            )
        assert reason_of(raised.value).kind is FailureKind.CONFLICT
        assert await perdure.get(environment.ref("Deployment", "api")) is not None
        await handed_out().run(
            ClusterUpdate(perdure).remove_service, removal(environment, "Deployment/api", fence=6)
        )
        assert await perdure.get(environment.ref("Deployment", "api")) is None

    async def test_names_what_holds_an_object(
        self, perdure: Cluster, admin: Cluster, environment: Environment
    ) -> None:
        rendered = manifests.service(context_of(environment), shop(), "api", STOPPED)
        config = next(each for each in rendered if each["kind"] == "ConfigMap")
        metadata = config["metadata"]
        assert isinstance(metadata, dict)
        await admin.create({**config, "metadata": {**metadata, "finalizers": [HOLD]}})
        with pytest.raises(ApplicationError) as raised:
            await handed_out().run(
                ClusterUpdate(perdure).remove_service, removal(environment, "ConfigMap/api", seconds=0)
            )
        reason = reason_of(raised.value)
        assert reason.kind is FailureKind.TIMEOUT
        assert [each.object for each in reason.blocked_by] == ["ConfigMap/api"]
        assert HOLD in reason.blocked_by[0].finalizers
        live = await perdure.get(environment.ref("ConfigMap", "api"))
        assert live is not None
        await admin.release_finalizers(
            environment.ref("ConfigMap", "api"),
            uid=text(live, "metadata", "uid"),
            finalizers=(HOLD,),
            fence=environment.fence,
        )


class TestMakeWay:
    def request(
        self,
        environment: Environment,
        blueprint: Blueprint,
        replacement: Replacement | None,
        revision: int = 3,
    ) -> DeployService:
        context = context_of(environment, revision=revision)
        return DeployService(
            context=context,
            service="api",
            manifests=manifests.service(context, blueprint, "api", STOPPED),
            deadline=datetime.now(UTC) + timedelta(seconds=60),
            replacement=replacement,
        )

    async def make_way(self, perdure: Cluster, request: DeployService) -> None:
        await make_way(perdure, request, request.deadline)

    async def claim(self, perdure: Cluster, environment: Environment, name: str, size: str) -> ObjectRef:
        """Make a claim as the controller of a StatefulSet names and labels it."""
        rendered = manifests.service(context_of(environment), stateful(size), "api", STOPPED)[-1]
        templates = at(rendered, "spec", "volumeClaimTemplates")
        assert isinstance(templates, list)
        template = templates[0]
        assert isinstance(template, dict)
        made: Manifest = {
            **template,
            "metadata": {
                "name": name,
                "namespace": environment.name,
                "labels": at(template, "metadata", "labels"),
                "annotations": at(rendered, "metadata", "annotations"),
            },
        }
        return (await perdure.apply(made)).ref

    async def test_the_workload_of_another_revision_goes_and_the_new_one_stays(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        old = (await put(perdure, context_of(environment, revision=2), shop(), STOPPED))[-1]
        request = self.request(environment, shop(), Replacement())
        await self.make_way(perdure, request)
        assert await perdure.get(ref_of(old)) is None
        new = (await put(perdure, request.context, shop(), STOPPED))[-1]
        await self.make_way(perdure, request)
        live = await perdure.get(ref_of(new))
        assert live is not None
        assert text(live, "metadata", "uid") == text(new, "metadata", "uid")

    async def test_an_undo_replaces_what_the_operation_made_and_nothing_else(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        made = (await put(perdure, context_of(environment, revision=3), shop(), STOPPED))[-1]
        other = self.request(environment, shop(), Replacement(revision=4), revision=2)
        await self.make_way(perdure, other)
        assert await perdure.get(ref_of(made)) is not None
        await self.make_way(perdure, self.request(environment, shop(), Replacement(revision=3), revision=2))
        assert await perdure.get(ref_of(made)) is None

    async def test_without_a_replacement_nothing_goes(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        old = (await put(perdure, context_of(environment, revision=2), shop(), STOPPED))[-1]
        await self.make_way(perdure, self.request(environment, shop(), None))
        assert await perdure.get(ref_of(old)) is not None

    async def test_claims_go_only_when_they_do_not_fit_and_are_said_to_be_lost(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        claim = await self.claim(perdure, environment, "data-api-0", "1Gi")
        await self.make_way(perdure, self.request(environment, stateful("2Gi"), Replacement()))
        assert await perdure.get(claim) is not None, "nobody said that its data may be lost"
        fitting = self.request(environment, stateful("1Gi"), Replacement(volumes=("data",)))
        await self.make_way(perdure, fitting)
        assert await perdure.get(claim) is not None, "it is as it is wanted"
        other = self.request(environment, stateful("2Gi"), Replacement(volumes=("logs",)))
        await self.make_way(perdure, other)
        assert await perdure.get(claim) is not None, "another volume may be lost"
        await self.make_way(
            perdure, self.request(environment, stateful("2Gi"), Replacement(volumes=("data",)))
        )
        assert await perdure.get(claim) is None


async def test_an_undo_that_is_made_twice_leaves_alone_what_it_put_back(
    perdure: Cluster, environment: Environment, tmp_path: Path
) -> None:
    context = context_of(environment, revision=3)
    kept = (await put(perdure, context_of(environment), shop(), STOPPED))[-1]
    before = await perdure.inventory(environment.name, labels={ENVIRONMENT: environment.name})
    await handed_out().run(
        ClusterUpdate(perdure).remove_service, removal(environment, "Deployment/api", "Service/api")
    )
    made = shop().model_copy(update={"services": (shop().service("api").model_copy(update={"name": "web"}),)})
    for each in manifests.service(context, made, "web", STOPPED):
        await perdure.apply(each)
    back = context_of(environment, fence=6)
    undo = Undo(
        context=back,
        pre_image=PreImage(namespace_existed=True, objects=before, revision=2),
        restore=manifests.service(back, shop(), "api", STOPPED),
    )
    provision = ClusterProvision(perdure, Opener(new_private_key()), ObjectStore(tmp_path.as_uri()))
    uids = []
    for _ in range(2):
        assert await handed_out().run(provision.undo, undo) == Cleanup(complete=True)
        live = await perdure.get(ref_of(kept))
        assert live is not None
        uids.append(text(live, "metadata", "uid"))
    assert uids[0] == uids[1] != text(kept, "metadata", "uid")
    for kind in ("Deployment", "Service", "ConfigMap"):
        gone = await perdure.get(environment.ref(kind, "web"))
        assert gone is None or text(gone, "metadata", "deletionTimestamp")
