"""Orphans: what counts as one, what speaks against a removal, and what an adoption knows."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select, update

from activities.db.engine import Database
from activities.db.recovery import EVENTS_AHEAD
from activities.db.repositories import audit, events, secrets
from activities.db.repositories.environments import get_environment
from activities.db.repositories.installation import installation_id
from activities.db.tables import Environment, EventType, Operation, Orphan
from admin.adoption import adopt, read_blueprint
from admin.errors import AdminError, NotUsable
from admin.orphans import OrphanNamespace, Survey, chosen, remove, survey
from admin.purge_rules import check_numbers, objections, sentence
from clusters.errors import Forbidden, PreconditionFailed
from clusters.gateway import Cluster, Propagation
from clusters.objects import Manifest, ObjectRef
from clusters.values import Listing
from tests.helpers.tenants import KEYS, PLANTED, Tenant, accept, make_tenant, shop
from tests.helpers.waiting import until
from workflows.domain.environment import GuardRails
from workflows.domain.names import ENVIRONMENT, FENCE, INSTALLATION, INSTANCE, ORGANIZATION, REVISION

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)
ORPHAN = OrphanNamespace(
    name="shop-1",
    uid="u1",
    environment_id="env_1",
    environment_name="shop",
    organization_id="org_1",
    made_at=NOW,
    seen_at=NOW - timedelta(hours=25),
    volumes=(),
    going=False,
)


@dataclass
class Gate:
    """Where somebody stands until it is opened."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Namespaces(Cluster):
    """A cluster of namespaces and what is in them."""

    live: dict[str, Manifest] = field(default_factory=dict)
    claims: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    closed: bool = False
    deleted: list[str] = field(default_factory=list)
    before_delete: "Gate | None" = None
    looks: int = 0
    """How often a namespace was looked at by its name."""

    @property
    def name(self) -> str:
        return "local"

    def add(self, name: str, installation: str, **more: Any) -> None:
        """Put a namespace."""
        labels = {
            INSTALLATION: installation,
            ENVIRONMENT: more.get("environment", f"env_{name}"),
            ORGANIZATION: more.get("organization", "org_unknown"),
            INSTANCE: more.get("instance", "shop"),
        }
        annotations = {FENCE: str(more.get("fence", 7)), REVISION: str(more.get("revision", 3))}
        self.live[name] = {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "labels": {**labels},
                "annotations": {**annotations},
            }
        }

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Listing:
        if kind == "PersistentVolumeClaim":
            if self.closed:
                raise Forbidden("no")
            named: list[Manifest] = [
                {"metadata": {"name": each}} for each in self.claims.get(namespace or "", [])
            ]
            return Listing(tuple(named), "1")
        found = [
            each
            for each in self.live.values()
            if all(each["metadata"]["labels"].get(key) == value for key, value in (labels or {}).items())  # type: ignore[index,call-overload,union-attr]
        ]
        return Listing(tuple(found), "1")

    async def get(self, ref: ObjectRef) -> Manifest | None:
        if ref.kind == "Secret":
            value = self.values.get(ref.name)
            return None if value is None else {"data": {"value": value}}
        self.looks += 1
        return self.live.get(ref.name)

    async def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation,
        grace_seconds: int | None = None,
    ) -> bool:
        if self.before_delete is not None:
            self.before_delete.reached.set()
            await self.before_delete.open.wait()
        if self.live[ref.name]["metadata"]["uid"] != uid:  # type: ignore[index,call-overload]
            raise PreconditionFailed("another")
        del self.live[ref.name]
        self.deleted.append(ref.name)
        return True


@pytest.fixture
async def installation(database: Database) -> str:
    async with database.transaction() as session:
        return await installation_id(session)


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await make_tenant(database)


class TestSurvey:
    async def test_only_namespaces_of_this_installation_without_an_environment(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        known = (await accept(database, tenant)).environment
        cluster = Namespaces()
        cluster.add(known.namespace, installation, environment=known.id, fence=2)
        cluster.add("stray", installation)
        cluster.add("foreign", "another installation")
        cluster.claims["stray"] = ["data"]
        found = await survey(database, cluster)
        assert found.namespaces == 2
        [orphan] = found.orphans
        assert (orphan.name, orphan.volumes, orphan.going) == ("stray", ("data",), False)
        assert (found.missing, found.changed) == ((), ())

    async def test_a_deleted_environment_answers_for_nothing(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        known = (await accept(database, tenant)).environment
        async with database.transaction() as session:
            await session.exec(
                update(Environment).where(col(Environment.id) == known.id).values(deleted_at=NOW)
            )
        cluster = Namespaces()
        cluster.add(known.namespace, installation, environment=known.id)
        assert [each.name for each in (await survey(database, cluster)).orphans] == [known.namespace]

    async def test_since_when_is_remembered_by_uid_and_forgotten_with_the_namespace(
        self, database: Database, installation: str
    ) -> None:
        cluster = Namespaces()
        cluster.add("stray", installation)
        first = (await survey(database, cluster)).orphans[0].seen_at
        assert (await survey(database, cluster)).orphans[0].seen_at == first
        cluster.live["stray"]["metadata"]["uid"] = "another"  # type: ignore[index,call-overload]
        assert (await survey(database, cluster)).orphans[0].seen_at > first
        async with database.reading() as session:
            assert len((await session.exec(select(Orphan))).all()) == 1
        cluster.live.clear()
        await survey(database, cluster)
        async with database.reading() as session:
            assert (await session.exec(select(Orphan))).all() == []

    async def test_where_we_may_not_look_there_may_be_volumes(
        self, database: Database, installation: str
    ) -> None:
        cluster = Namespaces(closed=True)
        cluster.add("stray", installation)
        assert (await survey(database, cluster)).orphans[0].volumes is None

    async def test_what_differs(self, database: Database, installation: str, tenant: Tenant) -> None:
        newer = (await accept(database, tenant, shop("newer"))).environment
        gone = (await accept(database, tenant, shop("gone"))).environment
        async with database.transaction() as session:
            await session.exec(
                update(Environment).where(col(Environment.id) == gone.id).values(phase="running")
            )
        cluster = Namespaces()
        cluster.add(newer.namespace, installation, environment=newer.id, fence=3)
        found = await survey(database, cluster)
        assert [each.id for each in found.missing] == [gone.id]
        assert [each.id for each in found.changed] == [newer.id]


class TestRules:
    @pytest.mark.parametrize(
        ("change", "flags", "says"),
        [
            ({}, {}, None),
            ({"seen_at": NOW - timedelta(hours=23)}, {}, "not for 24 (--now)"),
            ({"seen_at": NOW - timedelta(hours=23)}, {"at_once": True}, None),
            ({"volumes": ("data",)}, {"at_once": True}, "it has volumes: data (--with-volumes)"),
            ({"volumes": None}, {"at_once": True}, "we may not look"),
            ({"volumes": ("data",)}, {"volumes": True}, None),
            ({"volumes": None}, {"volumes": True}, None),
            ({"going": True}, {"at_once": True, "volumes": True}, "is being deleted already"),
        ],
    )
    def test_objections(self, change: dict[str, Any], flags: dict[str, bool], says: str | None) -> None:
        against = objections(replace(ORPHAN, **change), NOW, **{"at_once": False, "volumes": False, **flags})
        assert (says in against[0] and len(against) == 1) if says else against == []

    def test_no_more_than_a_tenth_without_a_sentence(self) -> None:
        few = Survey("local", 20, (ORPHAN,) * 2, (), ())
        check_numbers(few, 2, None)
        many = Survey("local", 19, (ORPHAN,) * 2, (), ())
        assert sentence(many, 1) == "delete 1 of 19 namespaces of local"
        for said in (None, "", "yes", sentence(many, 2)):
            with pytest.raises(AdminError, match="look orphaned"):
                check_numbers(many, 1, said)
        check_numbers(many, 1, sentence(many, 1))

    def test_only_orphans_can_be_chosen(self) -> None:
        found = Survey("local", 20, (ORPHAN,), (), ())
        assert chosen(found, ["shop-1", "shop-1"]) == [ORPHAN]
        with pytest.raises(AdminError, match="Not an orphan"):
            chosen(found, ["shop-1", "kube-system"])


class TestRemoval:
    async def test_it_goes_and_is_in_the_audit(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        cluster = Namespaces()
        cluster.add("stray", installation, organization=tenant.id)
        cluster.add("of-nobody", installation)
        for orphan in (await survey(database, cluster)).orphans:
            assert await remove(database, cluster, orphan) == "gone"
        async with database.reading() as session:
            entries = (
                await audit.list_entries(session, tenant.id, wanted=audit.AuditFilter(action="orphan.purge"))
            ).items
        assert [entry.subject_id for entry in entries] == ["env_stray"]
        assert cluster.deleted == ["of-nobody", "stray"]

    async def test_one_that_was_adopted_meanwhile_stays(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        environment = (await accept(database, tenant)).environment
        cluster = Namespaces()
        cluster.add(environment.namespace, installation)
        with pytest.raises(AdminError, match="belongs to an environment by now"):
            await remove(database, cluster, replace(ORPHAN, name=environment.namespace))
        assert cluster.deleted == []

    async def test_who_purges_and_who_adopts_wait_for_each_other(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        cluster = Namespaces()
        cluster.add("shop-1", installation, environment="env_1", organization=tenant.id)
        [orphan] = (await survey(database, cluster)).orphans
        cluster.before_delete = Gate()
        purging = asyncio.create_task(remove(database, cluster, orphan))
        await cluster.before_delete.reached.wait()
        adopting = asyncio.create_task(
            adopt(database, cluster, orphan, shop(), keys=KEYS, guard_rails=GuardRails())
        )
        # It has looked at the namespace, which is there still, and asks for the lock.
        await until(lambda: cluster.looks > 0, "the adoption has looked")
        cluster.before_delete.open.set()
        assert await purging == "gone"
        with pytest.raises(AdminError, match="is gone"):
            await adopting
        async with database.reading() as session:
            assert (await session.exec(select(Environment))).all() == []

    async def test_another_of_its_name_stays(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        cluster = Namespaces()
        cluster.add("stray", installation, organization=tenant.id)
        [orphan] = (await survey(database, cluster)).orphans
        cluster.live["stray"]["metadata"]["uid"] = "another"  # type: ignore[index,call-overload]
        with pytest.raises(AdminError, match="another namespace by now"):
            await remove(database, cluster, orphan)
        assert cluster.deleted == []
        async with database.reading() as session:
            entries = (
                await audit.list_entries(session, tenant.id, wanted=audit.AuditFilter(action="orphan.purge"))
            ).items
        assert entries == (), "what was refused is not in the audit"


class TestAdoption:
    async def found(
        self, database: Database, installation: str, tenant: Tenant
    ) -> tuple[Namespaces, OrphanNamespace]:
        cluster = Namespaces(values={"secret-db-password": "a2VwdA=="})
        cluster.add("shop-1", installation, environment="env_1", organization=tenant.id)
        return cluster, (await survey(database, cluster)).orphans[0]

    async def test_what_the_namespace_says_goes_on(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        cluster, orphan = await self.found(database, installation, tenant)
        accepted = await adopt(database, cluster, orphan, shop(), keys=KEYS, guard_rails=GuardRails())
        async with database.reading() as session:
            environment = await get_environment(session, tenant.id, "env_1")
            row = await session.get_one(Environment, "env_1")
            operation = await session.get_one(Operation, accepted.operation.id)
            values = await secrets.secret_values(session, tenant.id, "env_1", KEYS, revision=3)
            first = await events.after(session, tenant.id, "env_1", 0)
            entries = (
                await audit.list_entries(
                    session, tenant.id, wanted=audit.AuditFilter(action="environment.adopt")
                )
            ).items
        assert (environment.namespace, environment.instance, environment.revision) == ("shop-1", "shop", 3)
        assert (operation.fence, row.last_fence) == (8, 9)
        assert values == {"db-password": "kept", "api-token": PLANTED}
        assert [(each.number, each.type) for each in first] == [(EVENTS_AHEAD + 1, EventType.OPERATION)]
        assert [entry.principal_id for entry in entries] == ["operator"]
        assert (await survey(database, cluster)).orphans == ()

    async def test_a_name_that_is_taken(self, database: Database, installation: str, tenant: Tenant) -> None:
        await accept(database, tenant)
        cluster, orphan = await self.found(database, installation, tenant)
        with pytest.raises(AdminError, match="exists already"):
            await adopt(database, cluster, orphan, shop(), keys=KEYS, guard_rails=GuardRails())

    async def test_one_that_was_deleted(self, database: Database, installation: str, tenant: Tenant) -> None:
        environment = (await accept(database, tenant)).environment
        async with database.transaction() as session:
            await session.exec(update(Environment).values(deleted_at=NOW))
        cluster = Namespaces()
        cluster.add("stray", installation, environment=environment.id, organization=tenant.id)
        [orphan] = (await survey(database, cluster)).orphans
        with pytest.raises(AdminError, match="was deleted"):
            await adopt(database, cluster, orphan, shop(), keys=KEYS, guard_rails=GuardRails())

    async def test_an_organisation_that_is_not_there(self, database: Database, installation: str) -> None:
        cluster = Namespaces()
        cluster.add("stray", installation)
        [orphan] = (await survey(database, cluster)).orphans
        with pytest.raises(AdminError, match="no organization"):
            await adopt(database, cluster, orphan, shop(), keys=KEYS, guard_rails=GuardRails())

    async def test_one_that_went_meanwhile(
        self, database: Database, installation: str, tenant: Tenant
    ) -> None:
        cluster, orphan = await self.found(database, installation, tenant)
        cluster.live.clear()
        with pytest.raises(AdminError, match="is gone"):
            await adopt(database, cluster, orphan, shop(), keys=KEYS, guard_rails=GuardRails())
        with pytest.raises(AdminError, match="being deleted"):
            await adopt(
                database, cluster, replace(orphan, going=True), shop(), keys=KEYS, guard_rails=GuardRails()
            )

    def test_blueprints(self, tmp_path: Path) -> None:
        file = tmp_path / "shop.yaml"
        for text, why in (
            ("a: [", "cannot be read"),
            ("name: shop\nservices: {web: {imag: x}}", "is not valid"),
            ("name: other\nservices: {web: {image: x}}", "is the Blueprint of 'other'"),
        ):
            file.write_text(text)
            with pytest.raises(NotUsable, match=why):
                read_blueprint(file, name="shop", plan=None)
        with pytest.raises(NotUsable, match="cannot be read"):
            read_blueprint(tmp_path / "none", name="shop", plan=None)
        file.write_text("name: shop\nservices: {web: {image: x}}")
        assert read_blueprint(file, name="shop", plan=None).name == "shop"
