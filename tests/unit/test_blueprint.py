from __future__ import annotations

import copy
import datetime
import itertools
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.examples import examples
from workflows.domain.blueprint import (
    Blueprint,
    BlueprintInvalid,
    Condition,
    DataStore,
    FieldError,
    SecretSource,
    SecretSourceKind,
    Service,
    find_cycles,
    literal_secrets,
    parse_blueprint,
    secret_sources,
    without_literals,
)
from workflows.domain.errors import render_path

Document = dict[str, Any]

FULL = """
name: payments-dev
description: Payments API with Postgres
services:
  - name: api
    image: ghcr.io/example/payments-api:1.4.2
    imagePullSecrets: [corp]
    command: [ ]
    replicas: 2
    ports: [{containerPort: 8080, name: http, protocol: TCP}]
    expose: {host: api.example.test, path: /, port: http}
    env: {DATABASE_URL: "postgres://postgres:$(POSTGRES_PASSWORD)@db:5432/payments", WORKERS: 4, RATIO: 0.5}
    dependsOn: [db, migrate]
    resources: {cpu: 250m, memory: 256Mi, limits: {cpu: 1, memory: 512Mi}}
    probes:
      readiness: {http: {path: /healthz, port: 8080}, periodSeconds: 2}
      liveness: {tcp: {port: http}}
      startup: {exec: {command: [true]}}
    readyTimeoutSeconds: 300
    startup: {tolerateRestarts: 2}
    secrets: [{name: db-password, envKey: POSTGRES_PASSWORD, value: auto-generated}]
    volumes: [{name: conf, mountPath: /etc/app, files: {app/settings.ini: "a=1"}}]
  - name: migrate
    kind: job
    image: ghcr.io/example/migrate@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    dependsOn: {db: {condition: ready}}
    secrets: [{name: db-password, envKey: PGPASSWORD}]
  - name: db
    image: postgres:16
    ports: [{containerPort: 5432}]
    secrets: [{name: db-password, envKey: POSTGRES_PASSWORD, value: auto-generated}]
    volumes: [{name: data, mountPath: /var/lib/postgresql/data, type: pvc, size: 5Gi}]
    init: {type: sql, script: "create table t(id int)"}
    snapshot: {engine: auto, store: postgres, quiesce: [psql, -c, checkpoint], thaw: "yes", quiesceSeconds: 9}
    mock: {mode: replace, image: "example/mock:1", ports: [{containerPort: 5432}]}
plans:
  production: {services: {api: {replicas: 3, resources: {memory: 512Mi, cpu: 500m}}}}
routing: {mode: isolated, baselineId: env_01ABC, overlayId: feat-checkout}
autoShutdownEnabled: true
autoShutdownDelayMinutes: 30
ttlMinutes: 20160
onFailure: keep
protected: false
labels: {team: payments, example.com/tier: gold}
"""


PARSED: Document = yaml.safe_load(FULL)


def full() -> Document:
    return copy.deepcopy(PARSED)


def service(**fields: Any) -> Document:
    return {"name": "app", "image": "example/app:1", **fields}


def of(*services: Document, **fields: Any) -> Document:
    return {"name": "env", "services": list(services), **fields}


def beside_ports(port: Document, mode: str = "sidecar") -> Document:
    """A service with the port 80, called http, and a mock with another port."""
    mock = {"mode": mode, "image": "example/mock:1", "ports": [port]}
    return service(ports=[{"containerPort": 80, "name": "http"}], mock=mock)


def held(**fields: Any) -> Document:
    """A service with hooks."""
    return service(snapshot=fields)


def database(script: str, **fields: Any) -> Document:
    """A PostgreSQL with an SQL init script."""
    return service(**{"image": "postgres:16", "init": {"type": "sql", "script": script}, **fields})


def errors(document: object, plan: str | None = None, name: str | None = None) -> tuple[FieldError, ...]:
    with pytest.raises(BlueprintInvalid) as caught:
        parse_blueprint(document, plan=plan, name=name)
    return caught.value.errors


def only(document: object, plan: str | None = None) -> FieldError:
    found = errors(document, plan)
    assert len(found) == 1, [str(error) for error in found]
    return found[0]


def test_an_overlay_misses_its_baseline_and_cannot_be_made_so_far() -> None:
    found = errors(of(service(), routing={"mode": "overlay"}))
    assert [error.field for error in found] == ["routing.baselineId", "routing.mode"]


class TestValid:
    def test_the_design_example_is_read_whole(self) -> None:
        blueprint = parse_blueprint(full())
        api = blueprint.service("api")
        assert api.env == {
            "DATABASE_URL": "postgres://postgres:$(POSTGRES_PASSWORD)@db:5432/payments",
            "WORKERS": "4",
            "RATIO": "0.5",
        }
        assert api.resources.limits.cpu == "1"
        assert api.depends_on["db"].condition is Condition.READY
        assert api.depends_on["migrate"].condition is Condition.COMPLETED
        assert api.probes.startup is not None
        assert api.probes.startup.exec is not None
        assert api.probes.startup.exec.command == ("true",)
        assert api.exposed_port == api.ports[0]
        assert blueprint.service("db").stateful
        assert blueprint.service("db").store is DataStore.POSTGRES
        held = blueprint.service("db").snapshot
        assert held.quiesce == ("psql", "-c", "checkpoint")
        assert held.thaw == ("sh", "-c", "yes")
        assert held.quiesce_seconds == 9
        assert blueprint.ttl_minutes == 20160

    @pytest.mark.parametrize(
        "options", [{}, {"exclude_defaults": True}, {"exclude_none": True}, {"exclude_unset": True}]
    )
    def test_it_survives_being_written_and_read_again(self, options: dict[str, bool]) -> None:
        blueprint = parse_blueprint(full())
        written = json.loads(json.dumps(blueprint.model_dump(by_alias=True, mode="json", **options)))  # type: ignore[arg-type]
        assert parse_blueprint(written) == blueprint

    def test_a_job_with_all_defaults_written_out_is_read_again(self) -> None:
        blueprint = parse_blueprint(of(service(kind="job")))
        assert parse_blueprint(blueprint.model_dump(by_alias=True, mode="json")) == blueprint

    def test_a_job_is_not_held_still(self) -> None:
        job = {**held(quiesce="a", thaw="a"), "kind": "job"}
        assert [error.field for error in errors(of(job))] == [
            "services[0].snapshot.quiesce",
            "services[0].snapshot.thaw",
        ]

    def test_services_may_be_a_map(self) -> None:
        as_list = of({"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1", "dependsOn": ["a"]})
        as_map = {
            "name": "env",
            "services": {"a": {"image": "x:1"}, "b": {"image": "y:1", "dependsOn": ["a"]}},
        }
        assert parse_blueprint(as_list) == parse_blueprint(as_map)

    def test_null_is_the_same_as_leaving_a_field_out(self) -> None:
        assert parse_blueprint(of(service(env=None, ports=None), plans=None)) == parse_blueprint(
            of(service())
        )

    def test_the_caller_may_name_it(self) -> None:
        document = of(service())
        del document["name"]
        assert parse_blueprint(document, name="branch-7").name == "branch-7"
        assert "é" in errors(document, name="é")[0].message

    def test_a_mock_has_ports_of_its_own_beside_the_service_and_any_in_its_place(self) -> None:
        assert parse_blueprint(of(beside_ports({"containerPort": 80, "protocol": "UDP"})))
        assert parse_blueprint(of(beside_ports({"containerPort": 80, "name": "http"}, mode="replace")))

    def test_the_document_is_not_changed(self) -> None:
        document = full()
        before = copy.deepcopy(document)
        parse_blueprint(document, plan="production")
        assert document == before


class TestFaults:
    @pytest.mark.parametrize(
        ("document", "field", "part"),
        [
            (None, "", "empty document"),
            ([], "", "a list"),
            ("name: x", "", "text"),
            (of(service(), nmae="x"), "nmae", "no such key"),
            ({"name": "env"}, "services", "required"),
            (of(), "services", "at least one"),
            (of(service(image=None)), "services[0].image", "required"),
            (of(service(image="My App")), "services[0].image", "image reference"),
            (of(service(name="Überraschung")), "services[0].name", "LATIN CAPITAL LETTER U WITH DIAERESIS"),
            (of(service(name="n" * 49)), "services[0].name", "49 characters"),
            (of(service(name="1st")), "services[0].name", "begin with a letter"),
            (of(service(name="a-")), "services[0].name", "begin and end"),
            ({"name": "n" * 41, "services": [service()]}, "name", "41 characters"),
            (of(service(), service()), "services[1].name", "another service"),
            (of(service(replicas="2")), "services[0].replicas", "whole number"),
            (of(service(replicas=True)), "services[0].replicas", "whole number"),
            (of(service(replicas=-1)), "services[0].replicas", "from 0"),
            (of(service(ports=[8080])), "services[0].ports[0]", "a mapping"),
            (of(service(ports=[{"containerPort": 0}])), "services[0].ports[0].containerPort", "65535"),
            (of(service(ports=[{"containerPort": 65536}])), "services[0].ports[0].containerPort", "65535"),
            (
                of(service(ports=[{"containerPort": 80}, {"containerPort": 80}])),
                "services[0].ports[1].containerPort",
                "already",
            ),
            (
                of(service(ports=[{"containerPort": 80}, {"containerPort": 81, "name": "tcp-80"}])),
                "services[0].ports[1].name",
                '"tcp-80" is already used',
            ),
            (
                of(service(ports=[{"containerPort": 81, "name": "tcp-80"}, {"containerPort": 80}])),
                "services[0].ports[1]",
                '"tcp-80" is already used',
            ),
            (of(service(expose=True)), "services[0].expose", "needs a port"),
            (
                of(service(ports=[{"containerPort": 80}], expose={"port": "web"})),
                "services[0].expose.port",
                "not declared",
            ),
            (
                of(service(ports=[{"containerPort": 53, "protocol": "UDP"}], expose=True)),
                "services[0].expose",
                "UDP",
            ),
            (
                of(service(probes={"readiness": {"tcp": {"port": 99}}})),
                "services[0].probes.readiness.tcp.port",
                "not declared",
            ),
            (of(service(probes={"readiness": {}})), "services[0].probes.readiness", "exactly one"),
            (
                of(service(probes={"liveness": {"exec": {"command": ["a"]}, "successThreshold": 2}})),
                "services[0].probes.liveness.successThreshold",
                "must be 1",
            ),
            (
                of(service(probes={"liveness": {"exec": {"command": []}}})),
                "services[0].probes.liveness.exec.command",
                "not be empty",
            ),
            (of(service(env={"DEBUG": True})), "services[0].env.DEBUG", "boolean"),
            (of(service(env={"DEBUG": None})), "services[0].env.DEBUG", "null"),
            (of(service(env={"A B": "x"})), 'services[0].env["A B"]', "environment variable"),
            (of(service(env={"D": datetime.date(2024, 1, 2)})), "services[0].env.D", "date"),
            (of(service(env={"D": float("nan")})), "services[0].env.D", "finite"),
            (of(service(env={"D": "a\0b"})), "services[0].env.D", "NUL"),
            (of(service(env={"D": "\ud800"})), "services[0].env.D", "surrogate"),
            (of(service(env={True: "x"})), "services[0].env.true", "YAML reads the bare words on"),
            (of(service(env={7: "x"})), 'services[0].env["7"]', "keys are text"),
            (of(service(dependsOn=["nope"])), "services[0].dependsOn[0]", "no service"),
            (of(service(dependsOn={"nope": {}})), "services[0].dependsOn.nope", "no service"),
            (of(service(dependsOn=["app"])), "services[0].dependsOn", "app -> app"),
            (of(service(resources={"cpu": "100Mi"})), "services[0].resources.cpu", "cores"),
            (of(service(resources={"memory": "512m"})), "services[0].resources.memory", "thousandths"),
            (of(service(resources={"memory": "2 GB"})), "services[0].resources.memory", "quantity"),
            (of(service(resources={"memory": "900Ei"})), "services[0].resources.memory", "64Ti"),
            (
                of(service(resources={"cpu": 2, "limits": {"cpu": "1500m"}})),
                "services[0].resources.limits.cpu",
                "below the request",
            ),
            (of(service(readyTimeoutSeconds=0)), "services[0].readyTimeoutSeconds", "from 1"),
            (of(service(kind="job", expose=False, replicas=2)), "services[0].replicas", "job"),
            (of(service(kind="job", ports=[{"containerPort": 1}])), "services[0].ports", "job"),
            (of(service(kind="cron")), "services[0].kind", "service, job"),
            (of(service(secrets=[{"name": "a", "envKey": "A"}])), "services[0].secrets[0]", "comes from"),
            (
                of(service(secrets=[{"name": "a", "envKey": "A", "value": 17}])),
                "services[0].secrets[0].value",
                "a number",
            ),
            (
                of(
                    service(env={"A": "x"}, secrets=[{"name": "a", "envKey": "A", "value": "auto-generated"}])
                ),
                "services[0].secrets[0].envKey",
                "env of this service",
            ),
            (
                of(service(volumes=[{"name": "a", "mountPath": "data", "type": "emptyDir"}])),
                "services[0].volumes[0].mountPath",
                "mounted",
            ),
            (
                of(service(volumes=[{"name": "a", "mountPath": "/a", "type": "pvc"}])),
                "services[0].volumes[0].size",
                "required",
            ),
            (
                of(service(volumes=[{"name": "a", "mountPath": "/a"}])),
                "services[0].volumes[0].type",
                "required",
            ),
            (
                of(service(volumes=[{"name": "a", "mountPath": "/a", "files": {"../x": "y"}}])),
                'services[0].volumes[0].files["../x"]',
                "below the volume",
            ),
            (of(service(init={"type": "sql", "script": "x"})), "services[0].init.type", "PostgreSQL"),
            (of(held(quiesce="a")), "services[0].snapshot.thaw", "quiesce does not go without it"),
            (of(held(thaw=["a"])), "services[0].snapshot.quiesce", "thaw does not go without it"),
            (of(held(quiesce="a", thaw=[])), "services[0].snapshot.thaw", "required"),
            (of(held(quiesce=" ", thaw="a")), "services[0].snapshot.quiesce", "empty"),
            (of(held(quiesce="a", thaw=7)), "services[0].snapshot.thaw", "must be a list"),
            (of(held(quiesce="a", thaw=[["a"]])), "services[0].snapshot.thaw[0]", "must be text"),
            (of(held(quiesce="a" * 8200, thaw="a")), "services[0].snapshot.quiesce", "8,192"),
            (of(held(quiesceSeconds=10)), "services[0].snapshot.quiesceSeconds", "there are none"),
            (
                of(held(quiesce="a", thaw="a", quiesceSeconds=31)),
                "services[0].snapshot.quiesceSeconds",
                "from 2 to 30",
            ),
            (
                of(database("create table t(id int);\nCOMMIT;")),
                "services[0].init.script",
                "line 2: COMMIT is not allowed",
            ),
            (of(database("\n\nvacuum;")), "services[0].init.script", "line 3: VACUUM is not possible"),
            (of(database("\\connect other")), "services[0].init.script", "line 1: psql command \\connect"),
            (of(database("select 'x")), "services[0].init.script", "does not end"),
            (
                of(service(mock={"mode": "mirror", "image": "m:1"})),
                "services[0].mock.mode",
                "no port of this service is known to speak HTTP",
            ),
            (
                of(beside_ports({"containerPort": 80})),
                "services[0].mock.ports[0].containerPort",
                "shares its address",
            ),
            (
                of(beside_ports({"containerPort": 81, "name": "http"})),
                "services[0].mock.ports[0].name",
                '"http" is already used',
            ),
            (of(service(), routing={"mode": "baseline"}), "routing.mode", "not available"),
            (
                of(service(), labels={"app.kubernetes.io/name": "x"}),
                'labels["app.kubernetes.io/name"]',
                "reserved",
            ),
            (of(service(), ttlMinutes=0), "ttlMinutes", "from 1"),
            (of(service(), onFailure="retry"), "onFailure", "keep, rollback"),
            (of(service(command="run it")), "services[0].command", "list of words"),
            (of(service(startup=7)), "services[0].startup", "mapping"),
            (
                of(service(), plans={"big": {"services": {"ap": {"replicas": 2}}}}),
                "plans.big.services.ap",
                "no service",
            ),
            (of(service(), plans={"big": {"name": "x"}}), "plans.big.name", "no such key"),
        ],
    )
    def test_each_fault_has_its_place_and_reason(self, document: object, field: str, part: str) -> None:
        error = only(document)
        assert error.field == field
        assert part in error.message

    @pytest.mark.parametrize(
        ("document", "hint"),
        [
            (of(service(), autoshutdown_enabled=True), "autoShutdownEnabled"),
            (of(service(depends_on=["x"])), "dependsOn"),
            (of(service(environment={})), "env"),
            (of(service(imagePullSecret=[])), "imagePullSecrets"),
            (of(service(name="My_Api")), "my-api"),
            (of(service(name="café")), "cafe"),
            (of(service(resources={"memory": "512m"})), "512Mi"),
            (of(service(resources={"memory": "2GB"})), "2Gi"),
            (of(service(image="https://example.com/app:1")), "example.com/app:1"),
            (of(service(), {"name": "web", "image": "w:1", "dependsOn": ["ap"]}), "app"),
            (of(service(kind="jobs")), "job"),
            (of(service(ports=[{"containerPort": "80"}])), "without quotes"),
        ],
    )
    def test_the_nearest_known_thing_is_suggested(self, document: object, hint: str) -> None:
        assert hint in (only(document).suggestion or "")

    def test_all_faults_come_together_in_document_order(self) -> None:
        document = {
            "services": [
                {"image": "Bad Image", "name": "web", "dependsOn": ["db", "nope"], "oops": 1},
                {
                    "name": "db",
                    "image": "postgres:16",
                    "ports": [{"containerPort": 99999}],
                    "dependsOn": ["web"],
                },
            ],
            "name": "Env",
            "typo": 1,
        }
        assert [error.field for error in errors(document)] == [
            "services[0].image",
            "services[0].dependsOn",
            "services[0].dependsOn[1]",
            "services[0].oops",
            "services[1].ports[0].containerPort",
            "name",
            "typo",
        ]

    def test_what_follows_from_a_fault_is_not_reported_again(self) -> None:
        broken_port = service(
            ports=[{"containerPort": "x"}], expose=True, probes={"readiness": {"tcp": {"port": 80}}}
        )
        assert only(of(broken_port)).field == "services[0].ports[0].containerPort"
        misnamed = of(service(name="Db"), {"name": "web", "image": "w:1", "dependsOn": ["Db"]})
        assert only(misnamed).field == "services[0].name"

    def test_a_hundred_faults_are_a_hundred_errors(self) -> None:
        document = of(*[{"name": f"s{index}", "image": "BAD"} for index in range(100)])
        assert [error.field for error in errors(document)] == [f"services[{i}].image" for i in range(100)]

    def test_beyond_two_hundred_the_rest_is_counted(self) -> None:
        found = errors(of(*[{"name": f"s{index}", "image": "BAD"} for index in range(500)]))
        assert len(found) == 201
        assert "at most 200" in found[0].message
        assert found[-1].path == ()
        assert "301 more" in found[-1].message

    def test_cycles_are_printed(self) -> None:
        def link(name: str, *needs: str) -> Document:
            return {"name": name, "image": "x:1", "dependsOn": list(needs)}

        document = of(
            link("a", "b"),
            link("b", "c"),
            link("c", "a", "b"),
            link("d", "a"),
            link("e", "f"),
            link("f", "e"),
        )
        messages = [error.message for error in errors(document)]
        assert messages == [
            "the services wait for each other: a -> b -> c -> a",
            "the services wait for each other: e -> f -> e",
        ]

    @pytest.mark.parametrize(
        ("kind", "condition", "place"),
        [("job", "ready", "condition"), ("service", "completed", "condition")],
    )
    def test_a_condition_must_fit_its_target(self, kind: str, condition: str, place: str) -> None:
        document = of(
            service(kind=kind), {"name": "b", "image": "x:1", "dependsOn": {"app": {"condition": condition}}}
        )
        assert only(document).field == f"services[1].dependsOn.app.{place}"

    def test_replicas_that_would_each_have_their_own_data_carry_the_gate_code(self) -> None:
        data = {"name": "d", "mountPath": "/d", "type": "pvc", "size": "1Gi"}
        assert only(of(service(replicas=2, volumes=[data]))).code == "L006"
        assert parse_blueprint(of(service(replicas=2, volumes=[data], replicable=True)))

    def test_an_init_script_that_breaks_its_transaction_is_told_with_a_way_out(self) -> None:
        assert "type: shell" in (only(of(database("commit"))).suggestion or "")
        assert parse_blueprint(of(service(image="postgres:16", init={"type": "shell", "script": "commit"})))
        assert parse_blueprint(of(database("commit", image="mariadb:11")))

    def test_a_plan_may_make_an_init_script_one_for_another_database(self) -> None:
        document = of(
            database("commit", image="mariadb:11"),
            plans={"p": {"services": {"app": {"image": "postgres:16"}}}},
        )
        error = only(document)
        assert error.field == "services[0].init.script"
        assert 'with plan "p"' in error.message

    def test_two_services_cannot_have_one_address(self) -> None:
        exposed = {"ports": [{"containerPort": 80}], "expose": {"host": "a.example.test"}}
        document = of(service(**exposed), {"name": "b", "image": "x:1", **exposed})
        assert only(document).field == "services[1].expose.host"

    def test_absurd_documents_end_quickly(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        assert any("deeper" in error.message for error in errors(of(service(env={"A": deep}))))
        cyclic: Document = of(service())
        cyclic["labels"] = cyclic
        assert errors(cyclic)
        laugh: Any = "ha"
        for _ in range(20):
            laugh = [laugh] * 10
        assert "30000" in only(of(service(), labels=laugh)).message
        assert len(errors({f"key{index}" * 20: index for index in range(29_000)})) == 201
        assert errors(of(service(replicas=10**5000)))

    def test_long_init_scripts_are_read_once_for_all_plans(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[str] = []
        monkeypatch.setattr("workflows.domain.init_sql.refuse_transaction_control", read.append)
        plans = {f"p{number}": {"description": "another"} for number in range(9)}
        parse_blueprint(of(database("select 1"), plans=plans))
        assert read == ["select 1"]


class TestPlans:
    def test_a_plan_is_laid_over_the_base_before_the_whole_is_checked(self) -> None:
        blueprint = parse_blueprint(full(), plan="production")
        api = blueprint.service("api")
        assert (api.replicas, api.resources.memory, api.resources.limits.memory) == (3, "512Mi", "512Mi")
        assert blueprint.plans == {}

    def test_a_plan_may_complete_the_base(self) -> None:
        document = of({"name": "app"}, plans={"p": {"services": [{"name": "app", "image": "x:1"}]}})
        assert parse_blueprint(document, plan="p").service("app").image == "x:1"
        assert only(document).field == "services[0].image"

    def test_null_takes_a_value_or_a_service_away(self) -> None:
        document = of(
            service(env={"A": "1", "B": "2"}),
            {"name": "extra", "image": "x:1"},
            plans={"p": {"services": {"app": {"env": {"A": None}}, "extra": None}}},
        )
        blueprint = parse_blueprint(document, plan="p")
        assert [item.name for item in blueprint.services] == ["app"]
        assert blueprint.service("app").env == {"B": "2"}

    def test_faults_in_a_plan_point_into_the_plan(self) -> None:
        document = of(service(), plans={"p": {"services": {"app": {"replicas": "many", "expose": True}}}})
        for plan in (None, "p"):
            assert [error.field for error in errors(document, plan)] == [
                "plans.p.services.app.replicas",
                "plans.p.services.app.expose",
            ]

    def test_what_a_plan_breaks_elsewhere_names_the_plan(self) -> None:
        document = of(
            service(ports=[{"containerPort": 80}], expose=True),
            plans={"p": {"services": {"app": {"ports": []}}}},
        )
        error = only(document)
        assert error.field == "services[0].expose"
        assert 'with plan "p"' in error.message

    def test_an_unknown_plan_names_the_nearest(self) -> None:
        error = only(full(), plan="prodution")
        assert error.field == "plans"
        assert "production" in (error.suggestion or "")

    def test_a_plan_holds_no_secret_in_clear(self) -> None:
        secret = {"name": "a", "envKey": "A", "value": "hunter2"}
        error = only(of(service(), plans={"p": {"services": {"app": {"secrets": [secret]}}}}))
        assert error.field == "plans.p.services.app.secrets[0].value"
        assert "hunter2" not in str(error)


class TestSecrets:
    def test_one_name_is_one_secret(self) -> None:
        blueprint = parse_blueprint(full())
        assert secret_sources(blueprint) == {"db-password": SecretSource(SecretSourceKind.GENERATED)}

    def test_contradictory_sources_are_refused_without_showing_them(self) -> None:
        def holder(name: str, **source: Any) -> Document:
            return {"name": name, "image": "x:1", "secrets": [{"name": "key", "envKey": "K", **source}]}

        found = errors(
            of(
                holder("a", value="hunter2"),
                holder("b", value="hunter3"),
                holder("c", value="auto-generated"),
                holder("d", valueFrom={"secret": "vault"}),
                holder("e", value="hunter2"),
                holder("f"),
            )
        )
        assert [error.field for error in found] == [f"services[{index}].secrets[0]" for index in (1, 2, 3)]
        assert not any("hunter" in str(error) for error in found)

    def test_literals_are_taken_out_before_keeping(self) -> None:
        blueprint = parse_blueprint(of(service(secrets=[{"name": "key", "envKey": "K", "value": "hunter2"}])))
        kept = without_literals(blueprint)
        assert literal_secrets(blueprint) == {"key": "hunter2"}
        assert literal_secrets(kept) == {}
        assert "hunter2" not in kept.model_dump_json()
        assert "hunter2" not in repr(blueprint)
        assert parse_blueprint(kept.model_dump(by_alias=True, mode="json")) == kept
        assert secret_sources(kept) == {"key": SecretSource(SecretSourceKind.STORED, "key")}


@pytest.mark.parametrize(
    ("image", "store"),
    [
        ("postgres:16", DataStore.POSTGRES),
        ("registry:5000/bitnami/postgresql@sha256:" + "0" * 64, DataStore.POSTGRES),
        ("mariadb", DataStore.MYSQL),
        ("valkey/valkey:8", DataStore.REDIS),
        ("mongo:7", DataStore.MONGODB),
        ("prometheuscommunity/postgres-exporter", None),
        ("postgres.example.com/app:1", None),
        ("nginx", None),
    ],
)
def test_the_store_is_told_from_the_image(image: str, store: DataStore | None) -> None:
    assert Service(name="x", image=image).store is store


def test_paths_are_rendered_as_written() -> None:
    assert render_path(("services", 0, "ports", 1, "containerPort")) == "services[0].ports[1].containerPort"
    assert render_path(("labels", 'a.b/"c"')) == 'labels["a.b/\\"c\\""]'
    assert render_path(()) == ""


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3)))
@examples(200)
def test_a_cycle_is_found_exactly_when_there_is_one(edges: dict[str, list[str]]) -> None:
    cycles = list(find_cycles(edges))
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert all(after in edges[before] for before, after in itertools.pairwise(cycle))
    rest = dict(edges)
    while True:
        free = [node for node, needs in rest.items() if not any(need in rest for need in needs)]
        if not free:
            break
        for node in free:
            del rest[node]
    assert bool(rest) == bool(cycles)


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("auto-generated")
)
_KEYS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "name",
            "services",
            "image",
            "ports",
            "containerPort",
            "env",
            "secrets",
            "envKey",
            "value",
            "valueFrom",
            "secret",
            "volumes",
            "type",
            "size",
            "files",
            "plans",
        ]
    ),
    st.booleans(),
    st.integers(),
    st.none(),
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=30,
)


def _mutate(document: Any, path: tuple[int, ...], value: object) -> Any:
    """Put `value` at one place of the document, found by taking each number modulo the entries there."""
    if not path or not isinstance(document, dict | list) or not document:
        return value
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[path[0] % len(keys)]
    document[key] = _mutate(document[key], path[1:], value)
    return document


@given(_ANYTHING)
@examples(150)
def test_nothing_but_faults_comes_of_any_input(document: object) -> None:
    found = _faults_or_blueprint(document, None)
    if not isinstance(found, Blueprint):
        assert found
        json.dumps([error.model_dump(mode="json") for error in found])


def _faults_or_blueprint(document: object, plan: str | None) -> Blueprint | tuple[FieldError, ...]:
    try:
        return parse_blueprint(document, plan=plan)
    except BlueprintInvalid as invalid:
        return invalid.errors


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 50), min_size=1, max_size=7).map(tuple), _ANYTHING), max_size=4
    ),
    st.sampled_from([None, "production", "absent"]),
)
@examples(150)
def test_a_good_document_with_damage_is_read_or_refused(
    damage: list[tuple[tuple[int, ...], object]], plan: str | None
) -> None:
    document: Any = full()
    for path, value in damage:
        document = _mutate(document, path, value)
    found = _faults_or_blueprint(document, plan)
    if isinstance(found, Blueprint):
        assert parse_blueprint(json.loads(json.dumps(found.model_dump(by_alias=True, mode="json")))) == found
    else:
        assert found
        assert len({(error.path, error.message) for error in found}) == len(found)
