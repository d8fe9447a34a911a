"""Observers beside streams: on the way into the store, and for themselves."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import assert_never

from activities.snapshots.facts.mariadb import MariadbObserver
from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.postgres import PostgresObserver
from activities.snapshots.facts.rdb import RdbObserver
from activities.snapshots.facts.statements import StatementsObserver
from activities.snapshots.facts.tar import TarObserver
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_dump import GLOBALS, USERS
from workflows.domain.snapshot_facts import Facts, Format


def observer_of(store: DataStore, part: str) -> Observer:
    """Return what reads the stream of a part, by the part's key (`workflows.domain.snapshot_dump`)."""
    match store:
        case DataStore.POSTGRES:
            return StatementsObserver(Format.POSTGRES_GLOBALS) if part == GLOBALS else PostgresObserver()
        case DataStore.MYSQL:
            return StatementsObserver(Format.MARIADB_USERS) if part == USERS else MariadbObserver()
        case DataStore.REDIS:
            return RdbObserver()
        case DataStore.FILES | DataStore.MONGODB:
            return TarObserver()
        case _:
            assert_never(store)


async def observed(source: AsyncIterator[bytes], observer: Observer) -> AsyncGenerator[bytes]:
    """Yield what the source yields, and let the observer read it on the way.

    In a thread, and before it is handed on: `seal_into` reads ahead, so that one piece is read while another
    is sealed.
    """
    async for piece in source:
        await asyncio.to_thread(observer.write, piece)
        yield piece


async def facts_of(source: AsyncIterator[bytes], observer: Observer) -> Facts:
    """Read a stream to its end and return its facts: of a dump, or of an archive that was opened.

    Raises ContentBroken when it is no whole archive of its kind, and whatever the source raises.
    """
    async for piece in source:
        await asyncio.to_thread(observer.write, piece)
    return await asyncio.to_thread(observer.facts)
