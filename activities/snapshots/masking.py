"""Masking on the way from the store into a pod: what has to be hidden never reaches the pod.

A stream is masked twice, with the same result. The first time nothing is restored: it is found out whether
the rules fit (`survey`, then `check_surveys` over all parts of a component), and how long the stream will be,
which `Cluster.feed` has to know. The second time (`masked`) it is fed. Neither the key nor a value that was
masked leaves this process.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol, assert_never

from activities.snapshots.masking_mariadb import MariadbMasking
from activities.snapshots.masking_postgres import PostgresMasking
from activities.snapshots.masking_redis import RedisMasking
from workflows.domain.blueprint_models import DataStore
from workflows.domain.errors import FieldError
from workflows.domain.masking import DumpUnreadable, MaskingRefused, ServiceMasking, Survey
from workflows.domain.snapshot_dump import GLOBALS, USERS


class Stream(Protocol):
    """What a part of a component is: its name among the others, and what it is of."""

    @property
    def key(self) -> str: ...

    @property
    def subject(self) -> str: ...


class _Masking(Protocol):
    @property
    def matched(self) -> frozenset[int]: ...

    @property
    def faults(self) -> tuple[FieldError, ...]: ...

    def write(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


async def survey(
    store: DataStore, part: Stream, rules: ServiceMasking, key: bytes, content: AsyncIterator[bytes]
) -> Survey:
    """Mask a part for nothing, and return what came of it; faults are no exception yet.

    `key`: 32 bytes, `DataKey.masking_key()`. Raises DumpUnreadable, and whatever `content` raises.
    """
    masking, size = _masking(store, part, rules, key), 0
    async for data in content:
        size += len(data if masking is None else await asyncio.to_thread(_next, masking, data))
        if masking is not None and masking.faults and store is DataStore.POSTGRES:
            break  # all of them come with the head
    if masking is None:
        return Survey(size)
    if not masking.faults:
        size += len(await asyncio.to_thread(_next, masking))
    return Survey(0 if masking.faults else size, masking.matched, masking.faults)


async def masked(
    store: DataStore, part: Stream, rules: ServiceMasking, key: bytes, content: AsyncIterator[bytes]
) -> AsyncGenerator[bytes]:
    """Yield a part's content masked, as many bytes as `survey` has counted.

    Raises MaskingRefused and DumpUnreadable for what `survey` would have found, before or while it yields.
    """
    masking = _masking(store, part, rules, key)
    async for data in content:
        out = data if masking is None else await asyncio.to_thread(_next, masking, data)
        if masking is not None and masking.faults:
            raise MaskingRefused(masking.faults)
        if out:
            yield out
    if masking is not None:
        out = await asyncio.to_thread(_next, masking)
        if masking.faults:
            raise MaskingRefused(masking.faults)
        if out:
            yield out


def _next(masking: _Masking, data: bytes | None = None) -> bytes:
    """What is to be given out next; `data` None: the last of it. Raises DumpUnreadable."""
    try:
        return masking.finish() if data is None else masking.write(data)
    except DumpUnreadable:
        raise
    except ValueError:
        # Its text may hold the value.
        raise DumpUnreadable("a value is not of the type that its column has") from None


def _masking(store: DataStore, part: Stream, rules: ServiceMasking, key: bytes) -> _Masking | None:
    """What masks a part; None without a rule, and for parts with nothing that one can name (roles, users)."""
    if not rules.columns and not rules.keys:
        return None
    match store:
        case DataStore.POSTGRES:
            return None if part.key == GLOBALS else PostgresMasking(part.subject, rules, key)
        case DataStore.MYSQL:
            return None if part.key == USERS else MariadbMasking(rules, key)
        case DataStore.REDIS:
            return RedisMasking(rules, key)
        case DataStore.MONGODB | DataStore.FILES:
            refused = FieldError(path=(), message=f"data of {store} cannot be masked")
            raise MaskingRefused([refused])
        case _:
            assert_never(store)
