"""Discovery: what Compose files, manifests and Dockerfiles become; nothing is lost, and no secret told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from api.bodies import MAX_NODES, DocumentInvalid, YamlReader
from tests.helpers.examples import examples
from workflows.domain.blueprint import Blueprint, ServiceKind, VolumeType, parse_blueprint
from workflows.domain.discover import Discovery, Wish, discover
from workflows.domain.discover_files import LARGEST_FILE, compose_rank, kind_by_name, wanted
from workflows.domain.discover_found import SourceFile
from workflows.domain.discover_report import NoteKind, SourceKind
from workflows.domain.dockerfile import DockerfileInvalid, read_dockerfile

CANARY = "planted-3b9f-value"


COMPOSE_WEB = "services: {web: {image: 'a:1'}}\n"


def found(files: Mapping[str, str], **wish: Any) -> Discovery:
    """Discover in files by path."""
    return discover(
        [SourceFile(path, text) for path, text in files.items()],
        YamlReader(),
        Wish(**{"name": "env", **wish}),
    )


def manifests(*objects: dict[str, Any], **wish: Any) -> Discovery:
    """Discover in one file of manifests."""
    return found({"all.yaml": yaml.safe_dump_all(objects)}, **wish)


def valid(discovery: Discovery) -> Blueprint:
    """The Blueprint, which has to be valid."""
    assert discovery.faults == ()
    assert discovery.blueprint is not None
    return discovery.blueprint


def thing(kind: str, name: str, **body: Any) -> dict[str, Any]:
    """An object."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **body}


def workload(
    name: str = "web", kind: str = "Deployment", pod: Mapping[str, Any] = {}, **container: Any
) -> dict[str, Any]:
    """A workload with one container."""
    return thing(
        kind,
        name,
        spec={
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "x:1", **container}], **pod},
            },
        },
    )


def left(discovery: Discovery) -> dict[str, str]:
    """What was not carried over, by its place."""
    return {each.place: each.reason for each in discovery.left}


def notes(discovery: Discovery, kind: NoteKind) -> list[str]:
    """The notes of a kind."""
    return [note.message for note in discovery.notes if note.kind is kind]


# Which files


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("compose.yaml", SourceKind.COMPOSE),
        ("a/docker-compose.prod.yml", SourceKind.COMPOSE),
        ("Dockerfile", SourceKind.DOCKERFILE),
        ("a/Dockerfile.worker", SourceKind.DOCKERFILE),
        ("worker.Dockerfile", SourceKind.DOCKERFILE),
        ("Dockerfile.dockerignore", None),
        ("Containerfile", SourceKind.DOCKERFILE),
        ("charts/x/Chart.yaml", SourceKind.HELM),
        ("k8s/kustomization.yaml", SourceKind.KUSTOMIZE),
        ("k8s/web.yml", SourceKind.KUBERNETES),
        ("main.go", None),
    ],
)
def test_files_are_told_by_their_names(path: str, kind: SourceKind | None) -> None:
    assert kind_by_name(path) is kind


def test_other_peoples_files_are_not_wanted() -> None:
    assert wanted("a/b/compose.yaml")
    assert wanted("web.env")
    for path in ("node_modules/a/compose.yaml", ".github/workflows/ci.yaml", "vendor/Dockerfile", "a.go"):
        assert not wanted(path)


def test_compose_files_near_the_root_come_first_and_then_as_compose_prefers_them() -> None:
    paths = ["a/compose.yaml", "docker-compose.yml", "compose.override.yaml", "compose.yml", "compose.yaml"]
    assert sorted(paths, key=compose_rank) == [
        *("compose.yaml", "compose.yml", "docker-compose.yml", "compose.override.yaml", "a/compose.yaml")
    ]


# Which source


def test_one_kind_is_taken_and_the_others_are_said() -> None:
    texts = {
        "Dockerfile": "FROM x",
        "web.yaml": yaml.safe_dump(workload()),
        "compose.yaml": "services: {c: {image: x:1}}",
        "compose.override.yaml": "services: {c: {image: x:2}}",
        "chart/Chart.yaml": "apiVersion: v2\nname: x\n",
        "chart/templates/web.yaml": "{{ not yaml",
        "chart/templates/crd.yaml": yaml.safe_dump(workload("of-the-chart")),
        "ci.yaml": "steps: []",
    }
    discovery = found(texts)
    assert [source.file for source in discovery.sources if source.used] == ["compose.yaml"]
    assert notes(discovery, NoteKind.CHOSEN) == [
        "compose was taken, not kubernetes and dockerfile: the order is compose, kubernetes, dockerfile"
    ]
    about = {note.file for note in discovery.notes if note.kind is NoteKind.LEFT}
    assert about == {"Dockerfile", "web.yaml", "compose.override.yaml", ""}
    assert [each.file for each in discovery.left] == ["chart/Chart.yaml"]
    assert valid(discovery).services[0].image == "x:1"
    del texts["compose.yaml"], texts["compose.override.yaml"]
    assert valid(found(texts)).services[0].name == "web"
    del texts["web.yaml"]
    assert [source.file for source in found(texts).sources if source.used] == ["Dockerfile"]


def test_manifests_that_run_nothing_are_no_source() -> None:
    discovery = found({"a.yaml": yaml.safe_dump(thing("ConfigMap", "c")), "Dockerfile": "FROM x"})
    assert [source.kind for source in discovery.sources if source.used] == [SourceKind.DOCKERFILE]


def test_a_compose_file_that_cannot_be_read_is_a_fault_and_not_passed_over() -> None:
    discovery = found({"compose.yaml": "services: {", "web.yaml": yaml.safe_dump(workload())})
    assert [fault.file for fault in discovery.faults] == ["compose.yaml"]
    assert discovery.document is None
    valid(
        found(
            {"compose.yaml": "services: {", "web.yaml": yaml.safe_dump(workload())},
            kind=SourceKind.KUBERNETES,
        )
    )


@pytest.mark.parametrize(
    ("files", "kind", "says", "suggests"),
    [
        (
            {"Dockerfile": "FROM x\n"},
            SourceKind.COMPOSE,
            "there is no Compose file, as",
            "ask for dockerfile,",
        ),
        (
            {"Dockerfile": "FROM x\n", "web.yaml": yaml.safe_dump(workload())},
            SourceKind.COMPOSE,
            "there is no Compose file, as",
            "ask for kubernetes or dockerfile,",
        ),
        ({"notes.yaml": "x: 1\n"}, SourceKind.KUBERNETES, "there is no Kubernetes workload to", "name the"),
        (
            {"notes.yaml": "x: 1\n"},
            None,
            "there is no Compose file, no Kubernetes workload and no Dockerfile to",
            "name the directory",
        ),
    ],
)
def test_without_a_source_what_was_asked_for_and_what_there_is_are_named(
    files: Mapping[str, str], kind: SourceKind | None, says: str, suggests: str
) -> None:
    (fault,) = found(files, kind=kind).faults
    assert fault.error.message.startswith(says)
    assert (fault.error.suggestion or "").startswith(suggests)


def test_files_are_measured_in_bytes() -> None:
    compose = COMPOSE_WEB + "# " + "ä" * (LARGEST_FILE // 2)
    assert len(compose) < LARGEST_FILE
    (note,) = notes(found({"compose.yaml": compose}), NoteKind.UNREADABLE)
    assert "larger than 512 KiB" in note


def test_secrets_of_a_compose_file_become_references() -> None:
    compose = "services: {a: {image: x:1, secrets: [key]}}\nsecrets: {key: {file: key.env}}\n"
    discovery = found({"compose.yaml": compose, "key.env": CANARY})
    (secret,) = valid(discovery).services[0].secrets
    assert secret.value_from is not None
    assert CANARY not in repr(discovery)
    assert any("perdure secret set key" in note for note in notes(discovery, NoteKind.SECRET))


def test_env_files_are_found_beside_the_compose_file() -> None:
    compose = "name: p\nservices: {a: {image: 'x:${TAG}', env_file: [../common.env, ./own.env]}}"
    discovery = found(
        {"d/compose.yaml": compose, "common.env": "A=1\nB=1", "d/own.env": "B=2", "d/.env": "TAG=7"},
        name=None,
    )
    blueprint = valid(discovery)
    assert blueprint.name == "p"
    assert blueprint.services[0].image == "x:7"
    assert blueprint.services[0].env == {"A": "1", "B": "2"}


# Kubernetes


def test_a_workload_with_what_belongs_to_it() -> None:
    discovery = manifests(
        workload(
            "web-deployment",
            pod={
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
                    {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "a", "path": "a.ini"}]}},
                ],
                "imagePullSecrets": [{"name": "corp"}],
            },
            command=["web"],
            args=["--port", "8080"],
            ports=[{"containerPort": 8080, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}],
            env=[
                {"name": "PLAIN", "value": "$(HOST):1"},
                {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
            ],
            envFrom=[{"configMapRef": {"name": "more"}, "prefix": "P_"}, {"secretRef": {"name": "all"}}],
            resources={"requests": {"cpu": 0.5, "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            readinessProbe={
                "httpGet": {"path": "/ok", "port": "http", "scheme": "HTTPS"},
                "periodSeconds": 2,
            },
            livenessProbe={"tcpSocket": {"port": 9090}, "initialDelaySeconds": 5},
            startupProbe={"exec": {"command": ["true"]}, "failureThreshold": 30},
            volumeMounts=[
                {"name": "data", "mountPath": "/data"},
                {"name": "tmp", "mountPath": "/scratch"},
                {"name": "conf", "mountPath": "/etc/app", "readOnly": True},
            ],
        ),
        thing(
            "Service",
            "web",
            spec={"selector": {"app": "web-deployment"}, "ports": [{"port": 80, "targetPort": "http"}]},
        ),
        thing("ConfigMap", "conf", data={"a": "x = 1"}),
        thing("ConfigMap", "more", data={"ONE": "1"}),
        thing("Secret", "db", stringData={"password": CANARY}),
        thing("Secret", "all", data={"A_KEY": CANARY, "B_KEY": CANARY}),
        thing(
            "PersistentVolumeClaim",
            "data",
            spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
        ),
        thing(
            "Ingress",
            "web",
            spec={
                "rules": [
                    {
                        "http": {
                            "paths": [
                                {
                                    "path": "/app",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                                }
                            ]
                        }
                    }
                ]
            },
        ),
    )
    (service,) = valid(discovery).services
    assert discovery.left == ()
    assert service.name == "web"
    assert (service.command, service.args) == (("web",), ("--port", "8080"))
    assert [(port.container_port, port.name, port.protocol.value) for port in service.ports] == [
        *((8080, "http", "TCP"), (53, None, "UDP"), (9090, None, "TCP"))
    ]
    assert service.env == {"PLAIN": "$(HOST):1", "LEVEL": "x = 1", "P_ONE": "1"}
    assert {secret.env_key: secret.value_from.secret for secret in service.secrets if secret.value_from} == {
        "A_KEY": "all-a-key",
        "B_KEY": "all-b-key",
        "PASSWORD": "db-password",
    }
    assert service.resources.model_dump(exclude_none=True) == {
        "cpu": "0.5",
        "memory": "64Mi",
        "limits": {"memory": "128Mi"},
    }
    probes = service.probes
    assert probes.readiness is not None
    assert probes.readiness.http is not None
    assert (probes.readiness.http.port, probes.readiness.http.scheme.value) == (8080, "HTTPS")
    assert probes.readiness.period_seconds == 2
    assert probes.liveness is not None
    assert probes.startup is not None
    assert probes.startup.failure_threshold == 30
    assert [(volume.type, volume.size, volume.mount_path) for volume in service.volumes] == [
        (VolumeType.PVC, "2Gi", "/data"),
        (VolumeType.EMPTY_DIR, "64Mi", "/scratch"),
        (VolumeType.FILES, None, "/etc/app"),
    ]
    assert service.volumes[2].files == {"a.ini": "x = 1"}
    assert service.exposure is not None
    assert (service.exposure.port, service.exposure.path) == (8080, "/app")
    assert service.image_pull_secrets == ("corp",)
    assert CANARY not in repr(discovery)
    assert any("web:8080 here, not at web:80" in note for note in notes(discovery, NoteKind.CHANGED))
    assert len(notes(discovery, NoteKind.SECRET)) == 4


def test_kinds_of_workloads() -> None:
    stateful = workload("db", "StatefulSet", volumeMounts=[{"name": "d", "mountPath": "/d"}])
    stateful["spec"] |= {
        "replicas": 3,
        "serviceName": "db",
        "volumeClaimTemplates": [
            {"metadata": {"name": "d"}, "spec": {"resources": {"requests": {"storage": "3Gi"}}}}
        ],
    }
    job = workload("migrate", "Job", pod={"restartPolicy": "Never"})
    job["spec"] |= {"backoffLimit": 4, "activeDeadlineSeconds": 60}
    pod = thing("Pod", "once", spec={"restartPolicy": "OnFailure", "containers": [{"image": "x:1"}]})
    blueprint = valid(manifests(stateful, workload("agent", "DaemonSet"), job, pod))
    db, agent, migrate, once = (blueprint.service(name) for name in ("db", "agent", "migrate", "once"))
    assert (db.replicas, db.replicable, db.volumes[0].size) == (3, True, "3Gi")
    assert agent.replicas == 1
    assert (migrate.kind, migrate.startup.tolerate_restarts, migrate.ready_timeout_seconds) == (
        *(ServiceKind.JOB, 4, 60),
    )
    assert once.kind is ServiceKind.JOB


def test_lists_and_several_files_and_repeated_objects() -> None:
    items = [workload("a"), workload("b")]
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    typed = {
        "apiVersion": "v1",
        "kind": "SecretList",
        "items": [{"metadata": {"name": "s"}, "data": {"k": CANARY}}],
    }
    discovery = found(
        {
            "base/all.yaml": yaml.safe_dump_all([whole, None, typed]),
            "overlays/test/a.yaml": yaml.safe_dump(workload("a", image="other:2")),
        }
    )
    assert [(service.name, service.image) for service in valid(discovery).services] == [
        ("a", "x:1"),
        ("b", "x:1"),
    ]
    (repeated,) = [each for each in discovery.left if each.file == "overlays/test/a.yaml"]
    assert "base/all.yaml" in repeated.reason
    assert CANARY not in repr(discovery)


def test_what_has_no_counterpart_is_listed_with_its_place() -> None:
    web = workload(
        pod={
            "initContainers": [{"name": "i", "image": "x"}],
            "serviceAccountName": "robot",
            "nodeSelector": {"disk": "ssd"},
            "dnsPolicy": "ClusterFirst",
            "volumes": [
                {"name": "host", "hostPath": {"path": "/"}},
                {"name": "s", "secret": {"secretName": "x"}},
            ],
        },
        env=[
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "nowhere", "key": "k"}}},
            {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k", "optional": True}}},
        ],
        envFrom=[{"secretRef": {"name": "unknown"}}],
        volumeMounts=[{"name": "host", "mountPath": "/host"}, {"name": "s", "mountPath": "/s"}],
        readinessProbe={"grpc": {"port": 1}},
        lifecycle={"preStop": {"exec": {"command": ["x"]}}},
        unheardOf=1,
    )
    web["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "y:1"})
    web["metadata"]["annotations"] = {"a": "b"}
    discovery = manifests(
        web,
        thing("CronJob", "nightly", spec={}),
        thing(
            "Ingress",
            "i",
            spec={
                "rules": [{"host": "x.test", "http": {"paths": [{"backend": {"service": {"name": "no"}}}]}}]
            },
        ),
        thing("Service", "lost", spec={"selector": {"app": "nobody"}}),
        thing("Widget", "w"),
        thing("ConfigMap", "unused", data={"a": "b"}),
    )
    valid(discovery)
    pod = "[0].spec.template.spec"
    assert left(discovery).keys() == {
        "[0].metadata.annotations",
        f"{pod}.initContainers",
        f"{pod}.serviceAccountName",
        f"{pod}.nodeSelector",
        f"{pod}.volumes",
        f"{pod}.containers[0].env[0]",
        f"{pod}.containers[0].env[1]",
        f"{pod}.containers[0].env[2]",
        f"{pod}.containers[0].envFrom[0]",
        f"{pod}.containers[0].volumeMounts[0]",
        f"{pod}.containers[0].volumeMounts[1]",
        f"{pod}.containers[0].readinessProbe",
        f"{pod}.containers[0].lifecycle",
        f"{pod}.containers[0].unheardOf",
        f"{pod}.containers[1]",
        *("[1]", "[2].spec.rules[0].host", "[2].spec.rules[0].http.paths[0]", "[3]", "[4]", "[5]"),
    }


def test_patches_of_a_kustomization_are_no_objects() -> None:
    discovery = found(
        {
            "k/web.yaml": yaml.safe_dump(workload(image="x:1")),
            "k/patch.yaml": yaml.safe_dump(thing("Deployment", "other", spec={"replicas": 3})),
            "k/kustomization.yaml": "resources: [web.yaml]\npatches: [{path: patch.yaml}]\nnamePrefix: d\n",
        }
    )
    assert [service.name for service in valid(discovery).services] == ["web"]
    assert [(each.file, each.place) for each in discovery.left] == [
        ("k/kustomization.yaml", "patches"),
        ("k/patch.yaml", ""),
        ("k/kustomization.yaml", "namePrefix"),
    ]


def test_databases_are_not_exposed_by_a_node_port() -> None:
    port = thing(
        "Service", "db", spec={"type": "NodePort", "selector": {"app": "db"}, "ports": [{"port": 5432}]}
    )
    assert valid(manifests(workload("db", image="postgres:16"), port)).services[0].exposure is None
    assert valid(manifests(workload("db", image="web:1"), port)).services[0].exposure is not None


def test_no_message_shows_what_a_secret_holds() -> None:
    # YAML makes a date of this, which a fault would show in its suggestion.
    dates = "{k: 1999-12-31, m: {n: 1998-12-31}}"
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {dates}\n"
    listed = "apiVersion: v1\nkind: SecretList\nitems: [{metadata: {name: t}, data: 1997-12-31}]\n"
    discovery = found({"a.yaml": f"{yaml.safe_dump(workload())}---\n{text}---\n{listed}"})
    valid(discovery)
    assert not any(year in repr(discovery) for year in ("1999", "1998", "1997"))


def test_images_are_given_by_the_name_of_the_service() -> None:
    assert valid(manifests(workload(), images={"web": "mine:9"})).services[0].image == "mine:9"


@pytest.mark.parametrize("files", [{"a.yaml": yaml.safe_dump(workload())}, {"compose.yaml": COMPOSE_WEB}])
def test_an_image_for_a_service_that_is_not_there_is_a_fault(files: dict[str, str]) -> None:
    [fault] = found(files, images={"web": "mine:9", "wbe": "mine:9"}).faults
    assert ("wbe" in fault.error.message, fault.error.suggestion) == (True, "one of web")


def test_large_settings_in_many_services_are_refused() -> None:
    users = [workload(f"s{number}", envFrom=[{"configMapRef": {"name": "c"}}]) for number in range(60)]
    discovery = manifests(*users, thing("ConfigMap", "c", data={"A": "x" * 100_000}))
    assert ["larger than 4 MiB" in fault.error.message for fault in discovery.faults] == [True]


def test_a_request_above_its_limit_is_left() -> None:
    resources = {"requests": {"cpu": 2, "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}
    discovery = manifests(workload(resources=resources))
    assert valid(discovery).services[0].resources.cpu is None
    assert left(discovery).keys() == {"[0].spec.template.spec.containers[0].resources.requests.cpu"}


# Dockerfiles


def test_the_last_stage_counts_with_what_it_stands_on() -> None:
    read = read_dockerfile(
        """\
# escape=`
ARG VERSION=3
FROM --platform=linux/amd64 golang:1 AS build
EXPOSE 1234
ENV NOT=here
FROM alpine:${VERSION} AS base
ENV A=1 B="two words"
ENV C=$A-${MISSING:-d} `
    # a comment within
    D=4
EXPOSE 8080 9000-9001/udp
RUN <<EOF
EXPOSE 1
FROM nothing
EOF
FROM base
ENV OLD form with words
ENV PATH=/x:$PATH
VOLUME ["/data", "/more"]
USER 1000
HEALTHCHECK --interval=5s --timeout=90s --retries=2 CMD curl -f localhost
ENTRYPOINT ["run"]
"""
    )
    last = read.last
    assert read.stages == 3
    assert last.env == {"A": "1", "B": "two words", "C": "1-d", "D": "4", "OLD": "form with words"}
    assert last.ports == ((8080, "TCP"), (9000, "UDP"), (9001, "UDP"))
    assert last.volumes == ("/data", "/more")
    assert (last.user, last.entrypoint) == ("1000", '["run"]')
    assert last.health is not None
    assert last.health.command == ("/bin/sh", "-c", "curl -f localhost")
    assert (last.health.interval, last.health.timeout, last.health.retries) == (5, 90, 2)
    assert [remark.line for remark in read.remarks] == [18]


@pytest.mark.parametrize("text", ["", "RUN x", "EXPOSE 1\nFROM x", "ENV A=1\n" * 3])
def test_what_is_no_dockerfile(text: str) -> None:
    with pytest.raises(DockerfileInvalid):
        read_dockerfile(text)


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nENV A=" + "x" * 1000 + "\n" + "".join(f"ENV A{n}=$A$A\n" for n in range(500)),
        "FROM x\nENV " + " ".join(f"A{n}=1" for n in range(2_000)),
        "FROM x\n" + "EXPOSE 1\n" * 3_000,
    ],
)
def test_dockerfiles_that_grow_are_refused(text: str) -> None:
    with pytest.raises(DockerfileInvalid, match=r"more than|larger than"):
        read_dockerfile(text)


def test_services_are_called_after_their_directories() -> None:
    text = "FROM x:1\nEXPOSE 80\nVOLUME /d\nENV A=$(x)\n"
    names = ("Dockerfile", "api/Dockerfile", "api/Dockerfile.worker", "jobs/api/Dockerfile", "db.Dockerfile")
    images = {name: f"r.test/{name}:1" for name in ("env", "api", "api-worker", "api-2", "db")}
    blueprint = valid(found(dict.fromkeys(names, text), images=images))
    assert {service.name for service in blueprint.services} == images.keys()
    service = blueprint.service("env")
    assert service.exposed_port is not None
    assert service.env == {"A": "$$(x)"}
    assert service.volumes[0].type is VolumeType.EMPTY_DIR


# Anything


KEYS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "namespace",
        "labels",
        "spec",
        "template",
        "containers",
        "image",
        "env",
        "envFrom",
        "value",
        "valueFrom",
        "secretKeyRef",
        "configMapKeyRef",
        "key",
        "optional",
        "ports",
        "items",
        "containerPort",
        "port",
        "targetPort",
        "selector",
        "rules",
        "http",
        "paths",
        "backend",
        "service",
        "volumes",
        "volumeMounts",
        "mountPath",
        "configMap",
        "persistentVolumeClaim",
        "claimName",
        "emptyDir",
        "data",
        "type",
        "readinessProbe",
        "httpGet",
        "tcpSocket",
        "exec",
        "command",
        "resources",
        "limits",
        "memory",
        "replicas",
        "app",
        "volumeClaimTemplates",
        "secretRef",
        "configMapRef",
        "number",
        "path",
        "imagePullSecrets",
        "storage",
    ]
)
SCALARS = st.one_of(
    st.sampled_from(
        ("a", "web", "/", "/a", "80", "1Gi", "", "x:1", "ReadWriteOnce", "Never", "LoadBalancer")
    ),
    st.integers(-1, 70_000),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=True),
    st.text(max_size=5),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)


@st.composite
def mangled(draw: st.DrawFn) -> dict[str, Any]:
    """A good object, of which some parts are replaced by anything."""
    whole = draw(
        st.sampled_from(
            (
                workload(
                    pod={"volumes": [{"name": "v", "configMap": {"name": "c"}}]},
                    env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    envFrom=[{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}],
                    ports=[{"containerPort": 80, "name": "http"}],
                    readinessProbe={"httpGet": {"port": "http"}},
                    volumeMounts=[{"name": "v", "mountPath": "/v"}],
                    resources={"limits": {"memory": "1Gi"}},
                ),
                workload("job", "Job"),
                thing(
                    "Service",
                    "web",
                    spec={"selector": {"app": "web"}, "ports": [{"port": 80}], "type": "NodePort"},
                ),
                thing("ConfigMap", "c", data={"a": "b"}),
                thing(
                    "Ingress",
                    "i",
                    spec={"rules": [{"http": {"paths": [{"backend": {"service": {"name": "web"}}}]}}]},
                ),
            )
        )
    )
    copied: dict[str, Any] = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(0, 4))):
        place: Any = copied
        for _ in range(draw(st.integers(0, 9))):
            inner = list(place.values()) if isinstance(place, dict) else place
            inner = [each for each in inner if isinstance(each, dict | list) and each]
            if not inner:
                break
            place = draw(st.sampled_from(inner))
        key = draw(st.sampled_from(list(place))) if isinstance(place, dict) else 0
        place[key] = draw(ANYTHING)
    return copied


def check(discovery: Discovery) -> None:
    """What holds whatever was read."""
    json.dumps(asdict(discovery) | {"blueprint": None}, default=str)
    assert CANARY not in repr(discovery)
    assert discovery.faults or discovery.blueprint is not None
    assert discovery.document is not None or discovery.faults
    if discovery.blueprint is not None:
        written = yaml.safe_dump(discovery.document, sort_keys=False, allow_unicode=True)
        assert parse_blueprint(YamlReader()(written)[0]) == discovery.blueprint


@examples(400)
@given(st.lists(mangled(), min_size=1, max_size=6), st.booleans())
def test_any_manifests_give_a_valid_blueprint_or_faults(objects: list[dict[str, Any]], wrapped: bool) -> None:
    secret = thing("Secret", "s", stringData={"k": CANARY, "l": CANARY}, data={"m": CANARY})
    documents: list[object] = [*objects, secret]
    if wrapped:
        documents = [{"apiVersion": "v1", "kind": "List", "items": documents}]
    discovery = discover([SourceFile("a.yaml", "")], lambda _: documents, Wish(name="env"))
    check(discovery)
    # What is wrong is said of the manifests; what they became has no faults of its own but their images.
    of_the_blueprint = [fault.error for fault in discovery.faults if not fault.file and fault.error.path]
    assert all(error.path[-1] == "image" for error in of_the_blueprint), of_the_blueprint


@examples(200)
@given(st.lists(ANYTHING, max_size=4), st.sampled_from(("compose.yaml", "a.yaml", "kustomization.yaml")))
def test_any_documents_give_a_valid_blueprint_or_faults(documents: list[object], path: str) -> None:
    check(discover([SourceFile(path, "")], lambda _: documents, Wish(name="env")))


@examples(300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ("FROM", "ENV", "EXPOSE", "VOLUME", "USER", "HEALTHCHECK", "CMD", "ARG", "RUN", "#", "env")
            ),
            st.one_of(
                st.text(alphabet="aA1$${}:-+=/\\\"'[], \t#<\n", max_size=20),
                st.sampled_from(
                    ("x AS y", "y", "A=1", "80/tcp", "/data", "CMD true", '["a"]', "<<EOF", "NONE")
                ),
                st.text(max_size=10),
            ),
        ),
        max_size=12,
    )
)
def test_any_dockerfile_gives_a_valid_blueprint_or_faults(lines: list[tuple[str, str]]) -> None:
    text = "FROM a\n" + "\n".join(f"{word} {rest}" for word, rest in lines)
    check(found({"Dockerfile": text}, images={"env": "x:1"}))


@examples(150)
@given(st.lists(mangled(), min_size=1, max_size=4))
def test_the_same_files_give_the_same_answer_in_any_order(objects: list[dict[str, Any]]) -> None:
    texts = {
        f"f{number}.yaml": json.dumps(each, allow_nan=False, default=str) if _finite(each) else "{}"
        for number, each in enumerate(objects)
    }
    backwards = dict(reversed(texts.items()))
    assert repr(found(texts)) == repr(found(backwards))


def _finite(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.mark.slow
def test_texts_are_bounded_together_and_no_single_one_is_blamed() -> None:
    read = YamlReader()
    half = "[" + "0," * (MAX_NODES // 2) + "]"
    assert len(read(half)) == 1
    with pytest.raises(DocumentInvalid, match="with what was read before it and all aliases"):
        read(half)
    with pytest.raises(DocumentInvalid, match=r"^with all aliases"):
        YamlReader()("[" + "0," * MAX_NODES + "]")
