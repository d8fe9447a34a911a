"""Rate limits: so many requests a minute for each API key, and so many wrong keys a minute for each address.

Counted in this process's memory: behind N processes a key has up to N times its quota, and a restart forgets.
What that costs and when it would be worth more is in docs/adr/0013.

The headers are those of the IETF's draft-ietf-httpapi-ratelimit-headers-11 ("RateLimit header fields for
HTTP", May 2026): `RateLimit-Policy: "key";q=100;w=60` names quota and window in seconds, `RateLimit:
"key";r=42;t=17` what is left of it, and in how many seconds the whole quota is there again.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from api.problems import ProblemError, RequestProblem

WINDOW_SECONDS: Final = 60
MOST_COUNTED: Final = 20_000
"""Keys or addresses that are counted at one time; beyond it the one whose window began first is forgotten."""


@dataclass(slots=True)
class _Window:
    began: float
    used: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """Where somebody stands within the present window; `seconds`: until it ends."""

    within: bool
    left: int
    seconds: int


class RateLimit:
    """A quota in windows that begin with the first request. `quota` 0: no limit. `clock` in seconds."""

    def __init__(
        self, name: str, quota: int, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_COUNTED
    ) -> None:
        self.name = name
        self.quota = quota
        self._clock = clock
        self._most = most
        # All windows are equally long: in the order in which they began they also end.
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def spend(self, who: str) -> Spent:
        """Count one request; one beyond the quota is not counted."""
        now = self._clock()
        window = self._window(who, now)
        if window is None:
            self._forget(now)
            window = self._windows[who] = _Window(now)
        within = window.used < self.quota
        window.used += within
        return Spent(within, self.quota - window.used, self._seconds(window, now))

    def look(self, who: str) -> Spent:
        """Say where somebody stands, without counting."""
        now = self._clock()
        window = self._window(who, now)
        if window is None:
            return Spent(True, self.quota, WINDOW_SECONDS)
        return Spent(window.used < self.quota, self.quota - window.used, self._seconds(window, now))

    def headers(self, spent: Spent) -> dict[str, str]:
        """What an answer says about the limit."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.name}";r={spent.left};t={spent.seconds}',
        }

    def __len__(self) -> int:
        return len(self._windows)

    def _window(self, who: str, now: float) -> _Window | None:
        window = self._windows.get(who)
        if window is not None and now - window.began >= WINDOW_SECONDS:
            del self._windows[who]
            return None
        return window

    def _forget(self, now: float) -> None:
        while self._windows:
            oldest = next(iter(self._windows.values()))
            if len(self._windows) < self._most and now - oldest.began < WINDOW_SECONDS:
                return
            self._windows.popitem(last=False)

    @staticmethod
    def _seconds(window: _Window, now: float) -> int:
        return max(1, math.ceil(window.began + WINDOW_SECONDS - now))


class Limits:
    """The two limits of a process: by key, and by address for requests without a good key."""

    def __init__(self, per_key: int, wrong_keys: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys = RateLimit("key", per_key, clock=clock)
        self.addresses = RateLimit("address", wrong_keys, clock=clock)

    def spend(self, key_id: str) -> dict[str, str]:
        """Count a request of a limited key; return the headers of its answer. Raises ProblemError (429)."""
        if not self.keys.quota:
            return {}
        spent = self.keys.spend(key_id)
        headers = self.keys.headers(spent)
        if not spent.within:
            detail = f"The key has used its {self.keys.quota} requests of this minute."
            raise _too_many(detail, spent, headers)
        return headers

    def refuse_guesses(self, address: str) -> None:
        """Raise ProblemError (429) when an address has sent too many wrong keys to be asked for another."""
        if not self.addresses.quota:
            return
        spent = self.addresses.look(network(address))
        if not spent.within:
            detail = "This address has sent too many requests without a valid API key."
            raise _too_many(detail, spent, self.addresses.headers(spent))

    def wrong_key(self, address: str) -> None:
        """Count a request without a good key."""
        if self.addresses.quota:
            self.addresses.spend(network(address))


def network(address: str) -> str:
    """Whom an address stands for: with IPv6, one customer has a whole /64."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    return str(ipaddress.ip_network((int(known), 64), strict=False))


def _too_many(detail: str, spent: Spent, headers: dict[str, str]) -> ProblemError:
    return ProblemError(
        RequestProblem.RATE_LIMITED, detail, headers={**headers, "Retry-After": str(spent.seconds)}
    )
