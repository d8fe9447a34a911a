"""An organisation's seed packages: each name has versions, and a version never changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import tuple_
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import DomainError, NameTaken, NotFound
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, SeedPackageRecord, seed_package_record
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.tables import SeedPackage
from activities.db.types import utc_now
from workflows.domain.seeds import SeedContent, newest, read_version

MOST_PACKAGES: Final = 200
"""Names of one organisation: a search is one answer."""
MOST_VERSIONS: Final = 100
"""Of one name."""


@dataclass(frozen=True, slots=True)
class Published:
    """What somebody publishes."""

    name: str
    version: str
    description: str
    content: SeedContent


class TooManySeedPackages(DomainError):
    """The organisation has as many packages, or versions of one, as it may."""

    def __init__(self, what: str, most: int) -> None:
        super().__init__(f"there are {most} {what} already, which is the most there may be: delete one first")


async def publish(session: AsyncSession, actor: Actor, wanted: Published) -> tuple[SeedPackageRecord, bool]:
    """Store a version; answers it, and whether it is new: the same again is no fault.

    Raises NameTaken for a version that is there with another content, TooManySeedPackages.
    """
    await locked_organization(session, actor.organization_id)
    names = await _names(session, actor.organization_id)
    known = await versions(session, actor.organization_id, wanted.name) if wanted.name in names else ()
    for record in known:
        if record.version == wanted.version:
            # Not by the digest, which does not tell what parameters are described as.
            if (record.content, record.description) == (wanted.content, wanted.description):
                return record, False
            raise NameTaken("seed package", f"{wanted.name}@{wanted.version}", record.id)
    if wanted.name not in names and len(names) >= MOST_PACKAGES:
        raise TooManySeedPackages("seed packages", MOST_PACKAGES)
    if len(known) >= MOST_VERSIONS:
        raise TooManySeedPackages(f"versions of {wanted.name}", MOST_VERSIONS)
    row = SeedPackage(
        id=new_id(IdPrefix.SEED_PACKAGE),
        organization_id=actor.organization_id,
        name=wanted.name,
        version=wanted.version,
        description=wanted.description,
        digest=wanted.content.digest,
        content=wanted.content.model_dump(mode="json"),
        created_by=actor.principal_id,
        created_at=utc_now(),
    )
    session.add(row)
    told = {"name": row.name, "version": row.version, "digest": row.digest}
    await add_entry(session, actor, "seed.publish", row.id, {**told})
    await session.flush()
    return seed_package_record(row), True


async def delete(
    session: AsyncSession, actor: Actor, name: str, version: str | None
) -> tuple[SeedPackageRecord, ...]:
    """Remove a version of a package for good, all of them when none is named; return what went.

    What has run, or runs, is not touched: each run has the content that it was accepted with.
    Raises NotFound.
    """
    await locked_organization(session, actor.organization_id)
    known = await versions(session, actor.organization_id, name)
    going = [record for record in known if version is None or record.version == version]
    if not going:
        raise NotFound("seed package", f"{name}@{version}")
    for record in going:
        await session.delete(await session.get_one(SeedPackage, record.id))
        told = {"name": record.name, "version": record.version, "digest": record.digest}
        await add_entry(session, actor, "seed.delete", record.id, {**told})
    await session.flush()
    return tuple(going)


async def search(
    session: AsyncSession, organization_id: str, words: Sequence[str]
) -> tuple[SeedPackageRecord, ...]:
    """Return the newest version of each package, by name, in whose name or description is every word."""
    place = col(SeedPackage.organization_id) == organization_id
    query = select(col(SeedPackage.name), col(SeedPackage.version)).where(place)
    of_name: dict[str, list[str]] = {}
    for name, version in (await session.exec(query)).all():
        of_name.setdefault(name, []).append(version)
    pairs = [(name, newest(those)) for name, those in of_name.items()]
    if not pairs:
        return ()
    chosen = tuple_(col(SeedPackage.name), col(SeedPackage.version)).in_(pairs)
    rows = await session.exec(select(SeedPackage).where(place, chosen).order_by(col(SeedPackage.name)))
    return tuple(
        seed_package_record(row)
        for row in rows
        if all(word.casefold() in f"{row.name} {row.description}".casefold() for word in words)
    )


async def versions(session: AsyncSession, organization_id: str, name: str) -> tuple[SeedPackageRecord, ...]:
    """Return all versions of a package, the highest first. Raises NotFound."""
    query = select(SeedPackage).where(
        col(SeedPackage.organization_id) == organization_id, col(SeedPackage.name) == name
    )
    records = [seed_package_record(row) for row in (await session.exec(query)).all()]
    if not records:
        raise NotFound("seed package", name)
    ordered = sorted(
        ((version, record) for record in records if (version := read_version(record.version)) is not None),
        key=lambda each: each[0],
        reverse=True,
    )
    return tuple(record for _, record in ordered)


async def get_package(
    session: AsyncSession, organization_id: str, name: str, version: str | None
) -> SeedPackageRecord:
    """Return a version of a package, the newest when none is named. Raises NotFound."""
    if version is None:
        query = select(col(SeedPackage.version)).where(
            col(SeedPackage.organization_id) == organization_id, col(SeedPackage.name) == name
        )
        version = newest((await session.exec(query)).all())
        if version is None:
            raise NotFound("seed package", name)
    return await _one(session, organization_id, name, version)


async def _one(session: AsyncSession, organization_id: str, name: str, version: str) -> SeedPackageRecord:
    query = select(SeedPackage).where(
        col(SeedPackage.organization_id) == organization_id,
        col(SeedPackage.name) == name,
        col(SeedPackage.version) == version,
    )
    row = (await session.exec(query)).one_or_none()
    if row is None:
        raise NotFound("seed package", f"{name}@{version}")
    return seed_package_record(row)


async def _names(session: AsyncSession, organization_id: str) -> frozenset[str]:
    query = select(func.distinct(col(SeedPackage.name))).where(
        col(SeedPackage.organization_id) == organization_id
    )
    return frozenset((await session.exec(query)).all())
