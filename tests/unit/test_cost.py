"""The estimate of what an environment costs."""

from decimal import Decimal

import pytest
from pydantic import JsonValue, ValidationError

from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.cost import RateCard, estimate_cost
from workflows.domain.environment import GuardRails, Overrides

RATES = RateCard(
    currency="EUR",
    cpu_core_hour=Decimal("0.04"),
    memory_gib_hour=Decimal("0.01"),
    storage_gib_month=Decimal("0.073"),
)


def blueprint(**services: dict[str, JsonValue]) -> Blueprint:
    document: JsonValue = {
        "name": "shop",
        "services": {name: {"image": "registry.test/x:1", **more} for name, more in services.items()},
    }
    return parse_blueprint(document)


def test_requests_and_volumes_of_all_replicas_are_counted() -> None:
    estimate = estimate_cost(
        blueprint(
            web={"replicas": 2, "resources": {"cpu": "500m", "memory": "1Gi"}},
            db={
                "resources": {"cpu": "1", "memory": "2Gi"},
                "volumes": [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "10Gi"}],
            },
        ),
        Overrides(),
        GuardRails(),
        RATES,
    )
    web, db = estimate.services
    assert (web.replicas, web.cpu_cores, web.memory_bytes) == (2, Decimal(1), 2 << 30)
    assert web.per_hour == Decimal("0.06")
    # Storage: 10 GiB at 0.073 a month, of 730 hours.
    assert (db.volumes, db.storage_bytes, db.per_hour) == (1, 10 << 30, Decimal("0.061"))
    assert (estimate.currency, estimate.per_hour, estimate.per_month) == (
        "EUR",
        Decimal("0.121"),
        Decimal("88.33"),
    )


def test_defaults_limits_and_overrides_are_what_the_cluster_goes_by() -> None:
    rails = GuardRails(default_requests={"cpu": "100m", "memory": "64Mi"})
    estimate = estimate_cost(
        blueprint(bare={}, limited={"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}),
        Overrides(replicas={"limited": 3}),
        rails,
        RATES,
    )
    bare, limited = estimate.services
    assert (bare.cpu_cores, bare.memory_bytes) == (Decimal("0.1"), 64 << 20)
    assert (limited.replicas, limited.cpu_cores, limited.memory_bytes) == (3, Decimal(6), 3 << 30)
    [said] = [line for line in estimate.assumed if "default requests" in line]
    assert said.endswith("for: bare")


def test_a_stopped_environment_costs_its_volumes() -> None:
    volume: JsonValue = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}
    estimate = estimate_cost(
        blueprint(web={"resources": {"cpu": "1"}}, db={"volumes": [volume]}),
        Overrides(replicas={"web": 0, "db": 0}),
        GuardRails(),
        RATES,
        stopped=True,
    )
    web, db = estimate.services
    assert web.per_hour == 0
    assert db.storage_bytes == 1 << 30
    assert estimate.per_month == Decimal("0.073")


def test_a_job_is_left_out_and_said_to_be() -> None:
    estimate = estimate_cost(
        blueprint(once={"kind": "job", "resources": {"cpu": "4"}}), Overrides(), GuardRails(), RATES
    )
    assert estimate.per_hour == 0
    assert any("once" in line and "jobs" in line for line in estimate.assumed)


def test_mocks_and_the_proxy_of_a_mirror_are_counted() -> None:
    rails = GuardRails(default_requests={"cpu": "100m", "memory": "64Mi"})
    asked: JsonValue = {"cpu": "500m", "memory": "512Mi"}
    found = blueprint(
        web={
            **{"replicas": 2, "resources": asked, "ports": [{"containerPort": 80, "name": "http"}]},
            "mock": {"mode": "mirror", "image": "registry.test/mock:1"},
        },
        api={"replicas": 2, "resources": asked, "mock": {"mode": "sidecar", "image": "registry.test/mock:1"}},
        db={"resources": asked, "mock": {"mode": "replace", "image": "registry.test/mock:1"}},
    )
    estimate = estimate_cost(found, Overrides(replicas={"web": 3}), rails, RATES)
    counted = {each.service: (each.replicas, each.cpu_cores, each.memory_bytes) for each in estimate.services}
    assert counted == {
        "web": (3, Decimal("1.53"), 3 * (512 + 32) << 20),
        "web-mock": (1, Decimal("0.1"), 64 << 20),
        "api": (2, Decimal("1.2"), 2 * (512 + 64) << 20),
        "db": (1, Decimal("0.5"), 512 << 20),
    }
    assert estimate.per_hour == sum(each.per_hour for each in estimate.services)
    [said] = [line for line in estimate.assumed if "default requests" in line]
    assert said.endswith("for: web-mock, api-mock")
    for each in estimate_cost(found, Overrides(), rails, RATES, stopped=True).services:
        assert each.per_hour == 0


def test_a_rate_card_without_sense_is_refused() -> None:
    for wrong in ({"currency": "euro"}, {"cpu_core_hour": -1}, {"gpu_hour": 1}):
        with pytest.raises(ValidationError):
            RateCard.model_validate(wrong)
