"""Snapshots of servers with many databases, as large as they get when they are written down."""

from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot import Consistency, Engine
from workflows.domain.snapshot_facts import Entry, Facts, Format, Kind, Tally, listed
from workflows.domain.snapshot_manifest import StoredComponent, StoredPart

_IDS = "0" * 26
_DIGEST = "f" * 64


def facts(tables: int, *, rows: int = 123_456_789) -> Facts:
    """Facts of a database with so many tables, each with a sequence."""
    tallies = []
    for kind, name in (
        (Kind.TABLES, "public.{:04d}_orders"),
        (Kind.SEQUENCES, "public.{:04d}_orders_id_seq"),
    ):
        entries, complete = listed(
            Entry(name=name.format(number), count=rows, size=rows * 100, digest="f" * 16)
            for number in range(tables)
        )
        tallies.append(
            Tally(
                kind=kind,
                count=tables * rows,
                size=tables * rows * 100,
                digest="f" * 16,
                entries=entries,
                complete=complete,
            )
        )
    for kind in (Kind.LARGE_OBJECTS, Kind.DEFINITIONS):
        tallies.append(Tally(kind=kind, count=rows, size=rows, digest="f" * 16))
    return Facts(format=Format.POSTGRES, tallies=tuple(tallies))


def databases(service: str, count: int, *, tables: int, name: str = "customer_{}") -> StoredComponent:
    """A PostgreSQL server with so many databases as it was captured; nothing in it is short."""
    of_each = facts(tables)
    return StoredComponent(
        service=service,
        store=DataStore.POSTGRES,
        engine=Engine.EXEC_DUMP,
        consistency=Consistency.APPLICATION,
        parts=tuple(
            StoredPart(
                key=f"database-{number}",
                subject=name.format(number),
                prefix=f"snapshots/org_{_IDS}/snap_{_IDS}/{service}/database-{number}/{'f' * 16}",
                part_bytes=8_388_608,
                header="h" * 156,
                plain_bytes=10**13,
                plain_sha256=_DIGEST,
                stored_bytes=10**13,
                stored_sha256=_DIGEST,
                facts=of_each,
            )
            for number in range(count)
        ),
    )
