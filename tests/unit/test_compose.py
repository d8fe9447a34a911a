from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.examples import examples
from workflows.domain.blueprint import (
    Blueprint,
    Condition,
    ServiceKind,
    VolumeType,
    literal_secrets,
    parse_blueprint,
)
from workflows.domain.compose import ComposeImport, import_compose
from workflows.domain.compose_values import (
    ComposeValueError,
    Interpolation,
    byte_quantity,
    env_file,
    port_mapping,
    seconds,
)

Document = dict[str, Any]

LARGE = """
name: project
version: "3.9"
x-common: &common {restart: always}
services:
  web:
    <<: *common
    image: example/web:${TAG:-1.0}
    build: {context: ., args: {A: b}}
    container_name: the-web
    entrypoint: /entry.sh --flag "two words"
    command: [serve, "$(NOT_A_VARIABLE)", 8]
    environment: {A: one, NUMBER: 3, FLAG: true, INHERITED: null, PATH_IN: "$$HOME"}
    env_file: [common.env, {path: extra.env, required: false}]
    ports: ["8080:80", "127.0.0.1:53:53/udp", {target: 9000, published: "9001", protocol: tcp, name: admin}]
    expose: ["7000-7001"]
    depends_on:
      db: {condition: service_healthy, restart: true}
      job: {condition: service_completed_successfully}
    networks: [front]
    labels: {a.b: c}
    configs: [{source: settings, target: /etc/app/settings.ini, mode: 0440}, other]
    deploy:
      mode: replicated
      replicas: 2
      resources: {limits: {cpus: "1.5", memory: 1gb, pids: 5}, reservations: {cpus: 0.25, memory: 64m}}
      update_config: {parallelism: 1}
    user: "1000"
    ulimits: {nofile: {soft: 1, hard: 2}}
  job:
    image: example/job:1
    restart: on-failure
    ports: ["1:1"]
    healthcheck: {test: [CMD, "true"]}
    volumes: ["data:/data"]
    depends_on: [db]
  db:
    image: postgres:16
    restart: "no"
    ports: ["5432:5432"]
    environment: [POSTGRES_USER=app, POSTGRES_PASSWORD_FILE=/run/secrets/db_password]
    volumes:
      - "data:/var/lib/postgresql/data:ro"
      - ./init:/docker-entrypoint-initdb.d
      - /scratch
      - {type: volume, source: more, target: /more, volume: {nocopy: true}}
      - {type: tmpfs, target: /t, tmpfs: {size: 5}}
    tmpfs: /run
    healthcheck: {test: pg_isready, interval: 1m30s, timeout: 500ms, retries: 4, start_period: 5s}
    secrets: [db_password, {source: api_key, target: key, uid: "7"}]
    deploy: {replicas: 3}
  debug_tool:
    image: busybox
    profiles: [debug]
    extends: {file: other.yml, service: base}
networks: {front: {driver: bridge}}
volumes: {data: {}, more: {driver: local}}
secrets: {db_password: {file: ./pw.txt}, api_key: {environment: API_KEY}}
configs: {settings: {content: "a=1"}, other: {file: ./other.ini}}
"""
FILES = {"common.env": "export C=1\n# note\nD='two words'\n", "./pw.txt": "hunter2"}
PARSED: Document = yaml.safe_load(LARGE)


def large(document: object = PARSED, **options: Any) -> ComposeImport:
    return import_compose(document, name="shop", **{"env_files": FILES, "profiles": ["debug"], **options})


def one(**fields: Any) -> ComposeImport:
    return import_compose({"services": {"app": {"image": "example/app:1", **fields}}}, name="env")


def blueprint_of(result: ComposeImport) -> Blueprint:
    assert result.errors == ()
    return parse_blueprint(result.blueprint_document)


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    entries = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    if not entries:
        yield path, value
    for key, child in entries:
        yield from leaves(child, (*path, key))


def without(document: Document, path: tuple[str | int, ...]) -> Document:
    changed = copy.deepcopy(document)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


class TestLarge:
    def test_all_that_can_be_carried_over_is(self) -> None:
        blueprint = blueprint_of(large())
        web, job, db = (blueprint.service(name) for name in ("web", "job", "db"))
        assert web.image == "example/web:1.0"
        assert web.command == ("/entry.sh", "--flag", "two words")
        assert web.args == ("serve", "$$(NOT_A_VARIABLE)", "8")
        assert web.env == {
            "C": "1",
            "D": "two words",
            "A": "one",
            "NUMBER": "3",
            "FLAG": "true",
            "PATH_IN": "$HOME",
        }
        assert [(port.container_port, port.protocol.value, port.name) for port in web.ports] == [
            (80, "TCP", None),
            (53, "UDP", None),
            (9000, "TCP", "admin"),
            (7000, "TCP", None),
            (7001, "TCP", None),
        ]
        assert web.exposed_port is not None
        assert web.exposed_port.container_port == 80
        assert {name: needs.condition for name, needs in web.depends_on.items()} == {
            "db": Condition.READY,
            "job": Condition.COMPLETED,
        }
        assert web.replicas == 2
        assert (web.resources.cpu, web.resources.memory) == ("0.25", "64Mi")
        assert (web.resources.limits.cpu, web.resources.limits.memory) == ("1.5", "1Gi")
        assert [(volume.mount_path, volume.files) for volume in web.volumes] == [
            ("/etc/app", {"settings.ini": "a=1"})
        ]
        assert job.kind is ServiceKind.JOB
        assert job.depends_on["db"].condition is Condition.STARTED
        assert db.exposure is None
        assert db.env == {"POSTGRES_USER": "app"}
        assert [(secret.name, secret.env_key, secret.literal) for secret in db.secrets] == [
            ("db-password", "POSTGRES_PASSWORD", "hunter2"),
            ("api-key", "API_KEY", None),
        ]
        assert [(volume.name, volume.type) for volume in db.volumes] == [
            ("data", VolumeType.PVC),
            ("scratch", VolumeType.EMPTY_DIR),
            ("more", VolumeType.PVC),
            ("scratch-2", VolumeType.EMPTY_DIR),
            ("tmpfs", VolumeType.EMPTY_DIR),
        ]
        assert db.probes.readiness is not None
        assert db.probes.readiness.exec is not None
        assert db.probes.readiness.exec.command == ("sh", "-c", "pg_isready")
        assert (db.probes.readiness.period_seconds, db.probes.readiness.timeout_seconds) == (90, 1)
        assert blueprint.service("debug-tool").image == "busybox"

    def test_what_cannot_be_is_listed_in_document_order(self) -> None:
        assert [entry.field for entry in large().unsupported] == [
            "version",
            "services.web.build",
            "services.web.container_name",
            "services.web.environment.INHERITED",
            "services.web.env_file[1]",
            "services.web.ports[2].published",
            "services.web.depends_on.db.restart",
            "services.web.networks",
            "services.web.labels",
            "services.web.configs[0].mode",
            "services.web.configs[1]",
            "services.web.deploy.resources.limits.pids",
            "services.web.deploy.update_config",
            "services.web.user",
            "services.web.ulimits",
            "services.job.ports",
            "services.job.healthcheck",
            "services.job.volumes[0]",
            "services.db.restart",
            "services.db.volumes[1]",
            "services.db.volumes[3].volume",
            "services.db.volumes[4].tmpfs",
            "services.db.healthcheck.start_period",
            "services.db.secrets[1].uid",
            "services.db.deploy.replicas",
            "services.debug_tool.extends",
            "networks",
            "volumes.more.driver",
            "configs.other.file",
        ]

    @pytest.mark.parametrize("path", [path for path, _ in leaves(PARSED)], ids=str)
    def test_each_leaf_changes_the_result_or_is_listed(self, path: tuple[str | int, ...]) -> None:
        result = large()
        if any(path[: len(entry.path)] == entry.path for entry in result.unsupported):
            return
        other = large(without(PARSED, path))
        changed = (other.blueprint_document, other.notes, other.errors) != (
            result.blueprint_document,
            result.notes,
            result.errors,
        )
        # Saying what is the case anyway loses nothing.
        defaults = {"restart", "mode", "protocol", "profiles", "type", "x-common"}
        assert changed or defaults & set(path) or path == ("volumes", "data"), path

    def test_no_note_shows_a_secret(self) -> None:
        result = large(variables={"API_KEY": "hunter3"})
        assert "hunter" not in " ".join([*result.notes, *(entry.reason for entry in result.unsupported)])


class TestErrors:
    @pytest.mark.parametrize(
        ("document", "field", "part"),
        [
            (None, "", "mapping"),
            ([], "", "mapping"),
            ({}, "", "has services"),
            ({"services": {"a": {"build": "."}}}, "services.a.build", 'the service "a" is built'),
            ({"services": {"a": {}}}, "services.a", "no image"),
            (
                {"services": {"a": {"image": "x", "env_file": "a.env"}}},
                "services.a.env_file",
                "a.env is needed",
            ),
            ({"services": {"a": {"image": "${TAG:?}"}}}, "services.a.image", "TAG is required"),
            ({"services": {"a": {"image": "x", "depends_on": ["b"]}}}, "services.a.depends_on[0]", '"b"'),
            ({"services": {"a_b": {"image": "x"}, "a-b": {"image": "y"}}}, "services.a-b", "no free"),
        ],
    )
    def test_what_stops_an_import_is_an_error_with_its_place(
        self, document: object, field: str, part: str
    ) -> None:
        found = import_compose(document, name="env").errors
        assert [error.field for error in found] == [field]
        assert part in found[0].message

    def test_a_built_service_takes_the_image_of_the_caller(self) -> None:
        document = {"services": {"a": {"build": "."}}}
        result = import_compose(document, name="env", images={"a": "example/a:1"})
        assert blueprint_of(result).service("a").image == "example/a:1"
        assert [entry.field for entry in result.unsupported] == ["services.a.build"]

    def test_a_service_whose_profile_is_not_active_is_listed(self) -> None:
        result = large(profiles=[])
        assert "services.debug_tool" in [entry.field for entry in result.unsupported]
        assert [item.name for item in blueprint_of(result).services] == ["web", "job", "db"]


class TestForms:
    def test_a_list_of_dependencies_waits_for_the_start(self) -> None:
        document = {"services": {"a": {"image": "x:1", "depends_on": ["b"]}, "b": {"image": "y:1"}}}
        blueprint = blueprint_of(import_compose(document, name="env"))
        assert blueprint.service("a").depends_on["b"].condition is Condition.STARTED

    def test_the_environment_wins_over_env_files(self) -> None:
        document = {"services": {"a": {"image": "x:1", "env_file": "e", "environment": ["A=2"]}}}
        blueprint = blueprint_of(import_compose(document, name="env", env_files={"e": "A=1\nB=1"}))
        assert blueprint.service("a").env == {"A": "2", "B": "1"}

    @pytest.mark.parametrize(
        ("test", "command"),
        [
            (["CMD", "a", "b"], ("a", "b")),
            (["CMD-SHELL", "a | b"], ("sh", "-c", "a | b")),
            ("a | b", ("sh", "-c", "a | b")),
        ],
    )
    def test_health_checks_become_readiness(self, test: object, command: tuple[str, ...]) -> None:
        probe = blueprint_of(one(healthcheck={"test": test})).service("app").probes.readiness
        assert probe is not None
        assert probe.exec is not None
        assert probe.exec.command == command

    def test_an_unset_variable_is_empty_and_noted(self) -> None:
        assert any("TAG" in note for note in one(command="x $TAG").notes)

    def test_a_limit_below_its_reservation_is_listed(self) -> None:
        result = one(deploy={"resources": {"limits": {"memory": "64m"}, "reservations": {"memory": "1g"}}})
        assert [entry.field for entry in result.unsupported] == [
            "services.app.deploy.resources.reservations.memory"
        ]
        assert blueprint_of(result)


class TestValues:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("$A-${A}", "1-1"),
            ("$$A", "$A"),
            ("${B:-x}${EMPTY:-y}${EMPTY-z}", "xy"),
            ("${A:+x}${B+y}", "x"),
            ("${B:-${A:-q}}", "1"),
            ("100$", "100$"),
            ("${A:?no}", "1"),
        ],
    )
    def test_variables(self, text: str, expected: str) -> None:
        assert Interpolation({"A": "1", "EMPTY": ""}, []).apply(text) == expected

    @pytest.mark.parametrize("text", ["${", "${A", "${1}", "${A!x}", "${B:?}", "${B?}"])
    def test_bad_variables(self, text: str) -> None:
        with pytest.raises(ComposeValueError):
            Interpolation({"A": "1"}, []).apply(text)

    def test_durations_and_sizes(self) -> None:
        assert [seconds(text) for text in ("1m30s", "500ms", "2h")] == [90, 1, 7200]
        assert [byte_quantity(size) for size in ("512m", "1gb", "1GiB", 1024, "7b")] == [
            "512Mi",
            "1Gi",
            "1Gi",
            "1024",
            "7",
        ]

    def test_ports(self) -> None:
        assert port_mapping("[::1]:80-81:90-91/udp").ports == (90, 91)
        assert port_mapping("[::1]:80-81:90-91/udp").host == "[::1]:80-81"
        for text in ("0", "70000", "a", "1:2:3", "5-3", "1-60000"):
            with pytest.raises(ComposeValueError):
                port_mapping(text)

    def test_env_files_name_the_line_and_not_the_value(self) -> None:
        assert env_file("A=1 # x\nB=\"a # b\"\nC='it'\nD=#x\n") == {
            "A": "1",
            "B": "a # b",
            "C": "it",
            "D": "",
        }
        with pytest.raises(ComposeValueError, match="line 2") as caught:
            env_file("A=1\nhunter2")
        assert "hunter2" not in str(caught.value)


_WORDS = st.text("abcXYZ0189_.-/:$ {}()é", max_size=12)
_VALID_SERVICES = st.fixed_dictionaries(
    {"image": st.sampled_from(["nginx", "postgres:16", "example.com:5000/a/b:1@sha256:" + "0" * 64])},
    optional={
        "command": st.lists(st.text("abc$() ", max_size=8), max_size=3) | st.sampled_from(["a b", "x 'y z'"]),
        "environment": st.dictionaries(
            st.from_regex(r"[A-Z][A-Z_]{0,5}", fullmatch=True), st.text("ab$(", max_size=5)
        )
        | st.lists(st.sampled_from(["A=1", "B=", "C"]), unique=True),
        "ports": st.lists(
            st.sampled_from(["80", "8080:80", "53:53/udp", 90, "3000-3002", {"target": 80, "published": 1}]),
            max_size=4,
        ),
        "volumes": st.lists(
            st.sampled_from(["a:/a", "b:/b:ro", "./x:/x", "/y", {"type": "tmpfs", "target": "/t"}]),
            max_size=4,
        ),
        "tmpfs": st.sampled_from(["/run", ["/a", "/tmp"]]),
        "healthcheck": st.sampled_from(
            [{"test": "x", "interval": "5s"}, {"disable": True}, {"test": ["NONE"]}]
        ),
        "deploy": st.sampled_from(
            [{"replicas": 3}, {"resources": {"limits": {"cpus": "0.5", "memory": "64M"}}}]
        ),
        "secrets": st.lists(st.sampled_from(["s1", {"source": "s2", "target": "x"}]), max_size=2),
        "configs": st.lists(st.sampled_from(["c1", {"source": "c1", "target": "/etc/x/y"}]), max_size=2),
        "restart": st.sampled_from(["always", "no", "on-failure"]),
    },
)


@given(
    st.lists(_VALID_SERVICES, min_size=1, max_size=4),
    st.sampled_from(["service_started", "service_healthy", "service_completed_successfully"]),
)
@examples(100)
def test_a_valid_compose_file_gives_a_valid_blueprint(services: list[Document], condition: str) -> None:
    named = {f"svc_{index}": service for index, service in enumerate(services)}
    for index in range(1, len(services)):
        named[f"svc_{index}"] = {
            **services[index],
            "depends_on": {f"svc_{index - 1}": {"condition": condition}},
        }
    document = {
        "services": named,
        "volumes": {"a": None, "b": {}},
        "secrets": {"s1": {"external": True}, "s2": {"file": "f"}},
        "configs": {"c1": {"content": "text"}},
    }
    # A dollar sign begins a variable: the values here are meant as they stand.
    escaped = json.loads(json.dumps(document).replace("$", "$$"))
    assert blueprint_of(import_compose(escaped, name="env")).services


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            _WORDS | st.integers() | st.sampled_from(["source", "target", "type", "image"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@given(st.lists(st.tuples(st.lists(st.integers(0, 40), min_size=1, max_size=6), _ANYTHING), max_size=4))
@examples(120)
def test_no_document_makes_the_import_raise(damage: list[tuple[list[int], object]]) -> None:
    document: Any = copy.deepcopy(PARSED)
    for steps, value in damage:
        place: Any = document
        for depth, step in enumerate(steps):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = keys[step % len(keys)]
            if depth == len(steps) - 1 or not isinstance(place[key], dict | list):
                place[key] = value
                break
            place = place[key]
    result = large(document)
    json.dumps(result.model_dump(mode="json"))


def test_the_example_is_imported() -> None:
    document = yaml.safe_load((Path(__file__).parents[2] / "examples" / "compose.yaml").read_text())
    result = import_compose(document, name="notes", env_files={"web.env": "A=1"})
    assert len(blueprint_of(result).services) == 3
    assert [entry.field for entry in result.unsupported] == [
        "services.web.volumes[0]",
        "services.web.develop",
    ]


def test_the_example_is_valid_as_the_readme_imports_it() -> None:
    document = yaml.safe_load((Path(__file__).parents[2] / "examples" / "compose.yaml").read_text())
    result = import_compose(document, name="notes", variables={"DB_PASSWORD": "change-me"})
    assert result.errors == ()
    blueprint = parse_blueprint(result.blueprint_document)
    assert literal_secrets(blueprint) == {"db-password": "change-me"}
    assert blueprint.service("db").secrets[0].env_key == "POSTGRES_PASSWORD"
