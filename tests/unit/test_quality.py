from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.examples import examples
from workflows.domain.blueprint import Blueprint, Service, Volume, VolumeType, parse_blueprint
from workflows.domain.quality import GateCode, hosts_in, names_secret, warnings

LIMITED = {"limits": {"memory": "64Mi"}}


def of(**fields: Any) -> Blueprint:
    probes = {"readiness": {"exec": {"command": ["true"]}}}
    service = {"name": "app", "image": "example/app:1", "resources": LIMITED, "probes": probes, **fields}
    other = {"name": "db", "image": "postgres:16", "resources": LIMITED, "probes": probes}
    return parse_blueprint({"name": "env", "services": [service, other]})


def test_a_careful_blueprint_has_no_findings() -> None:
    blueprint = of(
        ports=[{"containerPort": 80}],
        expose=True,
        probes={"readiness": {"tcp": {"port": 80}}},
        env={
            "DATABASE_URL": "postgres://u:$(DB_PASSWORD)@db:5432/x",
            "API_TOKEN": "$(TOKEN)",
            "OTHER": "https://api.example.com/x",
            "LOCAL": "localhost:80",
            "ADDRESS": "10.0.0.1:5000",
            "V6": "http://[::1]:80/",
            "TIME": "12:30",
            "PUBLIC_KEY": "abc",
            "KEY_FILE": "/run/key",
        },
    )
    assert warnings(blueprint) == ()


@pytest.mark.parametrize(
    ("fields", "code", "place"),
    [
        ({"image": "example/app"}, GateCode.UNPINNED_IMAGE, "services[0].image"),
        ({"image": "example/app:latest"}, GateCode.UNPINNED_IMAGE, "services[0].image"),
        ({"image": "registry:5000/app"}, GateCode.UNPINNED_IMAGE, "services[0].image"),
        (
            {"ports": [{"containerPort": 80}], "expose": True, "probes": {}},
            GateCode.EXPOSED_WITHOUT_READINESS,
            "services[0].probes.readiness",
        ),
        (
            {"ports": [{"containerPort": 80}], "probes": {}},
            GateCode.WITHOUT_READINESS,
            "services[0].probes.readiness",
        ),
        ({"resources": {"memory": "64Mi"}}, GateCode.NO_MEMORY_LIMIT, "services[0].resources.limits.memory"),
        ({"env": {"DB_PASSWORD": "hunter2"}}, GateCode.LITERAL_SECRET, "services[0].env.DB_PASSWORD"),
        ({"env": {"apiKey": "hunter2"}}, GateCode.LITERAL_SECRET, "services[0].env.apiKey"),
        ({"env": {"CACHE": "redis://:hunter2@cache:6379/0"}}, GateCode.UNKNOWN_HOST, "services[0].env.CACHE"),
        ({"env": {"BROKERS": "db:1,kafka:9092"}}, GateCode.UNKNOWN_HOST, "services[0].env.BROKERS"),
    ],
)
def test_each_finding_has_code_and_place_and_shows_no_secret(
    fields: dict[str, Any], code: GateCode, place: str
) -> None:
    found = warnings(of(**fields))
    assert [(finding.code, finding.field) for finding in found] == [(code, place)]
    assert "hunter2" not in str(found)


def test_an_image_pinned_by_digest_needs_no_tag() -> None:
    assert warnings(of(image="example/app@sha256:" + "0" * 64)) == ()


def test_a_replicated_volume_is_found_in_a_blueprint_that_was_never_parsed() -> None:
    volume = Volume(name="d", mount_path="/d", type=VolumeType.PVC, size="1Gi")
    service = Service(name="a", image="x:1", replicas=2, volumes=(volume,))
    codes = [finding.code for finding in warnings(Blueprint(name="e", services=(service,)))]
    assert GateCode.SHARED_VOLUME in codes


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("postgres://u:p@db:5432/x", ("db",)),
        ("mongodb://a:1,b:2/x", ("a", "b")),
        ("http://web", ("web",)),
        ("http://[::1]:80", ("::1",)),
        ("cache:6379", ("cache",)),
        ("x=1 http://one/ http://two/", ("one", "two")),
        ("12:30", ()),
        ("example/app:1.2", ()),
        ("a:99999", ()),
        ("plain text", ()),
    ],
)
def test_hosts_are_found_in_urls_and_addresses(value: str, hosts: tuple[str, ...]) -> None:
    assert hosts_in(value) == hosts


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("PGPASSWORD", True),
        ("GITHUB_TOKEN", True),
        ("SECRET_KEY_BASE", True),
        ("apiKey", True),
        ("KEYBOARD", False),
        ("MONKEY", False),
        ("TOKEN_TTL", False),
        ("PASSWORD_FILE", False),
        ("JWT_PUBLIC_KEY", False),
    ],
)
def test_names_tell_secrets(key: str, secret: bool) -> None:
    assert names_secret(key) is secret


@given(st.text(max_size=60))
@examples(200)
def test_any_value_can_be_searched_for_hosts(value: str) -> None:
    assert all(isinstance(host, str) for host in hosts_in(value))
