"""Who may do what: keys, organisations and roles, on every route."""

import datetime

import httpx2
import pytest

from activities.db.repositories.keys import create_key, revoke_key
from activities.db.tables import Role
from api.openapi import SOCKET, least_roles
from api.settings import ApiSettings
from tests.api.support import Api, create, handshake, problem, running_api
from tests.helpers.snapshots import publish
from tests.helpers.tenants import Tenant, begin, finish, make_tenant
from workflows.domain.operations import OperationState

OPEN = {
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/health/details"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/problems"),
    ("GET", "/problems/{kind}"),
    ("GET", "/v1/share/{token}"),
    ("GET", "/v1/portal/{envId}"),
    ("POST", "/v1/portal/{envId}"),
}
BODIES: dict[str, object] = {
    "": {"description": "theirs"},
    "/blueprint": {
        "blueprint": {"name": "shop", "services": [{"name": "web", "image": "registry.test/web:1"}]}
    },
    "/rollback": {"revision": 1},
    "/clone": {"name": "copy"},
    "/scale": {"service": "web", "replicas": 2},
    "/restart": {"service": "web"},
    "/seed": {"type": "shell", "service": "web", "script": "exit 0"},
    "/checkpoints": {"name": "before"},
    "/extend": {"minutes": 60},
    "/snapshot-policy": {"everyMinutes": 60},
    "/instantiate": {"parameters": {}},
    "/replay": {},
    "/v1/snapshots/{id}/restore": {"name": "copy"},
    "/verify": {},
    "/v1/registry-credentials/{id}": {"registry": "ghcr.io", "username": "robot", "password": "theirs"},
}
"""What is sent to a route of an id, by its path or what follows the id, where something has to be."""
READING = ("/validate", "/generate", "/progress", "/logstream")
"""Ends of paths that change nothing though they are no GET."""
BELOW = {Role.DEVELOPER: Role.VIEWER, Role.ADMIN: Role.DEVELOPER}


async def token_with(api: Api, tenant: Tenant, role: Role) -> str:
    """Make another key of the tenant's principal."""
    async with api.database.transaction() as session:
        made = await create_key(session, tenant.id, tenant.actor.principal_id, name=role.value, role=role)
    return made.token


async def ask(api: Api, method: str, path: str, body: object = None) -> httpx2.Response:
    """Send what a route takes: a request, or the wish for a WebSocket."""
    if method == SOCKET:
        return await handshake(api, path)
    return await api.client.request(method, path, json=body)


async def test_every_route_takes_its_least_role_and_no_less(settings: ApiSettings) -> None:
    patient = settings.model_copy(update={"wrong_keys_per_minute": 10_000, "requests_per_minute": 10_000})
    async with running_api(patient) as api:
        await walk(api, await make_tenant(api.database))


async def walk(api: Api, tenant: Tenant) -> None:
    """Ask each route without a key, below its role, and with it."""
    routes = least_roles(api.app)
    # A route that changes something takes more than looking.
    for (method, path), role in routes.items():
        reads = method in ("GET", "HEAD") or path.endswith(READING)
        assert role is None or reads or role != Role.VIEWER, (method, path)
    assert {route for route, role in routes.items() if role is None} == OPEN
    below = {role: await token_with(api, tenant, under) for role, under in BELOW.items()}
    for (method, template), role in routes.items():
        if role is None:
            continue
        path = template.replace("{id}", "env_unknown")
        api.client.headers.pop("Authorization", None)
        unknown = await ask(api, method, path)
        if method == "HEAD":
            # Its problems have no body to look at.
            assert unknown.status_code == 401
            continue
        problem(unknown, 401, "unauthenticated")
        assert unknown.headers["www-authenticate"].startswith("Bearer")
        if role in below:
            api.client.headers["Authorization"] = f"Bearer {below[Role(role)]}"
            body = problem(await ask(api, method, path), 403, "policy_denied")
            assert body["requiredRole"] == role
            assert role in body["detail"]
        api.use(tenant)
        assert (await ask(api, method, path)).status_code not in (401, 403), path


@pytest.mark.parametrize(
    "header", ["Basic abc", "Bearer", "Bearer ", "Bearer pdr_wrong", "pdr_x", "Bearer \xe9"]
)
async def test_other_authorizations_are_refused(api: Api, header: str) -> None:
    response = await api.client.get("/v1/environments", headers={b"Authorization": header.encode("latin-1")})
    problem(response, 401, "unauthenticated")


async def test_another_organisations_things_look_like_none(
    api: Api, tenant: Tenant, stranger: Tenant
) -> None:
    created = await create(api)
    operation = created["operation"]
    credential = await api.client.post(
        "/v1/registry-credentials",
        json={"name": "corp", "registry": "ghcr.io", "username": "robot", "password": "planted-pass"},
    )
    assert credential.status_code == 201
    kept = await api.client.post(
        "/v1/templates",
        json={"name": "ours", "blueprint": {"name": "ours", "services": [{"name": "web", "image": "a:1"}]}},
    )
    assert kept.status_code == 201
    await begin(api.database, operation["id"])
    await finish(api.database, operation["id"], OperationState.SUCCEEDED)
    taking = (await api.client.post(f"/v1/environments/{created['id']}/snapshots")).json()["data"]
    await publish(api.database, taking["id"])
    ids = {
        "/v1/environments": created["id"],
        "/v1/snapshots": taking["snapshotId"],
        "/v1/operations": operation["id"],
        "/v1/registry-credentials": credential.json()["data"]["id"],
        "/v1/api-keys": tenant.actor.key_id,
        "/v1/templates": kept.json()["data"]["id"],
    }
    before = await api.row_counts()
    api.use(stranger)
    checked = 0
    for method, template in least_roles(api.app):
        if "{id}" not in template or template.startswith("/problems") or method == "HEAD":
            continue
        resource, _, rest = template.partition("/{id}")
        path = template.replace("{number}", "1").replace("{name}", "x")
        path = path.replace("{verificationId}", "x").replace("{service}", "web").replace("{path}", "")
        body = BODIES.get(template, BODIES.get(rest)) if method in ("POST", "PUT", "PATCH") else None
        theirs = await ask(api, method, path.replace("{id}", ids[resource]), body)
        unknown = path.replace("{id}", "env_01JZX5Q0V6H2M9K4T7B3C8D1EF")
        nobodys = await ask(api, method, unknown, body)
        found, missing = problem(theirs, 404, "not_found"), problem(nobodys, 404, "not_found")
        assert found["title"] == missing["title"]
        assert found["detail"].replace(ids[resource], "") == missing["detail"].replace(
            "env_01JZX5Q0V6H2M9K4T7B3C8D1EF", ""
        )
        checked += 1
    assert checked >= 11
    assert (await api.client.get("/v1/environments")).json()["data"] == []
    assert (await api.client.get("/v1/operations")).json()["data"] == []
    filtered = await api.client.get(f"/v1/operations?environmentId={created['id']}")
    assert filtered.json()["data"] == []
    assert (await api.client.get("/v1/registry-credentials")).json()["data"] == []
    by_name = await api.client.delete("/v1/registry-credentials/corp")
    problem(by_name, 404, "not_found")
    assert await api.row_counts() == before
    for chosen in (tenant.id, "org_zzz"):
        answer = await api.client.get("/v1/environments", headers={"X-Organization-ID": chosen})
        body = problem(answer, 404, "not_found")
        assert body["detail"] == f"The API key has no organisation '{chosen}'."
    own = await api.client.get("/v1/environments", headers={"X-Organization-ID": stranger.id})
    assert own.status_code == 200


async def test_a_name_of_another_organisation_is_free(api: Api, tenant: Tenant, stranger: Tenant) -> None:
    first = await create(api)
    api.use(stranger)
    second = await create(api)
    assert first["namespace"] != second["namespace"]


async def test_a_revoked_key_is_refused_within_the_cache_time(settings: ApiSettings) -> None:
    async with running_api(settings.model_copy(update={"auth_cache_seconds": 30.0})) as api:
        tenant = await make_tenant(api.database)
        api.use(tenant)
        assert (await api.client.get("/v1/environments")).status_code == 200
        async with api.database.transaction() as session:
            assert tenant.actor.key_id is not None
            await revoke_key(session, tenant.id, tenant.actor.key_id)
        assert (await api.client.get("/v1/environments")).status_code == 200, "remembered"
        api.state.keys.forget()
        problem(await api.client.get("/v1/environments"), 401, "unauthenticated")


async def test_an_expired_key_is_refused(api: Api, tenant: Tenant) -> None:
    async with api.database.transaction() as session:
        made = await create_key(
            session,
            tenant.id,
            tenant.actor.principal_id,
            name="old",
            role=Role.OWNER,
            expires_at=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        )
    headers = {"Authorization": f"Bearer {made.token}"}
    problem(await api.client.get("/v1/environments", headers=headers), 401, "unauthenticated")
