"""What reading and masking a dump cost for each byte, beside sealing it, and `zstd | openssl enc` over it.

In this process, without cluster, store and threads: one processor works on one piece after the other.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol

from activities.secrets import DataKey
from activities.snapshots.facts import Observer, observer_of
from activities.snapshots.frames import Component, ComponentKey
from activities.snapshots.masking_mariadb import MariadbMasking
from activities.snapshots.masking_postgres import PostgresMasking
from activities.snapshots.masking_redis import RedisMasking
from activities.snapshots.sealing import Sealing
from bench import dumps
from bench.clock import at_rest, spread
from workflows.domain.blueprint_models import DataStore
from workflows.domain.masking import ColumnRule, FakeKind, KeyRule, MaskHow, ServiceMasking

_PIECE: Final = 256 * 1024
"""As they come out of a pod."""
_PIPE: Final = 'set -o pipefail; zstd -q -3 <"$0" | openssl enc -aes-256-ctr -pbkdf2 -k secret >/dev/null'
_KEY: Final = bytes(range(32))
_COLUMNS: Final = ServiceMasking(
    columns=(
        ColumnRule(table="orders", column="customer", how=MaskHow.HASH),
        ColumnRule(table="orders", column="email", how=MaskHow.FAKE, kind=FakeKind.EMAIL),
    )
)
"""Two of seven columns."""
_KEYS: Final = ServiceMasking(keys=(KeyRule(keys="customer:*", how=MaskHow.HASH),))


class Masking(Protocol):
    """What masks a dump."""

    def write(self, data: bytes) -> bytes:
        """Take the next bytes."""
        ...

    def finish(self) -> bytes:
        """Give the last ones."""
        ...


@dataclass(frozen=True, slots=True)
class Dump:
    """A kind of stream. `make`: returns one of about so many bytes; `masking`: what would mask it."""

    store: DataStore
    make: Callable[[int], bytes]
    masking: Callable[[], Masking] | None = None

    def observer(self) -> Observer:
        """Return what reads it."""
        return observer_of(self.store, "")


DUMPS: Final[Mapping[str, Dump]] = {
    "postgres": Dump(DataStore.POSTGRES, dumps.postgres, lambda: PostgresMasking("shop", _COLUMNS, _KEY)),
    "mariadb": Dump(DataStore.MYSQL, dumps.mariadb, lambda: MariadbMasking(_COLUMNS, _KEY)),
    "redis": Dump(DataStore.REDIS, dumps.redis, lambda: RedisMasking(_KEYS, _KEY)),
    "files": Dump(DataStore.FILES, lambda size: dumps.tar(size, of=4 << 20)),
    "small files": Dump(DataStore.FILES, lambda size: dumps.tar(size, of=4096)),
}


def facts(size: int, rounds: int, settle: Callable[[], None] = at_rest) -> dict[str, Any]:
    """Read each kind of stream, of `size` bytes, for its facts; nanoseconds per byte."""

    def observed(dump: Dump, stream: bytes) -> None:
        observer = dump.observer()
        _in_pieces(stream, observer.write)
        found = observer.facts()
        assert found.tallies, found.unread

    return _each("facts", DUMPS, observed, size, rounds, settle)


def masking(size: int, rounds: int, settle: Callable[[], None] = at_rest) -> dict[str, Any]:
    """Mask each kind of stream that can be, of `size` bytes, once; nanoseconds per byte of what comes in."""

    def masked(dump: Dump, stream: bytes) -> None:
        assert dump.masking is not None
        under_way = dump.masking()
        out = 0

        def write(piece: bytes) -> None:
            nonlocal out
            out += len(under_way.write(piece))

        _in_pieces(stream, write)
        assert out + len(under_way.finish()) > 0, "it was refused"

    some = {name: dump for name, dump in DUMPS.items() if dump.masking is not None}
    return _each("masking", some, masked, size, rounds, settle)


def _each(
    what: str,
    some: Mapping[str, Dump],
    work: Callable[[Dump, bytes], None],
    size: int,
    rounds: int,
    settle: Callable[[], None],
) -> dict[str, Any]:
    """Time `work` on each stream, in turn with sealing the same and with the pipe over the same."""
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for name, dump in some.items():
        stream = dump.make(size)
        settle()
        times: dict[str, list[float]] = {what: [], "sealing": [], "pipe": []}
        with tempfile.NamedTemporaryFile(prefix="perdure-bench-") as file:
            Path(file.name).write_bytes(stream)
            for _ in range(rounds):
                times[what].append(_seconds(partial(work, dump, stream)))
                times["sealing"].append(_seconds(partial(_sealed, stream)))
                times["pipe"].append(_seconds(partial(_piped, file.name)))
        measured[name] = {
            kind: spread([each * 1e9 / len(stream) for each in taken], 2) for kind, taken in times.items()
        }
    return {"mebibytes": round(size / (1 << 20), 1), "nanosecondsPerByte": measured}


def _sealed(stream: bytes) -> None:
    component = Component("snap_bench", "data")
    key = ComponentKey.new(DataKey(id="key_1", organization_id="org_1", key=os.urandom(32)), component)
    sealing = Sealing(key.stream_key(), component)
    _in_pieces(stream, sealing.write)
    sealing.finish()


def _piped(path: str) -> None:
    subprocess.run(["bash", "-c", _PIPE, path], check=True, timeout=300)


def _in_pieces(stream: bytes, take: Callable[[bytes], object]) -> None:
    for at in range(0, len(stream), _PIECE):
        take(stream[at : at + _PIECE])


def _seconds(work: Callable[[], None]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began
