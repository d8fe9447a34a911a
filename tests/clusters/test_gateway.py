"""Writing and reading on the real cluster, with the worker's own rights."""

import secrets
from contextlib import AsyncExitStack

import pytest

from clusters.connection import APPLY, Call
from clusters.errors import (
    AlreadyExists,
    Conflict,
    Fenced,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    NotServed,
    PreconditionFailed,
    QuotaExceeded,
)
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef
from tests.clusters.conftest import Environment, make_environment
from tests.helpers.waiting import eventually_async
from workflows.domain.failures import Blocker
from workflows.domain.json_reading import at, mapping, strings, text
from workflows.domain.names import ENVIRONMENT, FENCE, FIELD_MANAGER, INSTALLATION

pytestmark = pytest.mark.cluster
HOLD = "example.com/hold"


class TestApply:
    async def test_creates_then_updates_and_removes_what_is_left_out(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        first = await perdure.apply(environment.config_map("a", one="1", two="2"))
        assert first.created
        assert first.uid
        second = await perdure.apply(environment.config_map("a", two="3"))
        assert not second.created
        assert second.uid == first.uid
        assert second.resource_version != first.resource_version
        live = await perdure.get(first.ref)
        assert live is not None
        assert mapping(live, "data") == {"two": "3"}
        assert text(live, "metadata", "managedFields", 0, "manager") == FIELD_MANAGER

    async def test_same_again_changes_nothing(self, perdure: Cluster, environment: Environment) -> None:
        versions = {
            (await perdure.apply(environment.config_map("a", one="1"))).resource_version for _ in range(2)
        }
        assert len(versions) == 1

    async def test_conflict_names_the_other_manager(
        self, perdure: Cluster, admin: Cluster, environment: Environment
    ) -> None:
        await admin.create(environment.config_map("a", one="theirs"))
        # A create counts as an update of our own name: take it over as another manager would hold it.
        body = environment.config_map("a", one="helm's")
        await apply_as(admin, environment, body, "helm")
        with pytest.raises(Conflict) as caught:
            await perdure.apply(environment.config_map("a", one="ours"), force=False)
        assert "helm" in caught.value.managers
        assert caught.value.fields == (".data.one",)
        assert not (await perdure.apply(environment.config_map("a", one="ours"))).created

    async def test_unknown_field_and_wrong_type_are_invalid(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        faults: list[tuple[Manifest, str]] = [({"dta": {"x": "y"}}, "dta"), ({"data": ["x"]}, "data")]
        for fault, path in faults:
            with pytest.raises(Invalid) as caught:
                await perdure.apply({**environment.config_map("a"), **fault})
            assert [field for field, _ in caught.value.fields] == [path]

    async def test_semantic_fault_names_its_field(self, perdure: Cluster, environment: Environment) -> None:
        claim = environment.manifest("PersistentVolumeClaim", "v1", "p", spec={"accessModes": ["Sometimes"]})
        with pytest.raises(Invalid) as caught:
            await perdure.apply(claim)
        assert "spec.accessModes" in {field for field, _ in caught.value.fields}

    async def test_kinds_that_are_not_served(self, perdure: Cluster, environment: Environment) -> None:
        with pytest.raises(NotServed):
            await perdure.apply(environment.manifest("Widget", "example.com/v1", "w"))
        with pytest.raises(Invalid):
            await perdure.apply(environment.manifest("Deployment", "apps/v1beta1", "w"))
        assert await perdure.served("Deployment")

    async def test_dry_run_stores_nothing(self, perdure: Cluster, environment: Environment) -> None:
        answered = await perdure.apply(environment.config_map("a", one="1"), dry_run=True)
        assert mapping(answered.live, "data") == {"one": "1"}
        assert await perdure.get(answered.ref) is None


async def apply_as(admin: Cluster, environment: Environment, body: Manifest, manager: str) -> None:
    """Apply under another field manager."""
    path = f"/api/v1/namespaces/{environment.name}/configmaps/a"
    params = {"fieldManager": manager, "force": "true"}
    await admin.connection.request(Call("PATCH", path, params, body, content_type=APPLY))


async def test_create_twice(perdure: Cluster, environment: Environment) -> None:
    assert (await perdure.create(environment.config_map("a"))).created
    with pytest.raises(AlreadyExists):
        await perdure.create(environment.config_map("a"))


class TestDelete:
    async def test_of_what_is_there_and_of_what_is_gone(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        made = await perdure.apply(environment.config_map("a"))
        assert await perdure.delete(made.ref, uid=made.uid, propagation=Propagation.FOREGROUND)

        async def gone() -> bool:
            return await perdure.get(made.ref) is None

        await eventually_async(gone, "deleted")
        assert not await perdure.delete(made.ref, uid=made.uid, propagation=Propagation.BACKGROUND)

    async def test_of_another_object_of_the_same_name(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        made = await perdure.apply(environment.config_map("a"))
        with pytest.raises(PreconditionFailed):
            await perdure.delete(made.ref, uid="another", propagation=Propagation.BACKGROUND)
        await perdure.apply(environment.config_map("a", changed="yes"))
        with pytest.raises(PreconditionFailed):
            await perdure.delete(
                made.ref,
                uid=made.uid,
                resource_version=made.resource_version,
                propagation=Propagation.BACKGROUND,
            )
        assert await perdure.get(made.ref) is not None

    async def test_of_what_is_on_its_way_out(self, perdure: Cluster, environment: Environment) -> None:
        made = await perdure.apply(held(environment, "a"))
        for _ in range(2):
            assert await perdure.delete(made.ref, uid=made.uid, propagation=Propagation.BACKGROUND)
        await perdure.release_finalizers(made.ref, uid=made.uid, finalizers=[HOLD], fence=environment.fence)
        assert await perdure.get(made.ref) is None
        await perdure.release_finalizers(made.ref, uid=made.uid, finalizers=[HOLD], fence=environment.fence)

    async def test_finalizers_of_another_object_stay(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        made = await perdure.apply(held(environment, "a"))
        with pytest.raises(PreconditionFailed):
            await perdure.release_finalizers(made.ref, uid="another", finalizers=[HOLD])
        await perdure.release_finalizers(made.ref, uid=made.uid, finalizers=[HOLD], fence=environment.fence)
        live = await perdure.get(made.ref)
        assert live is not None
        assert strings(live, "metadata", "finalizers") == ()


def held(environment: Environment, name: str) -> Manifest:
    """Return a ConfigMap with a foreign finalizer."""
    manifest = environment.config_map(name)
    return {**manifest, "metadata": {**mapping(manifest, "metadata"), "finalizers": [HOLD]}}


class TestReading:
    async def test_list_by_label_and_field(self, perdure: Cluster, environment: Environment) -> None:
        for name in ("a", "b"):
            await perdure.apply(environment.config_map(name))
        found = await perdure.list("ConfigMap", environment.name, labels={"app.kubernetes.io/name": "b"})
        assert [text(item, "metadata", "name") for item in found.items] == ["b"]
        assert {(item["kind"], item["apiVersion"]) for item in found.items} == {("ConfigMap", "v1")}
        found = await perdure.list("ConfigMap", environment.name, fields={"metadata.name": "a"})
        assert [text(item, "metadata", "name") for item in found.items] == ["a"]
        assert len((await perdure.list("ConfigMap", environment.name, limit=1)).items) == 1

    async def test_inventory_is_all_that_is_ours(self, perdure: Cluster, environment: Environment) -> None:
        await perdure.apply(environment.config_map("a"))
        secret = await perdure.apply(environment.manifest("Secret", "v1", "s", stringData={"k": "v"}))
        found = await perdure.inventory(environment.name)
        assert {"ConfigMap/a", "Secret/s", "RoleBinding/perdure"} <= {one.title for one in found}
        assert secret.uid in {one.uid for one in found}
        ours = await perdure.inventory(environment.name, labels={"app.kubernetes.io/name": "a"})
        assert [one.title for one in ours] == ["ConfigMap/a"]

    async def test_namespace_that_does_not_exist(self, perdure: Cluster) -> None:
        assert await perdure.get(ObjectRef("ConfigMap", "a", "t-nowhere")) is None
        assert await perdure.inventory("t-nowhere") == ()
        assert await perdure.blockers("t-nowhere") == ()
        with pytest.raises(NotFound):
            await perdure.list("ConfigMap", "t-nowhere")

    async def test_version_and_ping(self, perdure: Cluster) -> None:
        await perdure.ping()
        assert (await perdure.version()).startswith("v1.")


class TestRights:
    async def test_secrets_of_the_system_cannot_be_read(self, perdure: Cluster) -> None:
        for read in (
            perdure.get(ObjectRef("Secret", "any", "kube-system")),
            perdure.list("Secret", "kube-system"),
        ):
            with pytest.raises(Forbidden) as caught:
                await read
            assert type(caught.value) is Forbidden

    async def test_allowed_says_what_holds(self, perdure: Cluster, environment: Environment) -> None:
        assert await perdure.allowed(environment.name, "create", "Pod", "exec")
        assert not await perdure.allowed("kube-system", "get", "Secret")
        assert not await perdure.allowed(None, "list", "Secret")

    async def test_namespace_of_others_is_never_written_to(self, perdure: Cluster, admin: Cluster) -> None:
        name = f"t-{secrets.token_hex(5)}"
        labels: Manifest = {INSTALLATION: "tests", ENVIRONMENT: "x"}
        manifest: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await admin.apply(manifest)
        ref = ObjectRef("Namespace", name)
        taken: Manifest = {
            **manifest,
            "metadata": {"name": name, "labels": labels, "annotations": {FENCE: "1"}},
        }
        try:
            with pytest.raises(Forbidden):
                await perdure.apply(taken)
            with pytest.raises(Forbidden):
                await perdure.delete(ref, propagation=Propagation.BACKGROUND)
            with pytest.raises(Forbidden):
                await perdure.apply(Environment(name, perdure).config_map("a"))
        finally:
            await admin.delete(ref, propagation=Propagation.BACKGROUND)


class TestFence:
    async def test_late_write_is_refused_by_the_policy(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        assert await perdure.fence_enforced(environment.name)
        environment.fence = 4
        with pytest.raises(Fenced) as caught:
            await perdure.apply(environment.config_map("a"))
        assert (caught.value.ours, caught.value.namespace) == (4, 5)
        environment.fence = 6
        assert (await perdure.apply(environment.config_map("a"))).created

    async def test_namespace_fence_never_goes_back(self, perdure: Cluster, environment: Environment) -> None:
        live = await perdure.get(ObjectRef("Namespace", environment.name))
        assert live is not None
        metadata: Manifest = {
            "name": environment.name,
            "labels": {key: mapping(live, "metadata", "labels")[key] for key in (INSTALLATION, ENVIRONMENT)},
        }

        def namespace(fence: int) -> Manifest:
            annotated: Manifest = {**metadata, "annotations": {FENCE: str(fence)}}
            return {"apiVersion": "v1", "kind": "Namespace", "metadata": annotated}

        await perdure.apply(namespace(9))
        with pytest.raises(Fenced):
            await perdure.apply(namespace(8))

    async def test_read_comes_first_where_the_policy_does_not_match(
        self, admin: Cluster, environment: Environment
    ) -> None:
        assert not await admin.fence_enforced(environment.name)
        environment.fence = 4
        with pytest.raises(Fenced):
            await admin.apply(environment.config_map("a"))


async def test_quota(perdure: Cluster, environment: Environment) -> None:
    quota = environment.manifest("ResourceQuota", "v1", "plan", spec={"hard": {"count/secrets": "0"}})
    made = await perdure.apply(quota)

    async def refused() -> QuotaExceeded | None:
        # Admission hears of a quota later than whoever reads its status.
        live = await perdure.get(made.ref)
        if live is None or at(live, "status", "hard") != {"count/secrets": "0"}:
            return None
        try:
            await perdure.apply(
                environment.manifest("Secret", "v1", f"s-{secrets.token_hex(4)}", stringData={"k": "v"})
            )
        except QuotaExceeded as error:
            return error
        return None

    caught = await eventually_async(refused, "the quota is kept to")
    assert caught.quota == "plan"
    assert caught.limited == "count/secrets=0"


class TestBlockers:
    async def test_objects_that_hold_are_named_before_the_namespace_goes(
        self, perdure: Cluster, environment: Environment
    ) -> None:
        made = await perdure.apply(held(environment, "a"))
        assert await perdure.blockers(environment.name) == ()
        await perdure.delete(made.ref, uid=made.uid, propagation=Propagation.BACKGROUND)
        assert await perdure.blockers(environment.name) == (
            Blocker(object="ConfigMap/a", finalizers=(HOLD,)),
        )
        await perdure.release_finalizers(made.ref, uid=made.uid, finalizers=[HOLD], fence=environment.fence)

    async def test_held_namespace(self, perdure: Cluster, admin: Cluster) -> None:
        async with AsyncExitStack() as stack:
            environment = await make_environment(stack, perdure, admin)
            made = await perdure.apply(held(environment, "a"))
            stack.push_async_callback(admin.release_finalizers, made.ref, uid=made.uid, finalizers=[HOLD])
            ref = ObjectRef("Namespace", environment.name)
            assert await perdure.delete(ref, propagation=Propagation.BACKGROUND)

            async def named() -> bool:
                return any(HOLD in blocker.finalizers for blocker in await perdure.blockers(environment.name))

            await eventually_async(named, "the finalizer is reported", within=60)
            everything = await admin.blockers(environment.name)
            assert Blocker(object="ConfigMap/a", finalizers=(HOLD,)) in everything
            assert await perdure.delete(ref, propagation=Propagation.BACKGROUND)

            async def no_rights() -> bool:
                return not await perdure.allowed(environment.name, "list", "ConfigMap")

            # With its RoleBinding gone too, the cluster's own summary is what is left to say.
            await eventually_async(no_rights, "the RoleBinding is gone")
            summary = Blocker(object="ConfigMap (1 left)", finalizers=(HOLD,))

            async def summarised() -> bool:
                return summary in await perdure.blockers(environment.name)

            await eventually_async(summarised, "the summary is reported")
            with pytest.raises(NamespaceTerminating):
                await perdure.apply(environment.config_map("b"))
