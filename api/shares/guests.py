"""Who comes with a share link: whether it opens, and its PIN.

A link that is wrong, forgotten, expired or revoked, or whose environment is deleted, is answered alike. That
a link takes a PIN is told to those who have the link; a missing PIN and a wrong one are answered alike.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from datetime import datetime
from typing import Final

from activities.db.engine import Database
from activities.db.repositories import shares
from activities.db.repositories.shares import ShareRecord
from activities.db.types import utc_now
from activities.share_links import ShareKeys, ShareSession
from api.problems import ProblemError, RequestProblem
from api.shares.limits import GuestLimits

SESSION_SECONDS: Final = 12 * 3600
"""A browser that gave the PIN is asked again after so long."""
_PIN_REMEMBERED_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 10_000


class Guests:
    """Opens share links. What may be tried is counted in the database, so that all processes agree."""

    def __init__(self, database: Database, keys: ShareKeys, limits: GuestLimits) -> None:
        self.keys = keys
        self._database = database
        self._limits = limits
        self._one_pin_at_a_time = asyncio.Lock()
        self._own_key = os.urandom(32)
        self._right_pins: dict[str, tuple[bytes, float]] = {}

    async def by_token(self, address: str, token: str, pin: str | None) -> ShareRecord:
        """Return the share that a link opens.

        Raises ProblemError: 404 for a link that opens nothing, 401 `pin_required`, 429 `pin_locked` and
        `rate_limited`.
        """
        share_id = self.keys.share_of(token)
        share = await self._open(address, share_id)
        if share.pin_hash is not None:
            await self._check_pin(share, share.pin_hash, pin)
        return share

    async def by_session(self, address: str, cookie: str) -> ShareRecord | None:
        """Return the share that a browser has opened before; None: it has not. Raises like `by_token`."""
        session = self.keys.session_of(cookie)
        if session is None or session.until <= utc_now().timestamp():
            return None
        return await self._open(address, session.share_id)

    def session(self, share: ShareRecord) -> tuple[str, int]:
        """Return a cookie for an opened share, and for how many seconds it is good."""
        seconds = min(SESSION_SECONDS, int(share.expires_at.timestamp() - utc_now().timestamp()))
        until = int(utc_now().timestamp()) + seconds
        return self.keys.session(ShareSession(share.id, until)), seconds

    async def _open(self, address: str, share_id: str | None) -> ShareRecord:
        self._limits.take(address, share_id or "")
        if share_id is None:
            raise no_such_link()
        async with self._database.reading() as session:
            share = await shares.find_share(session, share_id)
        if share is None or not share.opens(utc_now()):
            raise no_such_link()
        return share

    async def _check_pin(self, share: ShareRecord, kept: str, pin: str | None) -> None:
        if not pin:
            raise _pin_required()
        now = utc_now()
        if share.locked(now):
            raise _pin_locked(share, now)
        if self._remembers(share.id, pin):
            return
        # One at a time: requests of one guest with the right PIN do not use up each other's attempts, and
        # the memory that a hash takes is taken once.
        async with self._one_pin_at_a_time:
            async with self._database.transaction() as session:
                claimed = await shares.claim_attempt(session, share.id)
            if claimed is None:
                raise _pin_locked(share, now)
            if not await asyncio.to_thread(self.keys.pin_fits, pin, share.key_id, kept):
                raise _pin_required()
            async with self._database.transaction() as session:
                await shares.settle_attempt(session, share.id)
            self._remember(share.id, pin)

    def _remembers(self, share_id: str, pin: str) -> bool:
        digest, until = self._right_pins.get(share_id, (b"", 0.0))
        return until > time.monotonic() and hmac.compare_digest(digest, self._digest(share_id, pin))

    def _remember(self, share_id: str, pin: str) -> None:
        if len(self._right_pins) >= _MOST_REMEMBERED:
            self._right_pins.clear()
        self._right_pins[share_id] = (
            self._digest(share_id, pin),
            time.monotonic() + _PIN_REMEMBERED_SECONDS,
        )

    def _digest(self, share_id: str, pin: str) -> bytes:
        return hmac.digest(self._own_key, f"{share_id}\0{pin}".encode(), "sha256")


def no_such_link() -> ProblemError:
    """The one answer for every link that opens nothing."""
    return ProblemError(
        RequestProblem.NOT_FOUND, "This link opens nothing: it is wrong, has expired, or was revoked."
    )


def _pin_required() -> ProblemError:
    return ProblemError(
        RequestProblem.PIN_REQUIRED,
        "This link takes a PIN, in the header X-Share-PIN; none came, or a wrong one.",
    )


def _pin_locked(share: ShareRecord, now: datetime) -> ProblemError:
    until = share.locked_until or now + shares.LOCKED_FOR
    seconds = max(1, round((until - now).total_seconds()))
    return ProblemError(
        RequestProblem.PIN_LOCKED,
        f"Too many wrong PINs: none is taken for {-(-seconds // 60)} min.",
        headers={"Retry-After": str(seconds)},
    )
