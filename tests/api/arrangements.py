"""For each route of `contract.csv`: what there has to be beforehand, and a request that then succeeds.

`contract.csv` names them. Each makes things of its own, so that it can be had several times.
"""

import csv
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.api.support import Api
from tests.helpers.snapshots import publish, stored
from tests.helpers.tenants import begin, finish
from workflows.domain.blueprint_models import DataStore
from workflows.domain.operations import OperationState
from workflows.domain.snapshot_manifest import StoredComponent


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `path` as the contract spells it; `audit`: action of its entry, or empty."""

    part: str
    method: str
    path: str
    arrangement: str
    status: int
    audit: str

    @property
    def template(self) -> str:
        """The path without the names of its parameters, which the contract and OpenAPI choose differently."""
        return "/".join("{}" if part.startswith(":") else part for part in self.path.split("/"))


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent. `ids` stand in the path's parameters, in their order."""

    ids: tuple[str, ...] = ()
    body: Any = None
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None

    def path(self, row: Row) -> str:
        """The address without a prefix."""
        ids = iter(self.ids)
        parts = (next(ids) if part.startswith(":") else part for part in row.path.split("/"))
        return "/".join(parts) + (f"?{self.query}" if self.query else "")

    def content(self) -> dict[str, Any]:
        """What the client sends beside the address."""
        if self.form is not None:
            sent = urlencode(self.form)
            return {
                "content": sent,
                "headers": {**self.headers, "Content-Type": "application/x-www-form-urlencoded"},
            }
        if self.body is None:
            return {"headers": dict(self.headers)}
        return {
            "content": json.dumps(self.body),
            "headers": {**self.headers, "Content-Type": "application/json"},
        }


@dataclass
class World:
    """An API, and a source of names nobody has yet."""

    api: Api
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def name(self, stem: str) -> str:
        """A new name."""
        return f"{stem}-{next(self.numbers)}"

    async def made(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask for something; return it."""
        answer = await self.api.client.request(method, path, json=body)
        assert answer.is_success, answer.text
        data: dict[str, Any] = answer.json()["data"] if answer.content else {}
        return data

    async def end(self, operation_id: str, state: OperationState = OperationState.SUCCEEDED) -> None:
        """Let an operation begin and end."""
        await begin(self.api.database, operation_id)
        await finish(self.api.database, operation_id, state)

    async def running(self) -> str:
        """An environment that runs; its id."""
        made = await self.made("POST", "/v1/environments", {"blueprint": document(self.name("shop"))})
        await self.end(made["operation"]["id"])
        return str(made["id"])


def document(name: str, image: str = "registry.test/web:1") -> dict[str, Any]:
    """A Blueprint that a template may hold too."""
    return {"name": name, "services": {"web": {"image": image, "ports": [{"containerPort": 8080}]}}}


async def nothing(_: World) -> Call:
    """Nothing is needed."""
    return Call()


async def something(world: World) -> Call:
    """There is an environment to be listed."""
    await world.running()
    return Call()


async def running(world: World) -> Call:
    """An environment that runs."""
    return Call((await world.running(),))


async def blueprint(world: World) -> Call:
    """A Blueprint."""
    return Call(body={"blueprint": document(world.name("shop"))})


async def failed(world: World) -> Call:
    """An environment whose provision failed."""
    made = await world.made("POST", "/v1/environments", {"blueprint": document(world.name("shop"))})
    await world.end(made["operation"]["id"], OperationState.FAILED)
    return Call((made["id"],))


async def stopped(world: World) -> Call:
    """An environment that was stopped."""
    found = await world.running()
    await world.end((await world.made("POST", f"/v1/environments/{found}/stop"))["id"])
    return Call((found,))


async def deleting(world: World) -> Call:
    """An environment whose deletion runs, and a wish to force it."""
    found = await world.running()
    await begin(world.api.database, (await world.made("DELETE", f"/v1/environments/{found}"))["id"])
    return Call((found,), query="force=true")


async def compose(world: World) -> Call:
    """A Compose file."""
    text = "services: {web: {image: 'registry.test/web:1'}}"
    return Call(body={"compose": text, "name": world.name("shop")})


async def compose_created(world: World) -> Call:
    """A Compose file, of which an environment is wanted at once."""
    found = await compose(world)
    return Call(body={**found.body, "create": True})


async def settings(world: World) -> Call:
    """Another description."""
    return Call((await world.running(),), {"description": "for the demo"})


async def replicas(world: World) -> Call:
    """Another number of pods."""
    return Call((await world.running(),), {"service": "web", "replicas": 2})


async def same_replicas(world: World) -> Call:
    """The number of pods that there is."""
    return Call((await world.running(),), {"service": "web", "replicas": 1})


async def service(world: World) -> Call:
    """One of the services."""
    return Call((await world.running(),), {"service": "web"})


async def minutes(world: World) -> Call:
    """An hour."""
    return Call((await world.running(),), {"minutes": 60})


async def copy(world: World) -> Call:
    """A name for the copy."""
    return Call((await world.running(),), {"name": world.name("copy")})


async def new_name(world: World) -> Call:
    """A name that no environment has."""
    name = world.name("shop")
    return Call((name,), {"blueprint": document(name)})


async def known_name(world: World) -> Call:
    """The name of an environment, and another image for it."""
    found = await changed(world)
    return Call((found.body["blueprint"]["name"],), found.body)


async def changed(world: World) -> Call:
    """Another image for what runs."""
    found = await unchanged(world)
    name = found.body["blueprint"]["name"]
    return Call(found.ids, {"blueprint": document(name, "registry.test/web:2")})


async def unchanged(world: World) -> Call:
    """What runs already."""
    found = await world.running()
    name = (await world.made("GET", f"/v1/environments/{found}"))["name"]
    return Call((found,), {"blueprint": document(name)})


async def dry_run(world: World) -> Call:
    """Only the question what another image would do."""
    found = await changed(world)
    return Call(found.ids, found.body, query="dry_run=true")


async def earlier(world: World) -> Call:
    """A revision that is not the present one."""
    found = await changed(world)
    await world.end((await world.made("PUT", f"/v1/environments/{found.ids[0]}/blueprint", found.body))["id"])
    return Call(found.ids, {"revision": 1})


async def first(world: World) -> Call:
    """The first revision."""
    return Call((await world.running(), "1"))


async def name(world: World) -> Call:
    """A name for the present revision."""
    return Call((await world.running(),), {"name": "before"})


async def named(world: World) -> Call:
    """An environment with a checkpoint."""
    found = await name(world)
    await world.made("POST", f"/v1/environments/{found.ids[0]}/checkpoints", found.body)
    return Call(found.ids)


async def checkpoint(world: World) -> Call:
    """A checkpoint."""
    return Call((*(await named(world)).ids, "before"))


async def unready(world: World) -> Call:
    """A service without pods."""
    return Call((await world.running(), "web", ""))


async def link(world: World) -> Call:
    """A wish for a link."""
    return Call((await world.running(),), {"label": "for the review"})


async def share(world: World) -> Call:
    """A link, by its id."""
    found = await world.running()
    return Call((found, (await world.made("POST", f"/v1/environments/{found}/share", {}))["id"]))


async def shared(world: World) -> Call:
    """A link's token."""
    found = await world.running()
    return Call(((await world.made("POST", f"/v1/environments/{found}/share", {}))["token"],))


async def form(world: World) -> Call:
    """The form that a browser sends to open a link."""
    found = await world.running()
    token = (await world.made("POST", f"/v1/environments/{found}/share", {}))["token"]
    return Call((found,), form={"token": token})


async def visited(world: World) -> Call:
    """The cookie of a browser that has opened a link."""
    found = await form(world)
    answer = await world.api.client.post(f"/v1/portal/{found.ids[0]}", **found.content())
    return Call(found.ids, headers={"Cookie": answer.headers["set-cookie"].partition(";")[0]})


async def operation(world: World) -> Call:
    """An operation that is over."""
    found = await world.running()
    return Call(((await world.made("GET", f"/v1/environments/{found}"))["operation"]["id"],))


async def provisioning(world: World) -> Call:
    """An operation that runs."""
    made = await world.made("POST", "/v1/environments", {"blueprint": document(world.name("shop"))})
    await begin(world.api.database, made["operation"]["id"])
    return Call((made["operation"]["id"],), {"cleanup": True})


async def principal(world: World) -> Call:
    """A service that is to act."""
    return Call(body={"kind": "service", "name": world.name("robot")})


async def key(world: World) -> Call:
    """A key that is wanted."""
    return Call(body={"name": world.name("ci"), "role": "developer"})


async def other_key(world: World) -> Call:
    """A key that is not the caller's."""
    return Call(((await world.made("POST", "/v1/api-keys", {"name": world.name("ci")}))["id"],))


async def new_secret(world: World) -> Call:
    """A secret that is not there yet."""
    return Call((world.name("secret"),), {"value": "planted-value"})


async def known_secret(world: World) -> Call:
    """A secret that is there, and its next value."""
    found = await new_secret(world)
    await world.made("PUT", f"/v1/secrets/{found.ids[0]}", found.body)
    return Call(found.ids, {"value": "planted-next-value"})


async def kept_secret(world: World) -> Call:
    """A secret that is there."""
    return Call((await known_secret(world)).ids)


async def login(world: World) -> Call:
    """A login that is not stored yet."""
    return Call(
        body={"name": world.name("corp"), "registry": "ghcr.io", "username": "robot", "password": "planted"}
    )


async def known_login(world: World) -> Call:
    """A login that is stored."""
    return Call(((await world.made("POST", "/v1/registry-credentials", (await login(world)).body))["id"],))


async def next_login(world: World) -> Call:
    """Another password for a login."""
    body = {"registry": "ghcr.io", "username": "robot", "password": "planted-next"}
    return Call((await known_login(world)).ids, body)


async def new_template(world: World) -> Call:
    """A template that is not there yet."""
    return Call(body={"name": world.name("ours"), "blueprint": document("ours")})


async def template(world: World) -> Call:
    """A template of the organisation."""
    return Call(((await world.made("POST", "/v1/templates", (await new_template(world)).body))["id"],))


async def next_template(world: World) -> Call:
    """A template, and what is to take its place."""
    return Call((await template(world)).ids, (await new_template(world)).body)


async def values(world: World) -> Call:
    """A template, and values for its parameters."""
    return Call((await template(world)).ids, {"parameters": {}, "name": world.name("made")})


async def values_created(world: World) -> Call:
    """The same, and an environment of it at once."""
    found = await values(world)
    return Call(found.ids, {**found.body, "create": True})


async def own_seed(world: World) -> Call:
    """A seed of its own for an environment that runs."""
    body = {"type": "shell", "service": "web", "script": "exit 0"}
    return Call((await world.running(),), body)


async def replay(world: World) -> Call:
    """Nothing more than an environment that runs: what made it is replayed."""
    return Call((await world.running(),), {})


async def replay_elsewhere(world: World) -> Call:
    """An environment that runs, and the name of a new one."""
    return Call((await world.running(),), {"target": "new", "name": world.name("replayed")})


async def replay_preview(world: World) -> Call:
    """An environment that runs, and a wish to know only what would be done."""
    return Call((await world.running(),), {}, query="dry_run=true")


async def replayed(world: World) -> Call:
    """An environment that was replayed."""
    found = await world.running()
    await world.end((await world.made("POST", f"/v1/environments/{found}/replay"))["id"])
    return Call((found,))


async def new_package(world: World) -> Call:
    """A seed package that is not there yet."""
    body = {"type": "shell", "service": "web", "script": "exit 0"}
    return Call(body={**body, "name": world.name("seed"), "version": "1.0.0"})


async def known_package(world: World) -> Call:
    """A seed package that is there just so."""
    found = await new_package(world)
    await world.made("POST", "/v1/seeds/publish", found.body)
    return found


async def package(world: World) -> Call:
    """A seed package, by its name."""
    return Call(((await known_package(world)).body["name"],))


async def package_run(world: World) -> Call:
    """A seed package, and an environment that runs."""
    return Call((*(await package(world)).ids, await world.running()), {"parameters": {}})


async def snapshot(world: World) -> Call:
    """A snapshot that is available."""
    return Call(((await _snapshot(world))[1],))


async def taken(world: World) -> Call:
    """An environment of which there is a snapshot."""
    return Call(((await _snapshot(world))[0],))


async def policy(world: World) -> Call:
    """An environment that runs, and a policy for it."""
    return Call((await world.running(),), {"everyMinutes": 60, "keepLast": 3})


async def with_policy(world: World) -> Call:
    """An environment with a policy."""
    found = await policy(world)
    await world.made("PUT", f"/v1/environments/{found.ids[0]}/snapshot-policy", found.body)
    return Call(found.ids)


async def as_new(world: World) -> Call:
    """A snapshot, and a name for what is to be made of it."""
    return Call((await snapshot(world)).ids, {"name": world.name("copy")})


async def in_place(world: World) -> Call:
    """A snapshot, and the environment that it was taken of."""
    environment, found = await _snapshot(world)
    return Call((found,), {"environmentId": environment})


async def replay_with_data(world: World) -> Call:
    """An environment, and a snapshot of it."""
    environment, found = await _snapshot(world)
    return Call((environment,), {"snapshotId": found})


async def replay_with_init(world: World) -> Call:
    """An environment whose database has an init, a snapshot of it, and a wish to run that over the data."""
    db = {"image": "registry.test/postgres:16", "init": {"type": "sql", "script": "select 1;"}}
    shop = {"name": world.name("shop"), "services": {"db": db}}
    made = await world.made("POST", "/v1/environments", {"blueprint": shop})
    await world.end(made["operation"]["id"])
    found = await _taken(world, made["id"], stored("db", DataStore.POSTGRES))
    return Call((made["id"],), {"snapshotId": found, "runInit": True})


async def replay_elsewhere_with_data(world: World) -> Call:
    """An environment, a snapshot of it, and the name of a new one."""
    environment, found = await _snapshot(world)
    return Call((environment,), {"snapshotId": found, "target": "new", "name": world.name("replayed")})


async def replay_preview_with_data(world: World) -> Call:
    """An environment, a snapshot of it, and a wish to know only what would be done."""
    call = await replay_with_data(world)
    return Call(call.ids, call.body, query="dry_run=true")


async def verified(world: World) -> Call:
    """A snapshot that is being verified."""
    return Call((await verification(world)).ids[:1])


async def verification(world: World) -> Call:
    """A snapshot, and a verification of it."""
    _, found = await _snapshot(world)
    return Call((found, (await world.made("POST", f"/v1/snapshots/{found}/verify"))["id"]))


async def _snapshot(world: World) -> tuple[str, str]:
    """The ids of an environment and of a snapshot of it."""
    environment = await world.running()
    return environment, await _taken(world, environment)


async def _taken(world: World, environment: str, *components: StoredComponent) -> str:
    """The id of a snapshot that was taken of an environment."""
    taking = await world.made("POST", f"/v1/environments/{environment}/snapshots")
    await publish(world.api.database, taking["id"], *components)
    return str(taking["snapshotId"])


async def project(_: World) -> Call:
    """The files of a project."""
    compose = {"services": {"web": {"image": "ghcr.io/example/shop:1.4.2"}}}
    return Call(body={"name": "shop", "files": [{"path": "compose.yaml", "content": json.dumps(compose)}]})


async def recorded(_: World) -> Call:
    """A recorded example of a service."""
    return Call(body={"service": "prices", "examples": [{"path": "/prices/1", "body": {"cents": 890}}]})


async def payloads(_: World) -> Call:
    """A payload of Temporal's."""
    return Call(body={"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "e30="}]})


ARRANGEMENTS: Mapping[str, Callable[[World], Awaitable[Call]]] = {
    each.__name__: each
    for each in (
        as_new,
        blueprint,
        changed,
        checkpoint,
        compose,
        compose_created,
        copy,
        deleting,
        dry_run,
        earlier,
        failed,
        first,
        form,
        in_place,
        key,
        known_login,
        known_name,
        known_package,
        kept_secret,
        known_secret,
        link,
        login,
        minutes,
        name,
        named,
        new_name,
        new_package,
        new_secret,
        new_template,
        next_login,
        next_template,
        nothing,
        operation,
        other_key,
        own_seed,
        package,
        package_run,
        payloads,
        policy,
        principal,
        provisioning,
        project,
        recorded,
        replay,
        replay_elsewhere,
        replay_elsewhere_with_data,
        replay_preview,
        replay_preview_with_data,
        replay_with_data,
        replay_with_init,
        replayed,
        replicas,
        running,
        same_replicas,
        service,
        settings,
        share,
        shared,
        snapshot,
        something,
        stopped,
        taken,
        template,
        unchanged,
        unready,
        values,
        values_created,
        verification,
        verified,
        visited,
        with_policy,
    )
}


def rows() -> list[Row]:
    """The whole table."""
    with Path(__file__).with_name("contract.csv").open() as text:
        return [
            Row(
                part=line["part"],
                method=line["method"],
                path=line["path"],
                arrangement=line["arrangement"],
                status=int(line["status"]),
                audit=line["audit"],
            )
            for line in csv.DictReader(text)
        ]


ROWS = rows()
HTTP = [row for row in ROWS if row.method != "WS"]
