"""A mock that listens: which requests it gets copies of, and what is rendered for it."""

import json
from typing import Any

import pytest

from tests.helpers.contexts import CONTEXT
from workflows.domain import manifests
from workflows.domain.blueprint import BlueprintInvalid, parse_blueprint
from workflows.domain.blueprint_models import Blueprint
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.mirror import mirrored_ports, pod_port, proxy_port
from workflows.domain.quality import GateCode, warnings
from workflows.domain.update import Desired, Effect, obsolete_objects, service_changes


def at(value: Any, *path: str | int) -> Any:
    """The value at a path that has to be there."""
    for part in path:
        value = value[part]
    return value


RAILS = GuardRails(mirror_image="proxy:1", ingress_namespace="edge", ingress_class="edge")
HTTP = {"containerPort": 8080, "name": "http"}
VOLUME = {"mountPath": "/x", "type": "emptyDir"}


def blueprint(
    *ports: dict[str, Any], mock: dict[str, Any] | None = None, others: tuple[str, ...] = (), **more: Any
) -> Blueprint:
    mirror = {"mode": "mirror", "image": "mock:1", **(mock or {})}
    service = {"image": "app:1", "ports": [*ports], "mock": mirror, **more}
    return parse_blueprint(
        {"name": "shop", "services": {"api": service, **{name: {"image": "other:1"} for name in others}}}
    )


def without(mirrored: Blueprint) -> Blueprint:
    services = tuple(each.model_copy(update={"mock": None}) for each in mirrored.services)
    return mirrored.model_copy(update={"services": services})


def rendered(found: Blueprint, overrides: Overrides = Overrides()) -> dict[str, Any]:  # noqa: B008
    objects = manifests.service(CONTEXT, found, "api", overrides, {}, RAILS)
    return {f"{each['kind']}/{at(each, 'metadata', 'name')}": each for each in objects}


@pytest.mark.parametrize(
    ("port", "more", "copied"),
    [
        (HTTP, {}, True),
        ({"containerPort": 8080, "name": "http-admin"}, {}, True),
        ({"containerPort": 8080}, {"probes": {"readiness": {"http": {"port": 8080}}}}, True),
        ({"containerPort": 8080}, {"expose": True}, True),
        ({"containerPort": 8080, "name": "https"}, {}, False),
        ({"containerPort": 8080, "name": "grpc"}, {}, False),
        ({"containerPort": 8080}, {"probes": {"readiness": {"tcp": {"port": 8080}}}}, False),
        ({**HTTP, "protocol": "UDP"}, {}, False),
        (HTTP, {"probes": {"liveness": {"http": {"port": "http", "scheme": "HTTPS"}}}}, False),
    ],
)
def test_a_port_is_copied_when_it_is_known_to_speak_http(
    port: dict[str, Any], more: dict[str, Any], copied: bool
) -> None:
    if not copied:
        with pytest.raises(BlueprintInvalid) as raised:
            blueprint(port, **more)
        assert [each.field for each in raised.value.errors] == ["services.api.mock.mode"]
        # Beside one that is copied it is left alone, and the gate says so.
        other = {"containerPort": 9090, "name": "http-other"}
        found = blueprint(port, other, **more)
        assert [each.code for each in warnings(found) if each.code is GateCode.PORT_NOT_MIRRORED]
        assert pod_port(found.services[0], found.services[0].ports[0]) == 8080
        assert pod_port(found.services[0], found.services[0].ports[1]) == 19090
        return
    found = blueprint(port, **more)
    assert [each.container_port for each in mirrored_ports(found.services[0])] == [8080]
    assert not [each for each in warnings(found) if each.code is GateCode.PORT_NOT_MIRRORED]


@pytest.mark.parametrize(
    ("ports", "more", "field"),
    [
        ((HTTP, {"containerPort": 18080}), {}, "services.api.ports[0].containerPort"),
        ((HTTP,), {"others": ("api-mock",)}, "services.api-mock"),
        ((HTTP,), {"volumes": [{"name": "perdure-mirror", **VOLUME}]}, "services.api.volumes[0].name"),
        ((HTTP,), {"mock": {"ports": [{"containerPort": 1, "protocol": "UDP"}]}}, "services.api.mock.ports"),
    ],
)
def test_what_the_proxy_needs_has_to_be_free(
    ports: tuple[dict[str, Any], ...], more: dict[str, Any], field: str
) -> None:
    with pytest.raises(BlueprintInvalid) as raised:
        blueprint(*ports, **more)
    assert [each.field for each in raised.value.errors] == [field]


def test_every_port_has_a_place_for_its_proxy() -> None:
    assert all(1024 <= proxy_port(port) <= 65535 and proxy_port(port) != port for port in range(1, 65536))


class TestObjects:
    def test_the_mock_has_a_workload_of_its_own_which_no_one_else_reaches(self) -> None:
        found = rendered(blueprint(HTTP, mock={"files": {"a": "b"}}))
        assert list(found)[-1] == "Deployment/api"
        assert {"ConfigMap/api-mock", "Service/api-mock", "Deployment/api-mock"} < set(found)
        labels = at(found["Deployment/api-mock"], "spec", "template", "metadata", "labels")
        selected = at(found["Service/api"], "spec", "selector")
        assert not selected.items() <= labels.items()
        assert at(found["Service/api-mock"], "spec", "selector").items() <= labels.items()

    def test_the_service_leads_to_the_proxy_and_keeps_its_port(self) -> None:
        found = rendered(blueprint(HTTP, {"containerPort": 5432}))
        ports = at(found["Service/api"], "spec", "ports")
        assert [(each["port"], each["targetPort"]) for each in ports] == [(8080, 18080), (5432, 5432)]
        [plain] = [
            each
            for each in manifests.guard_rails(CONTEXT, RAILS, blueprint(HTTP, expose=True))
            if at(each, "metadata", "name") == "allow-ingress-api"
        ]
        allowed = at(plain, "spec", "ingress", 0, "ports")
        assert [each["port"] for each in allowed] == [8080, 18080]

    def test_the_proxy_runs_beside_it_with_as_few_rights_as_can_be(self) -> None:
        spec = at(rendered(blueprint(HTTP))["Deployment/api"], "spec", "template", "spec")
        [proxy] = spec["initContainers"]
        assert (proxy["image"], proxy["restartPolicy"]) == ("proxy:1", "Always")
        assert proxy["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
        }
        assert [each["name"] for each in spec["containers"]] == ["api"]
        assert "volumeMounts" not in spec["containers"][0]

    @pytest.mark.parametrize(
        ("ports", "target"),
        [([], 8080), ([{"containerPort": 8080}, {"containerPort": 1}], 8080), ([{"containerPort": 1}], 1)],
    )
    def test_a_copy_goes_to_the_same_port_or_to_the_first(
        self, ports: list[dict[str, Any]], target: int
    ) -> None:
        found = rendered(blueprint(HTTP, mock={"ports": ports}))
        text = json.dumps(at(found["ConfigMap/api"], "data"))
        assert f"http://$perdure_mock:{target}$request_uri" in text
        assert "%" not in text

    def test_credentials_are_taken_out_of_the_copy_alone(self) -> None:
        text = str(at(rendered(blueprint(HTTP))["ConfigMap/api"], "data"))
        before, mirrored = text.split("location = /.perdure-mirror-copy", 1)
        assert 'proxy_set_header Authorization "";' in mirrored
        assert 'proxy_set_header Cookie "";' in mirrored
        assert "Authorization" not in before

    def test_it_stops_with_the_service_and_does_not_scale_with_it(self) -> None:
        def replicas(overrides: Overrides) -> list[Any]:
            found = rendered(blueprint(HTTP), overrides)
            return [at(found[f"Deployment/{name}"], "spec", "replicas") for name in ("api", "api-mock")]

        assert replicas(Overrides(replicas={"api": 3})) == [3, 1]
        assert replicas(Overrides(stopped=True)) == [0, 0]

    def test_a_new_mock_leaves_the_pods_of_the_service_alone(self) -> None:
        one, other = (rendered(blueprint(HTTP, mock={"image": image})) for image in ("mock:1", "mock:2"))
        assert one["Deployment/api"] == other["Deployment/api"]
        assert one["Deployment/api-mock"] != other["Deployment/api-mock"]

    def test_all_of_it_goes_with_the_mirror(self) -> None:
        mirrored = blueprint(HTTP)
        before, after = (
            Desired(blueprint=each, inputs={"service/api": json.dumps(rendered(each))})
            for each in (mirrored, without(mirrored))
        )
        assert [each.effect for each in service_changes(before, after)] == [Effect.IN_PLACE]
        gone = obsolete_objects(CONTEXT, RAILS, before, after)["api"]
        assert {(each.kind, each.name) for each in gone} == {
            ("Deployment", "api-mock"),
            ("Service", "api-mock"),
            ("ConfigMap", "api"),
        }
