"""Discovery over HTTP: files sent inline, and repositories on a real git server."""

import asyncio
import ipaddress
import json
import os
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from activities.db.tables import Role
from api.discover import git
from api.discover.addresses import reachable
from api.settings import ApiSettings
from tests.api.support import Api, problem, running_api
from tests.helpers.git_server import GitServer, git_server
from tests.helpers.tenants import Tenant, make_tenant
from tests.helpers.waiting import until
from workflows.domain.blueprint import parse_blueprint
from workflows.domain.discover_files import LARGEST_ALL, LARGEST_FILE

COMPOSE = """\
name: The Shop
services:
  web:
    image: registry.test/web:1
    ports: ["8080:80"]
    env_file: settings/web.env
    environment: {STAGE: "${STAGE}"}
    depends_on: [db]
  db: {image: "postgres:16", networks: [back]}
"""
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - name: api
        image: registry.test/api:2
        ports: [{containerPort: 8080}]
        env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: api, key: token}}}]
---
apiVersion: v1
kind: Secret
metadata: {name: api}
stringData: {token: planted-8c1d-value}
"""
DOCKERFILE = "FROM registry.test/base:1\nEXPOSE 8080\nHEALTHCHECK CMD /check\n"
ROUTE = "/v1/environments/discover"


def files(**texts: str) -> list[dict[str, str]]:
    """Files as they are sent; `__` stands for `/` and `_` before the end for `.`."""
    return [{"path": path, "content": content} for path, content in texts.items()]


async def discover(api: Api, **wish: Any) -> dict[str, Any]:
    """Discover; return what was found."""
    response = await api.client.post(ROUTE, json=wish)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["data"]
    return found


async def test_files_become_a_blueprint_with_an_account(api: Api, tenant: Tenant) -> None:
    before = await api.row_counts()
    found = await discover(
        api,
        files=[
            {"path": "./deploy/compose.yaml", "content": COMPOSE},
            {"path": "deploy/settings/web.env", "content": "LEVEL=info\n"},
            {"path": "deploy/.env", "content": "STAGE=test\n"},
            {"path": "k8s/api.yaml", "content": MANIFEST},
            {"path": "Dockerfile", "content": DOCKERFILE},
        ],
    )
    assert found["valid"] is True
    assert found["errors"] == []
    blueprint = parse_blueprint(found["blueprint"])
    assert blueprint.name == "the-shop"
    assert blueprint.service("web").env == {"LEVEL": "info", "STAGE": "test"}
    assert [each["path"] for each in found["sources"] if each["used"]] == ["deploy/compose.yaml"]
    assert len(found["sources"]) == 3
    (network,) = found["unsupported"]
    assert (network["file"], network["path"]) == ("deploy/compose.yaml", "services.db.networks")
    left = {note["file"] for note in found["notes"] if note["kind"] == "left"}
    assert left == {"k8s/api.yaml", "Dockerfile"}
    assert found["yaml"].startswith("name: the-shop\n")
    assert {warning["code"] for warning in found["warnings"]} >= {"L003"}
    assert await api.row_counts() == before


@pytest.mark.slow
async def test_files_are_bounded_together_whatever_the_bodys_limit_is(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"body_limit_bytes": 4 * LARGEST_ALL})) as api:
        api.use(await make_tenant(api.database))
        each = LARGEST_FILE - 1
        sent = [
            {"path": f"{number}.yaml", "content": "#" * each} for number in range(LARGEST_ALL // each + 1)
        ]
        body = problem(await api.client.post(ROUTE, json={"files": sent}), 422, "validation_failed")
        assert [fault["path"] for fault in body["errors"]] == ["files"]
        assert (await discover(api, files=sent[:-1]))["valid"] is False


async def test_the_kind_of_source_can_be_chosen(api: Api, tenant: Tenant) -> None:
    sent = files(**{"compose.yaml": COMPOSE, "k8s.yaml": MANIFEST, "Dockerfile": DOCKERFILE})
    found = await discover(api, files=sent, kind="kubernetes", name="mine")
    assert parse_blueprint(found["blueprint"]).service("api").secrets[0].name == "api-token"
    assert found["blueprint"]["name"] == "mine"
    assert "planted-8c1d" not in json.dumps(found)
    found = await discover(api, files=sent, kind="dockerfile", name="mine")
    assert found["valid"] is False
    assert found["errors"] == [
        {
            "file": "Dockerfile",
            "path": "",
            "message": 'the service "mine" is built, not pulled',
            "suggestion": "build and push it, and name the image of mine",
        }
    ]
    found = await discover(api, files=sent, kind="dockerfile", name="mine", images={"mine": "r.test/mine:1"})
    service = parse_blueprint(found["blueprint"]).service("mine")
    assert service.image == "r.test/mine:1"
    assert service.probes.readiness is not None


async def test_what_was_found_can_be_created(api: Api, tenant: Tenant) -> None:
    found = await discover(api, files=files(**{"k8s.yaml": MANIFEST}), name="made")
    await api.client.put("/v1/secrets/api-token", json={"value": "x"})
    response = await api.client.post("/v1/environments", json={"blueprint": found["yaml"]})
    assert response.status_code == 202, response.text


async def test_all_faults_of_what_is_found_are_listed(api: Api, tenant: Tenant) -> None:
    compose = "services: {a: {build: .}, b: {image: 'not an image'}, c: {image: x:1, depends_on: [nobody]}}"
    found = await discover(api, files=files(**{"compose.yaml": compose}), name="NO NAME")
    assert found["valid"] is False
    places = {(error["file"], error["path"]) for error in found["errors"]}
    assert places == {
        ("compose.yaml", "services.a.build"),
        ("compose.yaml", "services.c.depends_on[0]"),
        ("", "name"),
        ("", "services[1].image"),
    }
    assert found["warnings"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &a [*a]", "alias"),
        (
            "a: &a [1,1,1,1,1,1,1,1]\nb: &b ["
            + ",".join(["*a"] * 900)
            + "]\nc: ["
            + ",".join(["*b"] * 900)
            + "]",
            "nodes",
        ),
        ("[" * 200, "nested"),
        ("services: {", "cannot be read"),
        ("services: {}\n---\nservices: {}", "2 documents"),
        ("!!python/object:os.system {}", "cannot be read"),
        ("services: 7", "services"),
        ("{services: {a: {image: x}, a: {image: y}}}", "twice"),
        ("d: 2020-99-99", "does not exist"),
    ],
)
@pytest.mark.parametrize("path", ["compose.yaml", "manifests.yaml", "Dockerfile", "kustomization.yaml"])
async def test_no_content_is_too_bad(api: Api, tenant: Tenant, path: str, content: str, message: str) -> None:
    body = json.dumps({"files": [{"path": path, "content": content}]})
    response = await api.client.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    found = response.json()["data"]
    assert found["valid"] is False
    assert found["errors"]
    if path == "compose.yaml":
        said = [error["message"] for error in found["errors"]] + [note["message"] for note in found["notes"]]
        assert any(message in text for text in said), said


async def test_what_is_no_text_is_a_fault_of_the_request(api: Api, tenant: Tenant) -> None:
    async def asked(content: str) -> httpx2.Response:
        body = json.dumps({"files": [{"path": "compose.yaml", "content": content}]})
        return await api.client.post(ROUTE, content=body, headers={"Content-Type": "application/json"})

    [fault] = problem(await asked("\x00\x01binary"), 422, "validation_failed")["errors"]
    assert fault["path"] == "files[0].content"
    assert "U+0000" in fault["message"]
    assert "surrogate" in problem(await asked("a: \ud800"), 400, "malformed_body")["detail"]


@pytest.mark.slow
async def test_ten_thousand_services_are_one_fault(api: Api, tenant: Tenant) -> None:
    compose = "services:\n" + "".join(f"  s{number}: {{image: x}}\n" for number in range(10_000))
    manifests = "---\n".join(
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}}}\nspec: {{containers: [{{image: x}}]}}\n"
        for number in range(3_000)
    )
    for path, content in (("compose.yaml", compose), ("pods.yaml", manifests)):
        found = await discover(api, files=files(**{path: content}))
        assert found["valid"] is False
        assert len(found["errors"]) < 300


async def test_a_bad_request_lists_all_faults(api: Api, tenant: Tenant) -> None:
    body = problem(
        await api.client.post(
            ROUTE,
            json={
                "repository": {"url": "ftp://x.test/y", "ref": "-u", "path": "../x"},
                "files": [
                    {"path": "../a", "content": ""},
                    {"path": "b\n", "content": ""},
                    {"path": "c", "content": ""},
                    {"path": "./c", "content": ""},
                ],
                "kind": "helm",
            },
        ),
        422,
        "validation_failed",
    )
    assert [error["path"] for error in body["errors"]] == [
        "repository",
        "kind",
        "repository.url",
        "repository.ref",
        "repository.path",
        "files[0].path",
        "files[1].path",
        "files[3].path",
    ]
    problem(await api.client.post(ROUTE, json={}), 422, "validation_failed")
    problem(await api.client.post(ROUTE, json={"files": []}), 422, "validation_failed")
    problem(await api.client.post(ROUTE, json={"files": "x", "more": 1}), 422, "validation_failed")
    found = await discover(api, files=files(**{"README.md": "hello"}))
    assert found["errors"][0]["message"].startswith("there is no Compose file")
    assert "blueprint" not in found


# Repositories


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "repositories").mkdir()
    with git_server(tmp_path / "repositories") as running:
        yield running


@pytest.fixture
def settings(settings: ApiSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiSettings:
    """Loopback may be fetched from, and temporary directories are the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return ApiSettings.model_validate(
        {
            **settings.model_dump(),
            "discover_http": True,
            "discover_allowed_networks": "127.0.0.0/8,::1/128",
        }
    )


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Every test leaves no temporary directory behind."""
    yield
    temporary = tmp_path / "temporary"
    assert not temporary.exists() or list(temporary.iterdir()) == []


async def refused(api: Api, url: str, **more: str) -> dict[str, Any]:
    """Ask for a repository that is refused; return the one fault."""
    response = await api.client.post(ROUTE, json={"repository": {"url": url, **more}})
    (error,) = problem(response, 422, "validation_failed")["errors"]
    fault: dict[str, Any] = error
    return fault


async def test_a_repository_is_read(api: Api, tenant: Tenant, server: GitServer) -> None:
    commit = server.make(
        "My_Shop",
        {
            "k8s/api.yaml": MANIFEST,
            "k8s/large.yaml": "a" * (LARGEST_FILE + 1),
            "k8s/latin.yaml": "é".encode("latin-1"),
            "k8s/lfs.yaml": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "node_modules/x/compose.yaml": COMPOSE,
            "movie.bin": b"\0" * 100_000,
        },
        links={"compose.yaml": "/etc/passwd", "k8s/loop.yaml": "loop.yaml"},
    )
    found = await discover(api, repository={"url": server.url("My_Shop")})
    assert found["commit"] == commit
    assert found["blueprint"]["name"] == "my-shop"
    assert found["valid"] is True
    assert "root:" not in json.dumps(found)
    unreadable = {note["file"]: note["message"] for note in found["notes"] if note["kind"] == "unreadable"}
    assert unreadable.keys() == {
        *("k8s/large.yaml", "k8s/latin.yaml", "k8s/lfs.yaml", "compose.yaml", "k8s/loop.yaml")
    }
    assert "symbolic link" in unreadable["compose.yaml"]
    assert not any("movie" in entry or "large" in entry for entry in server.asked)


@pytest.mark.parametrize("filters", [True, False])
async def test_a_large_file_is_not_read_whatever_the_server_sends(
    api: Api, tenant: Tenant, server: GitServer, filters: bool
) -> None:
    server.make("x", {"compose.yaml": COMPOSE + "#" * LARGEST_FILE, "api.yaml": MANIFEST}, filters=filters)
    found = await discover(api, repository={"url": server.url("x")})
    assert [each["path"] for each in found["sources"]] == ["api.yaml"]
    assert any(note["file"] == "compose.yaml" and "larger" in note["message"] for note in found["notes"])


async def test_ref_and_path(api: Api, tenant: Tenant, server: GitServer) -> None:
    first = server.make("x", {"compose.yaml": COMPOSE, "settings/web.env": "LEVEL=main"})
    server.make(
        "x", {"a/b/compose.dev.yaml": COMPOSE, "a/b/settings/web.env": "LEVEL=branch"}, branch="feat/one"
    )
    url = server.url("x")

    async def level(**place: str) -> str:
        found = await discover(api, repository={"url": url, **place}, variables={"STAGE": "s"})
        return str(found["blueprint"]["services"][0]["env"].get("LEVEL"))

    assert await level(ref=first) == "main"
    assert await level(ref="feat/one") == "branch"
    assert await level(ref="feat/one", path="a/b/") == "branch"
    assert await level(ref="feat/one", path="a") == "branch"
    found = await discover(api, repository={"url": url, "ref": "feat/one", "path": "a/b/compose.dev.yaml"})
    assert [each["path"] for each in found["sources"]] == ["a/b/compose.dev.yaml"]
    assert (await refused(api, url, ref="nowhere"))["path"] == "repository.ref"
    assert (await refused(api, url, path="nowhere"))["path"] == "repository.path"
    assert "no such repository" in (await refused(api, server.url("nothing")))["message"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "ext::sh -c id",
        "ssh://git@git.example.com/x",
        "git@git.example.com:x.git",
        "-upload-pack=id",
        "https://user:pass@git.example.com/x",
        "https://git.example.com/x?y",
        "https://git.example.com/",
        "https://git.example.com/../x",
        "https://[::1/x",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "https://127.1/x",
        "https://0177.0.0.1/x",
        "https://git.example.com:99999/x",
        "https://git.example.com:0/x",
        "https://exa mple.com/x",
        "https://git.example.com./x",
        "https:///x",
    ],
)
async def test_urls_that_are_refused_unseen(api: Api, tenant: Tenant, url: str) -> None:
    assert (await refused(api, url))["path"] == "repository.url"


async def test_inner_addresses_are_refused(
    settings: ApiSettings, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.make("x", {"compose.yaml": COMPOSE})
    strict = settings.model_copy(update={"discover_allowed_networks": ()})
    async with running_api(strict) as api:
        api.use(await make_tenant(api.database))
        for host in ("localhost", "127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]"):
            message = (await refused(api, server.url("x", host)))["message"]
            assert "not on the public internet" in message or "names no host" in message
    assert server.asked == []


async def test_a_name_with_one_inner_address_is_refused(
    api: Api, tenant: Tenant, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [("127.0.0.1", "10.1.2.3")]

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in answers[0]]

    server.make("x", {"compose.yaml": COMPOSE})
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up, raising=False)
    assert "public internet" in (await refused(api, server.url("x", "git.example.test")))["message"]
    assert server.asked == []


async def test_git_connects_to_the_address_that_was_judged(
    api: Api, tenant: Tenant, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[str] = []

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        lookups.append(host)
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    server.make("x", {"api.yaml": MANIFEST})
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up, raising=False)
    # Nobody else knows this name: git would not find it by itself.
    found = await discover(api, repository={"url": server.url("x", "git.example.test")})
    assert found["valid"] is True
    assert lookups == ["git.example.test"]


async def test_redirects_are_not_followed(api: Api, tenant: Tenant, server: GitServer) -> None:
    server.make("x", {"compose.yaml": COMPOSE})
    server.moved = f"http://127.0.0.1:{server.port}/elsewhere"
    assert "another address" in (await refused(api, server.url("x")))["message"]
    assert len(server.asked) == 1


@pytest.mark.parametrize("page", [b"<!doctype html>\n<p>A project</p>\n", b"", b"x", b"a\tb\n" * 5000])
async def test_a_web_page_is_no_repository(api: Api, tenant: Tenant, server: GitServer, page: bytes) -> None:
    server.page = page
    assert "no git repository" in (await refused(api, server.url("x")))["message"]
    assert all(asked.startswith("GET /x.git/") for asked in server.asked)


async def test_a_repository_without_a_commit_is_called_empty(
    api: Api, tenant: Tenant, server: GitServer
) -> None:
    server.git(server.root, "init", "-q", "--bare", "x.git")
    assert (await refused(api, server.url("x")))["message"] == "the repository is empty"


def alive(process: str) -> bool:
    """Whether a process runs; one that nobody has asked about since it ended does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_what_git_started_ends_though_git_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, program = tmp_path / "pid", tmp_path / "git"
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $$ $! > {note}.new\nmv {note}.new {note}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    running = asyncio.create_task(git._run(tmp_path, "", ("fetch",)))
    await until(note.exists, "it has started something")
    itself, started = note.read_text().split()
    await until(lambda: not alive(itself), "git itself has ended")
    assert alive(started)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not alive(started), "what it started has ended too")


@pytest.mark.slow
async def test_a_repository_that_is_too_large(settings: ApiSettings, server: GitServer) -> None:
    server.make("x", {"noise.bin": os.urandom(3 * 1024**2), "compose.yaml": COMPOSE}, filters=False)
    async with running_api(settings.model_copy(update={"discover_bytes": 1024**2})) as api:
        api.use(await make_tenant(api.database))
        assert "larger than 1 MiB" in (await refused(api, server.url("x")))["message"]


@pytest.mark.slow
async def test_a_repository_that_takes_too_long(settings: ApiSettings, server: GitServer) -> None:
    server.make("x", {"compose.yaml": COMPOSE})
    server.held.clear()
    async with running_api(settings.model_copy(update={"discover_seconds": 0.2})) as api:
        api.use(await make_tenant(api.database))
        assert "0.2 seconds" in (await refused(api, server.url("x")))["message"]


async def test_too_many_files(
    api: Api, tenant: Tenant, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.discover.tree.MOST_LISTED", 10)
    server.make("x", {f"docs/{number}.txt": "x" for number in range(20)} | {"k8s/a.yaml": MANIFEST})
    assert (await refused(api, server.url("x")))["path"] == "repository.path"
    assert (await discover(api, repository={"url": server.url("x"), "path": "k8s"}))["valid"] is True


@pytest.mark.slow
async def test_a_fetch_ends_with_its_client_and_others_wait_their_turn(
    settings: ApiSettings, server: GitServer, tmp_path: Path
) -> None:
    server.make("x", {"api.yaml": MANIFEST})
    server.held.clear()
    async with running_api(settings.model_copy(update={"discover_at_once": 1})) as api:
        api.use(await make_tenant(api.database))
        wish = {"repository": {"url": server.url("x")}}
        leaves = asyncio.Event()
        scope, sent = _scope(api, json.dumps(wish).encode()), list[Any]()

        async def receive() -> dict[str, Any]:
            if not sent:
                sent.append("body")
                return {"type": "http.request", "body": json.dumps(wish).encode(), "more_body": False}
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        request = asyncio.create_task(api.app({**scope, "state": {"app": api.state}}, receive, send))
        assert await asyncio.to_thread(server.arrived.wait, 20)
        second = await api.client.post(ROUTE, json=wish)
        problem(second, 429, "rate_limited")
        assert second.headers["retry-after"] == "5"
        # Other requests are answered meanwhile.
        assert (await api.client.get("/v1/environments")).status_code == 200
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        leaves.set()
        async with asyncio.timeout(20):
            await request
        assert list((tmp_path / "temporary").iterdir()) == []
        assert _children() == []
        server.held.set()
        assert (await discover(api, **wish))["valid"] is True


def _scope(api: Api, body: bytes) -> dict[str, Any]:
    headers = {
        **{key.lower(): value for key, value in api.client.headers.items()},
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": ROUTE,
        "raw_path": ROUTE.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("api.test", 80),
    }


def _children() -> list[str]:
    """The commands of our own child processes that run in a discovery's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and "perdure-discover-" in (entry / "cwd").readlink().name:
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("version", "said"), [(None, "not installed"), ((99, 0), "older than 99.0")])
async def test_without_a_git_that_can_do_it(
    api: Api,
    tenant: Tenant,
    server: GitServer,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int] | None,
    said: str,
) -> None:
    if version is None:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    else:
        monkeypatch.setattr(git, "OLDEST_GIT", version)
    response = await api.client.post(ROUTE, json={"repository": {"url": server.url("x")}})
    assert said in problem(response, 422, "not_supported")["detail"]


async def test_reading_repositories_can_be_switched_off(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"discover_at_once": 0})) as api:
        api.use(await make_tenant(api.database))
        response = await api.client.post(ROUTE, json={"repository": {"url": "https://git.example.com/x"}})
        problem(response, 422, "not_supported")
        assert (await discover(api, files=files(**{"api.yaml": MANIFEST})))["valid"] is True


async def test_viewers_may_not_and_nobody_without_a_key(api: Api, tenant: Tenant) -> None:
    api.use(await make_tenant(api.database, "three", role=Role.VIEWER))
    problem(await api.client.post(ROUTE, json={}), 403, "policy_denied")
    del api.client.headers["Authorization"]
    problem(await api.client.post(ROUTE, json={}), 401, "unauthenticated")


@pytest.mark.parametrize(
    "address",
    [
        *("192.0.0.192", "192.88.99.1", "168.63.129.16", "fec0::1", "3fff::1", "5f00::1"),
        *("127.0.0.1", "10.1.2.3", "169.254.169.254", "100.100.100.200", "fd00:ec2::254", "224.0.0.1", "::1"),
        *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "0.0.0.0", "240.0.0.1"),
    ],
)
def test_what_is_not_the_public_internet_is_not_reached(address: str) -> None:
    judged = ipaddress.ip_address(address)
    assert not reachable(judged, allowed=(), refused=())
    if judged.version == 6 and judged.ipv4_mapped is not None:
        judged = judged.ipv4_mapped
    assert reachable(judged, allowed=[ipaddress.ip_network(judged)], refused=())


@pytest.mark.parametrize("address", ["1.1.1.1", "192.0.1.1", "2606:4700::1111"])
def test_the_public_internet_is(address: str) -> None:
    judged = ipaddress.ip_address(address)
    assert reachable(judged, allowed=(), refused=())
    assert not reachable(judged, allowed=(), refused=[ipaddress.ip_network(judged)])
