"""Fakes: what 32 bytes look like as a name, an address, a number. None of them reaches anybody."""

import uuid
from collections.abc import Callable
from typing import Final

from workflows.domain.masking import FakeKind


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# A change of these lists changes the fakes: data masked before and after no longer join.
_FIRST_NAMES: Final = _words("""
    Ada Amir Anna Bela Bruno Carla Chen Clara Dana David Elif Emil Erik Eva Fatima Felix Femi Greta Hana Hugo
    Ida Igor Ines Ivan Jana Jonas Julia Kai Karin Kenji Lara Leo Lena Lina Luca Luis Maja Marek Maria Marta
    Milan Mina Mira Nadia Nina Noah Nora Olga Omar Oskar Paula Petra Priya Rosa Ruth Samir Sara Sofia Sven
    Tara Theo Tomas Uma Vera
""")
_LAST_NAMES: Final = _words("""
    Abel Adler Bach Banda Bauer Berg Blum Brandt Costa Cruz Dahl Diaz Dorn Ebert Eich Falk Fiala Fink Fuchs
    Garcia Graf Gruber Haas Hahn Hansen Horvat Ito Jansen Kato Keller Khan Klein Koch Kowal Kraus Lang Larsen
    Lopez Marin Mensah Meyer Moreau Nagy Neumann Novak Okafor Olsen Park Pereira Popov Rao Reyes Roth Rossi
    Sato Silva Simon Singh Stein Tanaka Vogel Weber Wolf Zimmer
""")
_STREETS: Final = _words(
    "Birch Canal Cedar Church Garden Harbour Hill Lake Linden Market Meadow Mill Park River Rose Station"
)
_CITIES: Final = _words("""
    Ashford Birkdale Brookfield Claymore Dunmere Eastvale Fairholm Glenrock Harrowby Kingsmead Lakeview
    Milldale Northam Oakridge Silverton Westbury
""")
_TRADES: Final = _words(
    "Bakery Books Cycles Foods Glass Labs Logistics Media Metals Optics Paper Partners Tools Trading Works"
)


def fake_uuid(made: bytes) -> str:
    """A random UUID, as version 4 says of itself."""
    return str(uuid.UUID(bytes=made[:16], version=4))


def _first(made: bytes) -> str:
    return _FIRST_NAMES[made[0] % len(_FIRST_NAMES)]


def _last(made: bytes) -> str:
    return _LAST_NAMES[made[1] % len(_LAST_NAMES)]


def _email(made: bytes) -> str:
    # A name that RFC 2606 keeps for examples: nothing can be sent to it.
    return f"{_first(made)}.{_last(made)}.{made[8:16].hex()}@example.com".lower()


def _phone(made: bytes) -> str:
    # No country has 999 (ITU-T E.164 keeps it in reserve): nobody's phone rings.
    return f"+999{int.from_bytes(made[8:16]) % 10**11:011d}"


def _ip(made: bytes) -> str:
    # 198.18.0.0/15 is for measurements between networks (RFC 2544): nobody's address.
    return f"198.{18 + made[2] % 2}.{made[3]}.{made[4]}"


FAKES: Final[dict[FakeKind, Callable[[bytes], str]]] = {
    FakeKind.EMAIL: _email,
    FakeKind.NAME: lambda made: f"{_first(made)} {_last(made)}",
    FakeKind.FIRST_NAME: _first,
    FakeKind.LAST_NAME: _last,
    FakeKind.PHONE: _phone,
    FakeKind.UUID: fake_uuid,
    FakeKind.USERNAME: lambda made: f"{_first(made)}-{made[8:16].hex()}".lower(),
    FakeKind.COMPANY: lambda made: f"{_last(made)} {_TRADES[made[2] % len(_TRADES)]}",
    FakeKind.STREET: lambda made: f"{_STREETS[made[2] % len(_STREETS)]} Street {made[3] + 1}",
    FakeKind.CITY: lambda made: _CITIES[made[2] % len(_CITIES)],
    FakeKind.IP: _ip,
}
LONGEST: Final = {
    FakeKind.EMAIL: 43,
    FakeKind.NAME: 14,
    FakeKind.FIRST_NAME: 6,
    FakeKind.LAST_NAME: 7,
    FakeKind.PHONE: 15,
    FakeKind.UUID: 36,
    FakeKind.USERNAME: 23,
    FakeKind.COMPANY: 17,
    FakeKind.STREET: 18,
    FakeKind.CITY: 10,
    FakeKind.IP: 14,
}
"""Characters of the longest fake of each kind."""
DISTINCT: Final = frozenset({FakeKind.EMAIL, FakeKind.PHONE, FakeKind.UUID, FakeKind.USERNAME})
"""Kinds that differ where the values do, but for collisions: of 2^64 (uuid 2^122, phone 10^11)."""
