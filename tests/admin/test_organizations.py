"""Organisations by the operator: made with a key that works, listed, and capped; acceptance keeps to it."""

import asyncio
import json
from typing import Any

import pytest

from activities.db.engine import Database
from activities.db.errors import CapExceeded
from activities.db.records import Caps
from activities.db.repositories import audit
from activities.db.repositories.environments import get_environment
from activities.db.repositories.installation import installation_id
from activities.db.repositories.keys import authenticate, list_keys
from activities.db.repositories.organizations import (
    create_organization,
    get_organization,
    list_organizations,
)
from activities.db.tables import Role
from admin.errors import AdminError, NotUsable
from admin.organizations import CapChange, Made, create, seen
from tests.admin.conftest import Admin
from tests.helpers.tenants import Tenant, accept, make_tenant, shop
from workflows.domain.environment import GuardRails

pytestmark = pytest.mark.slow


async def caps_of(database: Database, tenant: Tenant) -> Caps:
    """What the organisation may use."""
    async with database.reading() as session:
        return (await get_organization(session, tenant.id)).caps


async def audited(database: Database, organization_id: str) -> list[tuple[str, str, Any]]:
    """Its audit, oldest first: who, what, with which data."""
    async with database.reading() as session:
        found = (await audit.list_entries(session, organization_id)).items
    return [(each.principal_id, each.action, each.data) for each in reversed(found)]


async def test_the_key_of_a_new_organisation_is_its_owners(
    database: Database, database_url: str, admin: Admin
) -> None:
    done = admin(database_url, "org", "create", "Shop & Söhne", "--key-name", "first")
    assert done.returncode == 0, done.stderr
    token = done.stdout.removesuffix("\n")
    assert token not in done.stderr
    async with database.reading() as session:
        found = await authenticate(session, token)
        [key] = (await list_keys(session, found.actor.organization_id)).items
    assert (found.actor.role, found.actor.unlimited, key.name) == (Role.OWNER, False, "first")
    assert found.actor.organization_id in done.stderr
    entries = await audited(database, found.actor.organization_id)
    assert {who for who, _, _ in entries} == {"operator"}
    assert sorted(action for _, action, _ in entries) == [
        "api_key.create",
        "organization.create",
        "principal.create",
    ]
    assert token not in str(entries)


async def test_a_taken_name_makes_nothing(database: Database, database_url: str, admin: Admin) -> None:
    tenant = await make_tenant(database, "shop")
    done = admin(database_url, "org", "create", "shop")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"There is an organisation 'shop' already: {tenant.id}." in done.stderr
    async with database.reading() as session:
        assert len((await list_keys(session, tenant.id)).items) == 1


async def test_of_two_that_take_a_name_at_once_one_has_it(database: Database) -> None:
    async with database.transaction() as session:
        await installation_id(session)
    # Each with a connection that is open already: otherwise one is done before the next begins.
    await asyncio.gather(*(seen(database) for _ in range(4)))
    done = await asyncio.gather(
        *(create(database, "shop", f"owner-{number}") for number in range(4)), return_exceptions=True
    )
    [made] = [each for each in done if isinstance(each, Made)]
    refused = [each for each in done if isinstance(each, AdminError)]
    there = f"There is an organisation 'shop' already: {made.organization.id}."
    assert [each.message for each in refused] == 3 * [there]
    async with database.reading() as session:
        assert [each.id for each in await list_organizations(session)] == [made.organization.id]


async def test_a_cap_that_was_set_refuses_what_is_more(
    database: Database, database_url: str, admin: Admin
) -> None:
    tenant, other = await make_tenant(database, "shop"), await make_tenant(database, "other")
    await accept(database, tenant)
    done = admin(database_url, "org", "caps", "shop", "--environments", "1", "--memory", "64Gi")
    assert done.returncode == 0, done.stderr
    with pytest.raises(CapExceeded, match="cap on environments is 1"):
        await accept(database, tenant, shop("second"))
    await accept(database, other)
    await accept(database, other, shop("second"))
    changes = [each for each in await audited(database, tenant.id) if each[0] == "operator"]
    assert changes == [("operator", "organization.caps", {"caps": {"environments": 1, "memory": "64Gi"}})]
    assert admin(database_url, "org", "caps", tenant.id, "--none").returncode == 0
    await accept(database, tenant, shop("second"))


async def test_what_is_not_given_stays(database: Database, database_url: str, admin: Admin) -> None:
    tenant = await make_tenant(database, "shop", caps=Caps(environments=3, cpu="4"))
    assert admin(database_url, "org", "caps", "shop", "--storage", "1Ti", "--cpu", "8").returncode == 0
    assert await caps_of(database, tenant) == Caps(environments=3, cpu="8", storage="1Ti")
    assert admin(database_url, "org", "caps", "shop", "--none", "--environments", "0").returncode == 0
    assert await caps_of(database, tenant) == Caps(environments=0)


async def test_without_options_it_is_shown(database: Database, database_url: str, admin: Admin) -> None:
    tenant = await make_tenant(database, "shop", caps=Caps(environments=1, storage="10Gi"))
    await accept(database, tenant)
    before = await audited(database, tenant.id)
    done = admin(database_url, "org", "caps", "shop")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["CAP", "LIMIT", "USED"],
        ["environments", "1", "1"],
        ["cpu", "none", "20m"],
        ["memory", "none", "64Mi"],
        ["storage", "10Gi", "1024Mi"],
    ]
    assert "Over the cap" not in done.stderr
    again = admin(database_url, "org", "caps", "shop", "--environments", "1")
    assert again.stdout == done.stdout
    assert await audited(database, tenant.id) == before
    lowered = admin(database_url, "org", "caps", "shop", "--environments", "0", "-o", "json")
    assert json.loads(lowered.stdout)["caps"]["environments"] == 0
    assert "Over the cap: environments." in lowered.stderr


async def test_all_are_listed_with_what_they_use(database: Database, database_url: str, admin: Admin) -> None:
    first = await make_tenant(database, "first", caps=Caps(environments=5))
    second = await make_tenant(database, "second")
    await accept(database, first)
    rows = [line.split() for line in admin(database_url, "org", "list").stdout.splitlines()]
    assert rows[0] == ["NAME", "ID", "AGE", "ENVIRONMENTS", "CPU", "MEMORY", "STORAGE"]
    assert [[*row[:2], *row[3:]] for row in rows[1:]] == [
        ["first", first.id, "1", "of", "5", "20m", "64Mi", "1024Mi"],
        ["second", second.id, "0", "0m", "0Mi", "0Mi"],
    ]
    found = json.loads(admin(database_url, "org", "list", "-o", "json").stdout)
    assert [(each["id"], each["used"]["environments"]) for each in found] == [(first.id, 1), (second.id, 0)]


async def test_guard_rails_stand_around_environments_made_from_then_on(
    database: Database, database_url: str, admin: Admin
) -> None:
    tenant, other = await make_tenant(database, "shop"), await make_tenant(database, "other")
    before = (await accept(database, tenant)).environment
    values = ("quota=pods=5, requests.cpu=4", "blocked-egress=10.0.0.0/8,fd00::/8", "ingress-class=")
    done = admin(database_url, "org", "guard-rails", "shop", *(f"--set={each}" for each in values))
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["quota"] == ["pods=5,requests.cpu=4", "organisation"]
    assert rows["ingress-class"] == ["none", "organisation"]
    assert rows["base-domain"] == ["perdure.localhost", "cluster"]
    cluster = GuardRails(ingress_class="nginx", base_domain="apps.test")
    after = (await accept(database, tenant, shop("second"), rails=cluster)).environment.guard_rails
    assert (after.quota, after.ingress_class) == ({"pods": "5", "requests.cpu": "4"}, None)
    assert (after.blocked_egress, after.base_domain) == (("10.0.0.0/8", "fd00::/8"), "apps.test")
    assert (await accept(database, other, rails=cluster)).environment.guard_rails == cluster
    async with database.reading() as session:
        kept = await get_environment(session, tenant.id, before.id)
    assert kept.guard_rails == GuardRails()
    own = {
        "quota": {"pods": "5", "requests.cpu": "4"},
        "ingressClass": None,
        "blockedEgress": ["10.0.0.0/8", "fd00::/8"],
    }
    changes = [each for each in await audited(database, tenant.id) if each[0] == "operator"]
    assert changes == [("operator", "organization.guard_rails", {"guardRails": own})]


async def test_guard_rails_are_taken_back(database: Database, database_url: str, admin: Admin) -> None:
    tenant = await make_tenant(database, "shop")
    command = ("org", "guard-rails", tenant.id, "-o", "json")

    def rails(*options: str) -> Any:
        done = admin(database_url, *command, *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["guardRails"]

    assert rails() == {}
    assert set(rails("--set", "base-domain=shop.test", "--set", "default-limits=memory=1Gi")) == {
        "baseDomain",
        "defaultLimits",
    }
    assert rails("--unset", "base-domain") == {"defaultLimits": {"memory": "1Gi"}}
    assert rails("--none", "--set", "mirror-image=nginx:1.30") == {"mirrorImage": "nginx:1.30"}
    assert rails("--none") == {}
    entries = len(await audited(database, tenant.id))
    assert rails("--none") == {}
    assert len(await audited(database, tenant.id)) == entries


async def test_two_of_a_name_go_by_id(database: Database, database_url: str, admin: Admin) -> None:
    tenant = await make_tenant(database, "shop")
    async with database.transaction() as session:
        await create_organization(session, "shop")
    done = admin(database_url, "org", "caps", "shop", "--environments", "1")
    assert (done.returncode, tenant.id in done.stderr) == (1, True)
    assert admin(database_url, "org", "caps", tenant.id, "--environments", "1").returncode == 0
    assert await caps_of(database, tenant) == Caps(environments=1)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["caps", "nobody"], 1, "There is no organisation 'nobody'."),
        (["caps", "nobody", "--environments", "1"], 1, "There is no organisation 'nobody'."),
        (["caps", "nobody", "--none"], 1, "There is no organisation 'nobody'."),
        (["caps", "nobody", "--environments=-1"], 2, "--environments"),
        (["caps", "nobody", "--cpu=-1"], 2, "--cpu: '-1' is not a Kubernetes quantity of 0 or more"),
        (["caps"], 2, "NAME|ID"),
        (["create"], 2, "NAME"),
        (["guard-rails", "nobody"], 1, "There is no organisation 'nobody'."),
        (["guard-rails", "nobody", "--set", "quota=cpu"], 2, "--set quota: 'cpu' is not RESOURCE=QUANTITY"),
        (["guard-rails", "nobody", "--set", "quota=cpu=lots"], 2, "'lots' is not a Kubernetes quantity"),
        (["guard-rails", "nobody", "--set", "blocked-egress=10.0.0.1/8"], 2, "has host bits set"),
        (["guard-rails", "nobody", "--set", "base-domain=*.shop.test"], 2, "begins with a star"),
        (["guard-rails", "nobody", "--set", "ingress-namespace=A"], 2, "--set ingress-namespace: "),
        (["guard-rails", "nobody", "--set", "mirror-image="], 2, "is not an image reference"),
        (["guard-rails", "nobody", "--set", "qouta=pods=5"], 2, "fields: quota, default-requests"),
        (["guard-rails", "nobody", "--unset", "qouta"], 2, "--unset 'qouta'"),
        (["guard-rails", "nobody", "--set", "quota=", "--unset", "quota"], 2, "both set and unset"),
        (["create", " shop"], 2, "' shop' is no name"),
        (["create", "org_shop"], 2, "would be taken for an id"),
        (["create", "shop", "--key-name", ""], 2, "'' is no name"),
    ],
)
def test_wrong_usage(sqlite_url: str, admin: Admin, arguments: list[str], code: int, says: str) -> None:
    done = admin(sqlite_url, "org", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_every_amount_that_is_none_is_named() -> None:
    with pytest.raises(NotUsable) as caught:
        CapChange(Caps(cpu="4Gi", memory="16", storage="100m"))
    assert [each.partition(":")[0] for each in caught.value.details] == ["--cpu", "--memory", "--storage"]
    assert CapChange(Caps(cpu="0", memory="0", storage="0")).asks
