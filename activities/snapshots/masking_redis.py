"""Masks a Redis server's RDB file on its way to a server: values of keys that rules name, nothing else.

Keys stay what they are. A file is read record by record; those that no rule touches pass as they came.
"""

from activities.snapshots.rdb_file import KINDS, STRING, RdbReading
from activities.snapshots.reading import Fate, Rewriting, Steps
from workflows.domain.errors import FieldError
from workflows.domain.masking import MaskHow, ServiceMasking, key_pattern
from workflows.domain.masking_values import DEFAULT_HASH, digest


class RedisMasking(RdbReading, Rewriting):
    """An RDB file in, the masked one out, piece by piece."""

    def __init__(self, rules: ServiceMasking, key: bytes) -> None:
        super().__init__()
        self._rules = [(index, each.how, key_pattern(each.keys)) for index, each in enumerate(rules.keys)]
        self._secret = key
        self._matched: set[int] = set()
        self._faults: dict[tuple[int, int], FieldError] = {}

    @property
    def matched(self) -> frozenset[int]:
        """The numbers of the patterns that have matched a key."""
        return frozenset(self._matched)

    @property
    def faults(self) -> tuple[FieldError, ...]:
        """What does not fit, as far as it is known. From the first on, what is given out is of no use."""
        return tuple(self._faults.values())

    def _read(self) -> Steps[None]:
        yield from super()._read() if self._rules else self._rest()

    def _between(self) -> None:
        self._turn(Fate.PASSES)
        self._turn(Fate.IS_OPEN)

    def _library(self) -> Steps[None]:
        self._turn(Fate.PASSES)
        yield from super()._library()

    def _key(self, code: int) -> Steps[None]:
        name = yield from self._text()
        rule = next(((index, how) for index, how, pattern in self._rules if pattern.fullmatch(name)), None)
        if rule is None:
            self._turn(Fate.PASSES)
            yield from self._skip_value(code)
            return
        index, how = rule
        self._matched.add(index)
        if how is not MaskHow.DELETE and code == STRING:
            self._turn(Fate.PASSES)
            self._turn(Fate.ENDS)
            self._out += _written(self._masked(how, (yield from self._text())))
            return
        if how is not MaskHow.DELETE:
            kind = {"zset": "sorted set"}.get(KINDS[code], KINDS[code])
            message = f"matches a {kind}, and {how} is for strings: use delete"
            self._faults[index, code] = FieldError(path=("keys", index), message=message)
        self._turn(Fate.ENDS)
        yield from self._skip_value(code)

    def _masked(self, how: MaskHow, value: bytes) -> bytes:
        if how is MaskHow.REDACT:
            return b"redacted"
        return digest(self._secret, "text", value).hex()[:DEFAULT_HASH].encode()

    def _checksum(self) -> Steps[None]:
        """Put zeros in its place, which say that there is none: what was there is no longer right."""
        self._turn(Fate.PASSES)
        self._turn(Fate.ENDS)
        yield from self._take(8)
        self._out += bytes(8)
        self._turn(Fate.PASSES)


def _written(value: bytes) -> bytes:
    """A short string as it is written: what values are masked with has at most 63 bytes."""
    return bytes([len(value)]) + value
