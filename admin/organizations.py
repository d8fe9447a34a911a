"""Organisations, as whoever runs the installation sees them: making them, and what each may use."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db import access
from activities.db.access import WantedKey
from activities.db.engine import Database
from activities.db.records import OPERATOR, Actor, Caps, JsonObject, OrganizationRecord
from activities.db.repositories import organizations
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.tables import PrincipalKind, Role
from activities.db.usage import NOTHING, Usage, exceeded, used_by
from admin.errors import AdminError, NotUsable
from workflows.domain.quantity import QuantityError, is_binary, is_fractional, parse_quantity

_NAME: Final = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]{0,98}[^\x00-\x20\x7f])?")
"""As that of a principal, without spaces around it."""
_ID: Final = "org_"
_LEAST_BYTES: Final = Fraction(1024**2)


@dataclass(frozen=True, slots=True)
class Seen:
    """An organisation, and what its environments count for."""

    organization: OrganizationRecord
    used: Usage

    @property
    def over(self) -> tuple[str, ...]:
        """The caps that it is over already: one that was lowered takes nothing away."""
        return tuple(each.cap for each in exceeded(self.organization.caps, self.used, NOTHING))


@dataclass(frozen=True, slots=True)
class Made:
    """A new organisation and the key of its first owner, whose token exists nowhere else."""

    organization: OrganizationRecord
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CapChange:
    """What is asked of an organisation's caps. `from_none`: every cap that is not given goes."""

    caps: Caps
    from_none: bool = False

    def __post_init__(self) -> None:
        """Raise NotUsable with everything that cannot be a cap."""
        faults = [
            f"--{name}: {fault}"
            for name in ("cpu", "memory", "storage")
            if (given := getattr(self.caps, name)) is not None and (fault := _fault(name, given))
        ]
        if faults:
            raise NotUsable("These are no caps.", details=faults)

    @property
    def asks(self) -> bool:
        """Whether anything is asked at all."""
        return self.from_none or self.caps != Caps()

    def of(self, present: Caps) -> Caps:
        """Return what the caps are afterwards."""
        given = self.caps.model_dump(exclude_none=True)
        return (Caps() if self.from_none else present).model_copy(update=given)


async def seen(database: Database) -> tuple[Seen, ...]:
    """Return every organisation, oldest first."""
    async with database.reading() as session:
        found = await organizations.list_organizations(session)
        return tuple([Seen(each, await used_by(session, each.id)) for each in found])


async def seen_one(database: Database, name: str) -> Seen:
    """Return an organisation by name or id. Raises AdminError."""
    async with database.reading() as session:
        found = await found_organization(session, name)
        return Seen(found, await used_by(session, found.id))


async def create(database: Database, name: str, key_name: str) -> Made:
    """Add an organisation, its first principal, and an owner's key. Raises NotUsable, or AdminError."""
    for each in (name, key_name):
        if not _NAME.fullmatch(each):
            raise NotUsable(f"{each!r} is no name: 1 to 100 characters, none of control, no space around.")
    if name.startswith(_ID):
        raise NotUsable(f"{name!r} would be taken for an id: a name does not begin with {_ID}.")
    async with database.transaction() as session:
        if (there := await organizations.claim_name(session, name)) is not None:
            raise AdminError(f"There is an organisation {name!r} already: {there.id}.")
        organization = await organizations.create_organization(session, name)
        actor = operator(organization)
        await add_entry(session, actor, "organization.create", organization.id, {"name": name})
        principal = await access.add_principal(session, actor, PrincipalKind.SERVICE, key_name)
        made = await access.add_key(session, actor, WantedKey(principal.id, key_name, Role.OWNER))
    return Made(organization, made.token)


async def change_caps(database: Database, name: str, change: CapChange) -> Seen:
    """Set caps of an organisation, and return it as it is now. Raises AdminError.

    Under the lock under which caps are checked: what is accepted afterwards keeps to them.
    """
    async with database.transaction() as session:
        found = await locked_organization(session, (await found_organization(session, name)).id)
        caps = change.of(found.caps)
        if caps != found.caps:
            await organizations.set_caps(session, found.id, caps)
            data: JsonObject = {"caps": caps.model_dump(exclude_none=True)}
            await add_entry(session, operator(found), "organization.caps", found.id, data)
        return Seen(await organizations.get_organization(session, found.id), await used_by(session, found.id))


async def found_organization(session: AsyncSession, name: str) -> OrganizationRecord:
    """Return an organisation by name or id. Raises AdminError, also when several have the name."""
    known = await organizations.list_organizations(session)
    found = [each for each in known if name in (each.id, each.name)]
    if not found:
        raise AdminError(f"There is no organisation {name!r}.", hints=["`perdure admin org list` shows all."])
    if len(found) > 1:
        raise AdminError(
            f"There are {len(found)} organisations {name!r}: name one by its id.",
            details=[each.id for each in found],
        )
    return found[0]


def operator(organization: OrganizationRecord) -> Actor:
    """Return who does what an operator does to an organisation."""
    return Actor(organization.id, OPERATOR, None, Role.OWNER)


def _fault(cap: str, given: str) -> str | None:
    """Return what is wrong with an amount, None when nothing is. Zero is right: nothing more is accepted."""
    try:
        amount = parse_quantity(given)
    except QuantityError:
        example = "16 or 500m" if cap == "cpu" else "512Mi or 64Gi"
        return f"{given!r} is not a Kubernetes quantity of 0 or more, such as {example}"
    if cap == "cpu":
        return f"{given!r} is an amount of bytes; CPU is counted in cores" if is_binary(given) else None
    if is_fractional(given):
        return f"{given!r} is counted in parts of a byte"
    return f"{given!r} is less than 1Mi: it is counted in bytes" if 0 < amount < _LEAST_BYTES else None
