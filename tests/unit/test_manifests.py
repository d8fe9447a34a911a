"""What an environment is rendered to."""

import base64
from collections.abc import Iterator

import pytest
from pydantic import JsonValue

from tests.helpers.contexts import CONTEXT
from workflows.domain import manifests, names
from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.environment import EnvironmentContext, GuardRails, Overrides
from workflows.domain.json_reading import children, mapping
from workflows.domain.manifests import Manifest

LATER = CONTEXT.model_copy(update={"revision": 4, "fence": 9, "operation_id": "op_2"})
SHOP: dict[str, object] = {
    "name": "shop",
    "services": [
        {
            "name": "api",
            "image": "registry.test/shop-api:1",
            "imagePullSecrets": ["corp"],
            "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090}],
            "expose": {"path": "/v1", "port": 9090},
            "env": {
                "URL": "postgres://app:$(POSTGRES_PASSWORD)@db/$(NAME)",
                "ALL": "$(URL)?x=$$(NAME)",
                "NAME": "shop",
            },
            "dependsOn": ["db"],
            "resources": {"cpu": "250m", "limits": {"memory": "512Mi"}},
            "probes": {
                "readiness": {"http": {"path": "/healthz", "port": "http"}, "periodSeconds": 2},
                "liveness": {"tcp": {"port": 8080}},
                "startup": {"exec": {"command": ["true"]}},
            },
            "secrets": [{"name": "db-password", "envKey": "POSTGRES_PASSWORD", "value": "auto-generated"}],
            "volumes": [
                {
                    "name": "conf",
                    "mountPath": "/etc/api",
                    "type": "files",
                    "files": {"a/b.ini": "1", "a_b.ini": "2"},
                },
                {"name": "tmp", "mountPath": "/scratch", "type": "emptyDir", "size": "64Mi"},
            ],
        },
        {
            "name": "db",
            "image": "postgres:16",
            "ports": [{"containerPort": 5432}],
            "secrets": [{"name": "db-password", "envKey": "POSTGRES_PASSWORD", "value": "auto-generated"}],
            "volumes": [
                {
                    "name": "data",
                    "mountPath": "/var/lib/postgresql/data",
                    "size": "5Gi",
                    "type": "pvc",
                    "storageClass": "fast",
                }
            ],
        },
        {
            "name": "migrate",
            "kind": "job",
            "image": "registry.test/shop-api:latest",
            "command": ["migrate"],
            "dependsOn": ["db"],
            "startup": {"tolerateRestarts": 1},
        },
    ],
}


@pytest.fixture
def shop() -> Blueprint:
    return parse_blueprint(SHOP)


def changed(service: int, **fields: object) -> Blueprint:
    """The shop with fields of one service replaced."""
    services = [dict(item) for item in SHOP["services"]]  # type: ignore[attr-defined]
    services[service].update(fields)
    return parse_blueprint({**SHOP, "services": services})


def dig(value: JsonValue, *path: str | int) -> JsonValue:
    """What stands at a path; fails when there is nothing."""
    for key in path:
        value = value[key]  # type: ignore[index]
    return value


def kinds(rendered: tuple[Manifest, ...]) -> list[str]:
    """`Kind/name` of each."""
    return [f"{manifest['kind']}/{dig(manifest, 'metadata', 'name')}" for manifest in rendered]


def service(blueprint: Blueprint, name: str, **overrides: int) -> tuple[Manifest, ...]:
    return manifests.service(
        CONTEXT, blueprint, name, Overrides(replicas=overrides), {"db-password": "hmac:1"}
    )


def everything(context: EnvironmentContext, blueprint: Blueprint) -> Iterator[Manifest]:
    rails = GuardRails(quota={"pods": "9"}, ingress_namespace="edge", ingress_class="traefik")
    yield manifests.namespace(context)
    yield from manifests.guard_rails(context, rails, blueprint)
    yield manifests.secret_manifest(context, "secret-x", {"value": "x"})
    yield manifests.pull_secret_manifest(context, "registry-x", "{}")
    for item in blueprint.services:
        yield from manifests.service(context, blueprint, item.name, Overrides())
    yield from manifests.routing(context, blueprint, rails)


class TestAll:
    def test_bear_labels_and_stamps(self, shop: Blueprint) -> None:
        for manifest in everything(CONTEXT, shop):
            labels = dig(manifest, "metadata", "labels")
            assert isinstance(labels, dict)
            assert labels[names.MANAGED_BY] == "perdure"
            assert labels[names.ENVIRONMENT] == CONTEXT.environment_id
            assert labels[names.ORGANIZATION] == CONTEXT.organization_id
            assert labels[names.INSTALLATION] == CONTEXT.installation_id
            assert dig(manifest, "metadata", "annotations") == {names.REVISION: "3", names.FENCE: "7"}

    def test_differ_between_operations_in_their_stamps_only(self, shop: Blueprint) -> None:
        now, later = list(everything(CONTEXT, shop)), list(everything(LATER, shop))
        assert now != later
        assert [manifests.without_stamps(m) for m in now] == [manifests.without_stamps(m) for m in later]
        assert "perdure.dev/fence" not in str([manifests.without_stamps(m) for m in now])

    def test_are_in_the_namespace(self, shop: Blueprint) -> None:
        for manifest in everything(CONTEXT, shop):
            if manifest["kind"] != "Namespace":
                assert dig(manifest, "metadata", "namespace") == "shop-0a1b2c3d"


class TestGuardRails:
    def test_the_rights_come_first(self, shop: Blueprint) -> None:
        rendered = manifests.guard_rails(
            CONTEXT, GuardRails(quota={"pods": "5"}, ingress_namespace="edge"), shop
        )
        assert kinds(rendered) == [
            "RoleBinding/perdure",
            "ResourceQuota/environment",
            "LimitRange/environment",
            "ServiceAccount/environment",
            "NetworkPolicy/default-deny",
            "NetworkPolicy/allow-environment",
            "NetworkPolicy/allow-dns",
            "NetworkPolicy/allow-public",
            "NetworkPolicy/allow-ingress-api",
        ]
        assert dig(rendered[0], "subjects", 0, "namespace") == "perdure-system"
        assert dig(rendered[-1], "spec", "ingress", 0, "ports") == [{"protocol": "TCP", "port": 9090}]

    def test_no_quota_no_rule_for_an_ingress_that_is_not_there(self, shop: Blueprint) -> None:
        rendered = kinds(manifests.guard_rails(CONTEXT, GuardRails(), shop))
        assert "ResourceQuota/environment" not in rendered
        assert "NetworkPolicy/allow-ingress-api" not in rendered

    def test_blocked_ranges_go_to_their_own_family(self, shop: Blueprint) -> None:
        rails = GuardRails(blocked_egress=("10.0.0.0/8", "2001:db8::/32"))
        public = manifests.guard_rails(CONTEXT, rails, shop)[-1]
        blocks = [dig(public, "spec", "egress", 0, "to", n, "ipBlock") for n in range(2)]
        assert blocks[0] == {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}
        assert blocks[1] == {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10", "2001:db8::/32"]}


class TestSecrets:
    def test_one_name_is_one_secret(self, shop: Blueprint) -> None:
        assert manifests.secrets(shop) == {"secret-db-password": {"value": "db-password"}}
        assert manifests.pull_secrets(shop) == {"registry-corp": "corp"}

    def test_values_are_data(self) -> None:
        manifest = manifests.secret_manifest(CONTEXT, "secret-a", {"value": "grün"})
        assert base64.b64decode(str(dig(manifest, "data", "value"))).decode() == "grün"
        assert manifests.pull_secret_manifest(CONTEXT, "r", "{}")["type"] == "kubernetes.io/dockerconfigjson"


class TestDeployment:
    def test_comes_after_what_it_needs(self, shop: Blueprint) -> None:
        assert kinds(service(shop, "api")) == ["ConfigMap/api", "Service/api", "Deployment/api"]

    def test_environment_follows_its_references(self, shop: Blueprint) -> None:
        env = dig(service(shop, "api")[-1], "spec", "template", "spec", "containers", 0, "env")
        assert isinstance(env, list)
        assert [dig(entry, "name") for entry in env] == ["POSTGRES_PASSWORD", "NAME", "URL", "ALL"]
        assert dig(env[0], "valueFrom", "secretKeyRef") == {"name": "secret-db-password", "key": "value"}

    def test_environment_does_not_depend_on_the_order_of_writing(self) -> None:
        forwards = changed(0, env={"A": "$(B)", "B": "$(C)", "C": "$(A)", "D": "1"})
        backwards = changed(0, env={"D": "1", "C": "$(A)", "B": "$(C)", "A": "$(B)"})
        assert service(forwards, "api") == service(backwards, "api")

    def test_the_container(self, shop: Blueprint) -> None:
        container = dig(service(shop, "api")[-1], "spec", "template", "spec", "containers", 0)
        assert dig(container, "resources") == {"requests": {"cpu": "250m"}, "limits": {"memory": "512Mi"}}
        assert dig(container, "readinessProbe", "httpGet", "port") == "http"
        assert dig(container, "readinessProbe", "periodSeconds") == 2
        assert dig(container, "livenessProbe", "tcpSocket", "port") == 8080
        assert dig(container, "startupProbe", "exec", "command") == ["true"]
        assert dig(container, "ports") == [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"containerPort": 9090, "protocol": "TCP"},
        ]
        assert dig(container, "imagePullPolicy") == "IfNotPresent"

    def test_the_pod_has_no_rights(self, shop: Blueprint) -> None:
        spec = dig(service(shop, "api")[-1], "spec", "template", "spec")
        assert dig(spec, "serviceAccountName") == "environment"
        assert dig(spec, "automountServiceAccountToken") is False
        assert dig(spec, "enableServiceLinks") is False
        assert dig(spec, "imagePullSecrets") == [{"name": "registry-corp"}]

    def test_files_whose_names_meet_keep_apart(self, shop: Blueprint) -> None:
        config, *_, workload = service(shop, "api")
        data = dig(config, "data")
        assert isinstance(data, dict)
        assert sorted(str(value) for value in data.values()) == ["1", "2"]
        volumes = dig(workload, "spec", "template", "spec", "volumes")
        items = dig(volumes, 0, "configMap", "items")
        assert isinstance(items, list)
        assert {dig(item, "path"): data[str(dig(item, "key"))] for item in items} == {
            "a/b.ini": "1",
            "a_b.ini": "2",
        }
        assert dig(volumes, 1, "emptyDir") == {"sizeLimit": "64Mi"}

    def test_selectors_hold_two_labels_that_the_pods_have(self, shop: Blueprint) -> None:
        workload = service(shop, "api")[-1]
        selector = dig(workload, "spec", "selector", "matchLabels")
        assert selector == {names.INSTANCE: "shop", names.NAME: "api"}
        labels = dig(workload, "spec", "template", "metadata", "labels")
        assert isinstance(labels, dict)
        assert isinstance(selector, dict)
        assert selector.items() <= labels.items()
        assert dig(service(shop, "api")[1], "spec", "selector") == selector

    def test_a_new_secret_or_file_rolls_the_pods_of_those_who_use_it(self, shop: Blueprint) -> None:
        def template(blueprint: Blueprint, digest: str, name: str) -> JsonValue:
            rendered = manifests.service(
                CONTEXT, blueprint, name, Overrides(), {"db-password": digest, "x": digest}
            )
            return dig(rendered[-1], "spec", "template")

        other = changed(
            0, volumes=[{"name": "conf", "mountPath": "/etc/api", "type": "files", "files": {"a/b.ini": "3"}}]
        )
        assert template(shop, "1", "api") != template(shop, "2", "api")
        assert template(shop, "1", "migrate") == template(shop, "2", "migrate")
        assert dig(template(shop, "1", "api"), "metadata", "annotations") != dig(
            template(other, "1", "api"), "metadata", "annotations"
        )

    def test_what_no_probe_vouches_for_has_to_run_for_a_while(self, shop: Blueprint) -> None:
        assert dig(service(shop, "api")[-1], "spec", "minReadySeconds") == 0
        assert dig(service(shop, "db")[-1], "spec", "minReadySeconds") == 3
        live = changed(0, probes={"liveness": {"tcp": {"port": 8080}}})
        assert dig(service(live, "api")[-1], "spec", "minReadySeconds") == 3

    def test_overrides_win(self, shop: Blueprint) -> None:
        assert dig(service(shop, "api", api=5)[-1], "spec", "replicas") == 5
        assert dig(service(shop, "api", db=5)[-1], "spec", "replicas") == 1
        assert dig(service(shop, "migrate", migrate=0)[-1], "spec", "suspend") is True

    @pytest.mark.parametrize(
        ("image", "policy"),
        [
            ("redis", "Always"),
            ("localhost:5000/redis", "Always"),
            ("redis:latest", "Always"),
            ("localhost:5000/redis:7", "IfNotPresent"),
            (f"redis@sha256:{'a' * 64}", "IfNotPresent"),
        ],
    )
    def test_moving_tags_are_pulled_always(self, image: str, policy: str) -> None:
        rendered = service(changed(0, image=image), "api")
        assert dig(rendered[-1], "spec", "template", "spec", "containers", 0, "imagePullPolicy") == policy


class TestStatefulSet:
    def test_comes_with_a_headless_service(self, shop: Blueprint) -> None:
        rendered = service(shop, "db")
        assert kinds(rendered) == ["Service/db", "Service/db-headless", "StatefulSet/db"]
        assert dig(rendered[1], "spec", "clusterIP") == "None"
        assert dig(rendered[2], "spec", "serviceName") == "db-headless"
        assert dig(rendered[2], "spec", "podManagementPolicy") == "Parallel"

    def test_claims_are_the_same_for_every_operation(self, shop: Blueprint) -> None:
        claims = [
            dig(manifests.service(context, shop, "db", Overrides())[-1], "spec", "volumeClaimTemplates")
            for context in (CONTEXT, LATER)
        ]
        assert claims[0] == claims[1]
        assert dig(claims[0], 0, "spec", "storageClassName") == "fast"
        assert dig(claims[0], 0, "spec", "resources", "requests", "storage") == "5Gi"


class TestJob:
    def test_runs_once(self, shop: Blueprint) -> None:
        rendered = service(shop, "migrate")
        assert kinds(rendered) == ["Job/migrate"]
        spec = dig(rendered[-1], "spec")
        assert dig(spec, "backoffLimit") == 1
        assert dig(spec, "template", "spec", "restartPolicy") == "Never"

    def test_an_init_job_is_named_by_what_it_runs_and_gets_no_traffic(self, shop: Blueprint) -> None:
        api = shop.service("api")
        job = manifests.shell_job(CONTEXT, api, "curl -f http://db", "env_1/api")
        assert job == manifests.shell_job(CONTEXT, api, "curl -f http://db", "env_1/api")
        other = manifests.shell_job(CONTEXT, api, "curl -f http://db", "env_2/api")
        assert dig(job, "metadata", "name") != dig(other, "metadata", "name")
        template = dig(job, "spec", "template")
        assert names.NAME not in str(dig(template, "metadata", "labels"))
        container = dig(template, "spec", "containers", 0)
        assert dig(container, "command") == ["/bin/sh", "-c", "curl -f http://db"]
        assert "readinessProbe" not in str(container)
        assert "POSTGRES_PASSWORD" in str(dig(container, "env"))
        assert dig(job, "spec", "backoffLimit") == 0


class TestMocks:
    def test_a_mock_has_its_files_and_the_service_has_not(self) -> None:
        files = {"stub.json": "{}"}
        for mode, containers in (("replace", 1), ("sidecar", 2)):
            rendered = service(changed(0, mock={"mode": mode, "image": "mock:1", "files": files}), "api")
            pod = dig(rendered[-1], "spec", "template", "spec")
            found = children(pod, "containers")
            assert len(found) == containers
            mount = {"name": "perdure-mock", "mountPath": "/etc/perdure/mock"}
            assert mount in children(found[-1], "volumeMounts")
            assert mode == "replace" or mount not in children(found[0], "volumeMounts")
            assert "{}" in mapping(rendered[0], "data").values()

    def test_a_replacing_mock_runs_instead(self) -> None:
        mocked = changed(1, mock={"mode": "replace", "image": "mock:1", "ports": [{"containerPort": 80}]})
        rendered = service(mocked, "db")
        assert kinds(rendered) == ["Service/db", "Deployment/db"]
        container = dig(rendered[-1], "spec", "template", "spec", "containers", 0)
        assert dig(container, "image") == "mock:1"
        assert dig(container, "readinessProbe", "tcpSocket", "port") == 80
        assert "volumeMounts" not in str(container)

    def test_a_replaced_service_stays_exposed(self) -> None:
        mocked = changed(0, mock={"mode": "replace", "image": "mock:1", "ports": [{"containerPort": 80}]})
        rails = GuardRails(ingress_class="traefik")
        ingress = manifests.routing(CONTEXT, mocked, rails)[0]
        assert "'number': 80" in str(ingress)

    def test_a_sidecar_runs_beside(self) -> None:
        mocked = changed(1, mock={"mode": "sidecar", "image": "mock:1", "ports": [{"containerPort": 80}]})
        rendered = service(mocked, "db")
        containers = dig(rendered[-1], "spec", "template", "spec", "containers")
        assert isinstance(containers, list)
        assert [dig(container, "name") for container in containers] == ["db", "db-mock"]
        assert [dig(port, "port") for port in dig(rendered[0], "spec", "ports")] == [5432, 80]  # type: ignore[union-attr]
        assert dig(containers[1], "readinessProbe", "tcpSocket", "port") == 80


class TestRouting:
    def test_needs_an_ingress_class(self, shop: Blueprint) -> None:
        assert manifests.routing(CONTEXT, shop, GuardRails()) == ()
        assert manifests.endpoint_urls(CONTEXT, shop, GuardRails()) == {"api": "proxy"}

    def test_by_host_and_path(self, shop: Blueprint) -> None:
        rails = GuardRails(ingress_class="traefik", base_domain="test.example")
        rule = dig(manifests.routing(CONTEXT, shop, rails)[0], "spec", "rules", 0)
        assert dig(rule, "host") == "api-shop-0a1b2c3d.test.example"
        assert "'number': 9090" in str(rule)
        urls = manifests.endpoint_urls(CONTEXT, shop, rails)
        assert urls == {"api": "http://api-shop-0a1b2c3d.test.example/v1"}

    def test_a_host_of_its_own(self) -> None:
        own = changed(0, expose={"host": "shop.example.test"})
        urls = manifests.endpoint_urls(CONTEXT, own, GuardRails(ingress_class="traefik"))
        assert urls == {"api": "http://shop.example.test/"}

    def test_long_names_fit_a_dns_label(self) -> None:
        name = "a" * 48
        long = parse_blueprint(
            {
                "name": "b",
                "services": [
                    {"name": name, "image": "x:1", "ports": [{"containerPort": 80}], "expose": True}
                ],
            }
        )
        context = CONTEXT.model_copy(update={"namespace": "a-longer-name-0a1b2c3d"})
        url = manifests.endpoint_urls(context, long, GuardRails(ingress_class="traefik"))[name]
        assert len(url.removeprefix("http://").split(".")[0]) == 63
