"""How often guests may ask: counted in this process, by address and by link."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from api.problems import ProblemError, RequestProblem

_MOST_REMEMBERED: Final = 20_000
_V6_PREFIX: Final = 64
"""Whoever has one IPv6 address has so many of its bits to choose from."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class GuestLimits:
    """A bucket of `per_minute` requests for each address and link, filled evenly."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take(self, address: str, share_id: str) -> None:
        """Count a request; `share_id` is empty for all that is no link. Raises ProblemError (429)."""
        key, now = (_network(address), share_id), self._clock()
        bucket = self._buckets.pop(key, None) or _Bucket(self._most, now)
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[key] = bucket
        while len(self._buckets) > _MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            seconds = max(1, round((1 - bucket.left) / self._per_second))
            raise ProblemError(
                RequestProblem.RATE_LIMITED,
                f"Too many requests for this link from this address; the next one in {seconds} s.",
                headers={"Retry-After": str(seconds)},
            )
        bucket.left -= 1


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, _V6_PREFIX), strict=False))
