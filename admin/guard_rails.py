"""What stands around an organisation's new environments where it differs from the cluster's settings."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from activities.db.engine import Database
from activities.db.records import JsonObject, OrganizationRecord
from activities.db.repositories import organizations
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from admin.errors import NotUsable
from admin.organizations import found_organization, operator
from workflows.domain import blueprint_rules as rules
from workflows.domain.environment import GuardRails
from workflows.domain.quantity import QuantityError, parse_quantity

_RESOURCE: Final = re.compile(r"[a-z0-9]([a-z0-9./-]{0,251}[a-z0-9])?")
"""As `cpu`, `requests.memory`, `count/deployments.apps`."""


class _Fault(ValueError):
    """What is wrong with a value."""


def _amounts(text: str) -> JsonValue:
    amounts: dict[str, JsonValue] = {}
    for item in _items(text):
        name, equals, amount = item.partition("=")
        if not equals or not _RESOURCE.fullmatch(name):
            raise _Fault(f"{item!r} is not RESOURCE=QUANTITY, such as cpu=4")
        try:
            parse_quantity(amount)
        except QuantityError as error:
            raise _Fault(f"{amount!r} is {error}") from error
        amounts[name] = amount
    return amounts


def _networks(text: str) -> JsonValue:
    try:
        return [str(ipaddress.ip_network(each)) for each in _items(text)]
    except ValueError as error:
        raise _Fault(str(error)) from error


def _text(
    rule: Callable[[str], rules.Problem | None], *, may_be_none: bool = False
) -> Callable[[str], JsonValue]:
    def read(text: str) -> JsonValue:
        if may_be_none and not text:
            return None
        problem = rule(text)
        if problem is not None:
            raise _Fault(problem[0])
        return text

    return read


def _domain(text: str) -> rules.Problem | None:
    if text.startswith("*"):
        return f"{text!r} begins with a star", None
    return rules.host(text)


def _items(text: str) -> Iterable[str]:
    return (each.strip() for each in text.split(",") if each.strip())


_READ: Final[Mapping[str, Callable[[str], JsonValue]]] = {
    "quota": _amounts,
    "default-requests": _amounts,
    "default-limits": _amounts,
    "ingress-namespace": _text(rules.object_name, may_be_none=True),
    "ingress-class": _text(_domain, may_be_none=True),
    "base-domain": _text(_domain),
    "mirror-image": _text(rules.image),
    "blocked-egress": _networks,
}
"""How the value of each field is read, by the field's name on the command line."""
FIELDS: Final = tuple(_READ)


@dataclass(frozen=True, slots=True)
class RailChange:
    """What is asked of an organisation's guard rails: fields of its own, and those that are so no longer."""

    own: JsonObject
    gone: frozenset[str]

    @property
    def asks(self) -> bool:
        """Whether anything is asked at all."""
        return bool(self.own or self.gone)

    def of(self, present: GuardRails) -> GuardRails:
        """Return what is set afterwards."""
        kept = {name: getattr(present, name) for name in present.model_fields_set - self.gone}
        return GuardRails.model_validate({**kept, **self.own})


def read_change(given: Iterable[str], unset: Iterable[str]) -> RailChange:
    """Read `FIELD=VALUE`s, and fields that are the cluster's again. Raises NotUsable with every fault."""
    faults: list[str] = []
    own: JsonObject = {}
    for item in given:
        field, equals, value = item.partition("=")
        if not equals or field not in _READ:
            faults.append(f"--set {item!r} is not FIELD=VALUE; fields: {', '.join(FIELDS)}")
            continue
        try:
            own[_attribute(field)] = _READ[field](value)
        except _Fault as fault:
            faults.append(f"--set {field}: {fault}")
    unset = tuple(unset)
    faults += [f"--unset {each!r}: fields: {', '.join(FIELDS)}" for each in unset if each not in _READ]
    gone = frozenset(map(_attribute, unset))
    faults += [f"{_field(each)} is both set and unset" for each in sorted(gone & own.keys())]
    if faults:
        raise NotUsable("These are no guard rails.", details=faults)
    return RailChange(own, gone)


async def change_rails(database: Database, name: str, change: RailChange) -> OrganizationRecord:
    """Set guard rails of an organisation, and return it as it is now. Raises AdminError.

    Under the lock under which environments are accepted: those that are accepted afterwards have them.
    """
    async with database.transaction() as session:
        found = await locked_organization(session, (await found_organization(session, name)).id)
        rails = change.of(GuardRails.model_validate(found.guard_rails))
        data = rails.model_dump(mode="json", exclude_unset=True)
        if data != found.guard_rails:
            await organizations.set_guard_rails(session, found.id, rails)
            await add_entry(
                session, operator(found), "organization.guard_rails", found.id, {"guardRails": data}
            )
        return await organizations.get_organization(session, found.id)


async def seen_rails(database: Database, name: str) -> OrganizationRecord:
    """Return an organisation by name or id. Raises AdminError."""
    async with database.reading() as session:
        return await found_organization(session, name)


def shown(rails: GuardRails) -> dict[str, str]:
    """Return each field's value by its name on the command line, as it is set there."""
    return {field: _written(getattr(rails, _attribute(field))) for field in FIELDS}


def own_fields(rails: GuardRails) -> frozenset[str]:
    """Return the names of the fields that are set, as on the command line."""
    return frozenset(map(_field, rails.model_fields_set))


def _written(value: Mapping[str, str] | tuple[str, ...] | str | None) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={amount}" for name, amount in value.items())
    return ",".join(value) if isinstance(value, tuple) else value or ""


def _attribute(field: str) -> str:
    return field.replace("-", "_")


def _field(attribute: str) -> str:
    return attribute.replace("_", "-")
