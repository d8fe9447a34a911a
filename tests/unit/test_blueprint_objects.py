"""Services never become two Kubernetes objects of one kind and name, nor one whose name is too long."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.helpers.contexts import CONTEXT
from tests.helpers.examples import examples
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint, BlueprintInvalid, FieldError, parse_blueprint
from workflows.domain.blueprint_rules import LONGEST_CREDENTIAL_NAME, LONGEST_SECRET_NAME, MOST_REPLICAS
from workflows.domain.environment import GuardRails, Overrides
from workflows.domain.json_reading import children, text
from workflows.domain.manifests_workload import claim_name

EVERYTHING = GuardRails(
    quota={"pods": "9"}, default_limits={"cpu": "1"}, ingress_namespace="traefik", ingress_class="traefik"
)
Document = dict[str, Any]


def service(name: str, *volumes: str, **fields: Any) -> Document:
    """A service with a port, and a persistent volume for each name."""
    claims = [{"name": volume, "mountPath": f"/{volume}", "type": "pvc", "size": "1Gi"} for volume in volumes]
    ports = [{"containerPort": 80}]
    return {"name": name, "image": "registry.test/s:1", "ports": ports, "volumes": claims, **fields}


def errors(*services: Document) -> list[FieldError]:
    try:
        parse_blueprint({"name": "shop", "services": list(services)})
    except BlueprintInvalid as invalid:
        return list(invalid.errors)
    return []


class TestCollisions:
    def test_with_the_headless_service_of_a_stateful_set(self) -> None:
        for order in (1, -1):
            (error,) = errors(*[service("db", "data"), service("db-headless")][::order])
            assert error.field == "services[1].name"
            assert '"db"' in error.message
            assert 'Service called "db-headless"' in error.message
            assert "another name" in (error.suggestion or "")

    def test_with_the_claim_of_another_volume(self) -> None:
        (error,) = errors(service("db", "data-x"), service("x-db", "data"))
        assert error.field == "services[1].name"
        assert 'the services "db" and "x-db"' in error.message
        assert 'PersistentVolumeClaim called "data-x-db-0"' in error.message
        assert "its volume" in (error.suggestion or "")

    def test_services_in_a_map_are_named_by_their_key(self) -> None:
        mapped = {each.pop("name"): each for each in (service("db", "data"), service("db-headless"))}
        with pytest.raises(BlueprintInvalid) as refused:
            parse_blueprint({"name": "shop", "services": mapped})
        assert [error.field for error in refused.value.errors] == ["services.db-headless"]

    @pytest.mark.parametrize(
        "pair",
        [
            (service("db"), service("db-headless")),
            (service("db", "data"), service("db-headless", ports=[])),
            (service("db", "data", ports=[]), service("db-headless")),
            (
                service("db", "data", mock={"mode": "replace", "image": "registry.test/mock:1"}),
                service("db-headless"),
            ),
            (service("db", "data"), service("db-headless", kind="job", ports=[])),
            (service("db", "data"), service("x-db", "data")),
        ],
        ids=["no volume", "no ports there", "no ports here", "replaced", "a job", "other names"],
    )
    def test_are_seen_only_where_the_objects_are(self, pair: tuple[Document, Document]) -> None:
        assert errors(*pair) == []

    def test_of_equal_names_are_told_once(self) -> None:
        (error,) = errors(service("db", "data"), service("db", "data"))
        assert "another service" in error.message


class TestLongNames:
    def test_a_claim_fits_a_label_for_every_replica(self) -> None:
        name, fitting = "s" * 48, "v" * 11
        assert errors(service(name, fitting)) == []
        (error,) = errors(service(name, fitting + "v"))
        assert error.field == "services[0].name"
        assert "64 characters" in error.message
        assert "volume" in (error.suggestion or "")

    def test_a_secret_leaves_room_for_its_prefix(self) -> None:
        secret = {"envKey": "A", "value": "auto-generated"}
        longest = "s" * LONGEST_SECRET_NAME
        assert errors(service("a", secrets=[{"name": longest, **secret}])) == []
        (error,) = errors(service("a", secrets=[{"name": longest + "s", **secret}]))
        assert error.field == "services[0].secrets[0].name"

    def test_a_credential_has_a_name_that_one_can_be_stored_under(self) -> None:
        longest = "c" * LONGEST_CREDENTIAL_NAME
        assert errors(service("a", imagePullSecrets=[longest])) == []
        (error,) = errors(service("a", imagePullSecrets=[longest + "c"]))
        assert error.field == "services[0].imagePullSecrets[0]"


def objects(blueprint: Blueprint) -> list[tuple[str, str]]:
    """Kind and name of everything that a cluster would hold for the Blueprint, first claims included."""
    made = [*manifests.guard_rails(CONTEXT, EVERYTHING, blueprint)]
    made += manifests.routing(CONTEXT, blueprint, EVERYTHING)
    for each in blueprint.services:
        made += manifests.service(CONTEXT, blueprint, each.name, Overrides())
        if each.init is not None:
            made.append(manifests.shell_job(CONTEXT, each, each.init.script, f"env_1/{each.name}"))
    named = [(text(manifest, "kind"), text(manifest, "metadata", "name")) for manifest in made]
    for manifest in made:
        for template in children(manifest, "spec", "volumeClaimTemplates"):
            volume, owner = text(template, "metadata", "name"), text(manifest, "metadata", "name")
            named.append(("PersistentVolumeClaim", claim_name(volume, owner, 0)))
            assert len(claim_name(volume, owner, MOST_REPLICAS - 1)) <= 63
    named += [("Secret", name) for name in manifests.secrets(blueprint)]
    named += [("Secret", name) for name in manifests.pull_secrets(blueprint)]
    return named


_WORDS = st.sampled_from(
    ["a", "b", "headless", "mock", "init", "allow", "ingress", "default", "deny", "environment", "x" * 24]
)
_NAMES = st.lists(_WORDS, min_size=1, max_size=3).map("-".join)


@st.composite
def _services(draw: st.DrawFn) -> Document:
    made = service(draw(_NAMES), *draw(st.sets(_NAMES, max_size=2)))
    made["expose"] = draw(st.booleans())
    made["imagePullSecrets"] = [draw(_NAMES)]
    made["secrets"] = [{"name": draw(_NAMES), "envKey": "A", "value": "auto-generated"}]
    if draw(st.booleans()):
        made["init"] = {"type": "shell", "script": "true"}
    if draw(st.booleans()):
        mode = draw(st.sampled_from(["replace", "sidecar"]))
        made["mock"] = {"mode": mode, "image": "registry.test/mock:1"}
    return made


@given(st.lists(_services(), min_size=2, max_size=6))
@examples(200)
def test_what_is_accepted_gives_each_object_a_name_of_its_own(services: list[Document]) -> None:
    try:
        blueprint = parse_blueprint({"name": "shop", "services": services})
    except BlueprintInvalid:
        event("refused")
        return
    event("accepted")
    made = objects(blueprint)
    assert [each for each, count in Counter(made).items() if count > 1] == []
    assert [name for _, name in made if len(name) > 63] == []
