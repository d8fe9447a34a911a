"""Share links: signed tokens, the sessions that a browser gets for them, and PINs.

A token is `pds_<id>.<key>.<signature>`: the id of a share, the id of the master key behind the signature,
and an HMAC-SHA256 under a key derived from that master key (HKDF, RFC 5869). The database holds neither the
token nor a digest of it, so that a dump of it opens no link; a master key that is taken away takes its links
with it.
"""

import base64
import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from activities.secrets import KEY_BYTES, MasterKeys

TOKEN_PREFIX: Final = "pds_"  # noqa: S105 - what tokens begin with: logs and secret scanners know them by it
LONGEST_TOKEN: Final = 400
_SALT_BYTES: Final = 16
_SCRYPT_COST: Final = 2**14
_SCRYPT_BLOCK: Final = 8
_SCRYPT_MEMORY_BYTES: Final = 32 * 1024 * 1024
"""16 MiB (128 * cost * block) and some room: OpenSSL refuses what comes too close to its limit."""
_KEY_INFO: Final = b"perdure share links v1"
_NO_KEY: Final = bytes(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class ShareSession:
    """What a cookie stands for: a share whose PIN, if it has one, was given. `until`: Unix seconds."""

    share_id: str
    until: int


class ShareKeys:
    """Signs and checks with keys derived from the installation's master keys. Safe to share."""

    def __init__(self, master: MasterKeys) -> None:
        self.current_id = master.current_id
        self._keys = {key_id: _derived(key) for key_id, key in master.keys.items()}

    def token(self, share_id: str, key_id: str) -> str:
        """Return the token of a share. Raises KeyError for a key that is not configured."""
        return f"{TOKEN_PREFIX}{self._signed('token', key_id, share_id)}"

    def share_of(self, token: str) -> str | None:
        """Return the id of the share that a token was made for; None when it was not made here."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        parts = self._checked("token", token.removeprefix(TOKEN_PREFIX), 1)
        return parts[0] if parts else None

    def session(self, session: ShareSession) -> str:
        """Return the value of a cookie."""
        return self._signed("session", self.current_id, session.share_id, str(session.until))

    def session_of(self, value: str) -> ShareSession | None:
        """Return what a cookie stands for; None when it was not made here. The caller looks at `until`."""
        parts = self._checked("session", value, 2)
        return ShareSession(parts[0], int(parts[1])) if parts else None

    def hash_pin(self, pin: str, key_id: str) -> str:
        """Return what is kept of a PIN; takes some 50 ms and 16 MiB. Raises KeyError for an unknown key.

        PINs are short: without the key, which is not in the database, a dump of it gives none by trying all.
        """
        salt = os.urandom(_SALT_BYTES)
        return f"scrypt.{_encode(salt)}.{_encode(self._stretched(pin, key_id, salt))}"

    def pin_fits(self, pin: str, key_id: str, kept: str) -> bool:
        """Tell whether `hash_pin` gave `kept` for this PIN; as slow. False when the key is not configured."""
        if key_id not in self._keys:
            return False
        _, salt, expected = kept.split(".")
        found = self._stretched(pin, key_id, _decode(salt))
        return hmac.compare_digest(found, _decode(expected))

    def _stretched(self, pin: str, key_id: str, salt: bytes) -> bytes:
        peppered = hmac.digest(self._keys[key_id], b"pin\0" + pin.encode(), "sha256")
        return hashlib.scrypt(
            peppered, salt=salt, n=_SCRYPT_COST, r=_SCRYPT_BLOCK, p=1, maxmem=_SCRYPT_MEMORY_BYTES
        )

    def _signed(self, purpose: str, key_id: str, *parts: str) -> str:
        signature = _signature(self._keys[key_id], purpose, key_id, *parts)
        return ".".join((*parts, _encode(key_id.encode()), _encode(signature)))

    def _checked(self, purpose: str, value: str, count: int) -> tuple[str, ...] | None:
        """The parts of a signed value; an unknown key costs as much time as a wrong signature."""
        if len(value) > LONGEST_TOKEN or not value.isascii():
            return None
        pieces = value.split(".")
        if len(pieces) != count + 2 or not all(pieces):
            return None
        *parts, key, signature = pieces
        try:
            key_id, given = _decode(key).decode(), _decode(signature)
        except (binascii.Error, ValueError):
            return None
        expected = _signature(self._keys.get(key_id, _NO_KEY), purpose, key_id, *parts)
        fits = hmac.compare_digest(given, expected)
        return tuple(parts) if fits and key_id in self._keys else None


def _derived(master: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_KEY_INFO).derive(master)


def _signature(key: bytes, *parts: str) -> bytes:
    # Lengths first: no two lists of parts give the same bytes.
    text = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
    return hmac.digest(key, text, "sha256")


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decode(text: str) -> bytes:
    # `validate` only with the standard call: urlsafe_b64decode skips what is no base64.
    padded = text + "=" * (-len(text) % 4)
    value = base64.b64decode(padded, altchars=b"-_", validate=True)
    if _encode(value) != text:
        raise ValueError("not the one spelling of these bytes")
    return value
