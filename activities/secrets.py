"""Keeping secrets: envelope encryption at rest, sealed boxes on the way to a cluster.

At rest: AES-256-GCM under a data key per organisation, itself wrapped by a master key. Both carry additional
data (which organisation, which secret), so that a ciphertext copied to another row does not open. On the way:
X25519 sealed boxes (libsodium) that only the cluster's worker can open. Nothing here puts a value into a
repr, a log or an error.
"""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SECRET_CHARACTERS: Final = 32
_HASH_KEY_INFO: Final = b"perdure step input hashes v1"
_DIGEST_KEY_INFO: Final = b"perdure request digests v1"
_MASKING_KEY_INFO: Final = b"perdure masked values v1"


class SecretsError(Exception):
    """A value cannot be opened or a key cannot be used; the text never holds the value or the key."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is stored."""

    id: str
    organization_id: str
    master_key_id: str
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DataKey:
    """An organisation's data key, open. Lives in memory only."""

    id: str
    organization_id: str
    key: bytes = field(repr=False)

    def encrypt(self, value: str, *, subject: str) -> bytes:
        """Encrypt a value; `subject` names what it belongs to and must be given again to open it."""
        return _seal(self.key, value.encode(), self._bound(subject))

    def decrypt(self, ciphertext: bytes, *, subject: str) -> str:
        """Open what `encrypt` gave for the same subject. Raises SecretsError when it does not fit."""
        return _open(self.key, ciphertext, self._bound(subject)).decode()

    def wrap_key(self, key: bytes, *, subject: str) -> bytes:
        """Encrypt another key; `subject` names what that one is for and must be given again to open it."""
        return _seal(self.key, key, _bind("file key", self.organization_id, self.id, subject))

    def unwrap_key(self, wrapped: bytes, *, subject: str) -> bytes:
        """Open what `wrap_key` gave for the same subject. Raises SecretsError when it does not fit."""
        return _open(self.key, wrapped, _bind("file key", self.organization_id, self.id, subject))

    def hash_key(self) -> bytes:
        """Return the 32-byte key for HMACs over secret material, derived with HKDF-SHA256 (RFC 5869).

        It changes with the data key: after a rotation a retry runs its steps again instead of skipping them.
        """
        return HKDF(
            algorithm=SHA256(), length=KEY_BYTES, salt=self.organization_id.encode(), info=_HASH_KEY_INFO
        ).derive(self.key)

    def masking_key(self) -> bytes:
        """Return the 32-byte key that masked values are derived by, with HKDF-SHA256 (RFC 5869).

        It changes with the data key, not with the master key: data that are restored afterwards no longer
        join with data that were masked before.
        """
        return HKDF(
            algorithm=SHA256(), length=KEY_BYTES, salt=self.organization_id.encode(), info=_MASKING_KEY_INFO
        ).derive(self.key)

    def _bound(self, subject: str) -> bytes:
        return _bind("secret", self.organization_id, self.id, subject)


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The installation's master keys by id: `current_id` wraps, all of them unwrap.

    To rotate, add a key, make it current and `rewrap` the data keys; the old one can go when none names it.
    """

    current_id: str
    keys: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a set of keys that could not work. Raises SecretsError."""
        if self.current_id not in self.keys:
            raise SecretsError(f"the current master key {self.current_id!r} is not among the keys")
        for key_id, key in self.keys.items():
            if len(key) != KEY_BYTES:
                raise SecretsError(f"master key {key_id!r} has {len(key)} bytes, {KEY_BYTES} are needed")

    def new_data_key(self, key_id: str, organization_id: str) -> WrappedKey:
        """Make a random data key and return it wrapped."""
        return self._wrap(key_id, organization_id, os.urandom(KEY_BYTES))

    def unwrap(self, wrapped: WrappedKey) -> DataKey:
        """Open a data key. Raises SecretsError when its master key is missing or it was tampered with."""
        master = self.keys.get(wrapped.master_key_id)
        if master is None:
            raise SecretsError(f"master key {wrapped.master_key_id!r} is not configured")
        key = _open(master, wrapped.wrapped, _data_key_bound(wrapped.id, wrapped.organization_id))
        return DataKey(id=wrapped.id, organization_id=wrapped.organization_id, key=key)

    def rewrap(self, wrapped: WrappedKey) -> WrappedKey:
        """Return the same data key under the current master key. Raises SecretsError like `unwrap`."""
        return self._wrap(wrapped.id, wrapped.organization_id, self.unwrap(wrapped).key)

    def digest_key(self) -> bytes:
        """Return the 32-byte key for HMACs over requests, derived with HKDF-SHA256 (RFC 5869).

        It changes with the current master key: a request that is repeated over a rotation counts as another.
        """
        derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_DIGEST_KEY_INFO)
        return derived.derive(self.keys[self.current_id])

    def _wrap(self, key_id: str, organization_id: str, key: bytes) -> WrappedKey:
        bound = _data_key_bound(key_id, organization_id)
        return WrappedKey(
            id=key_id,
            organization_id=organization_id,
            master_key_id=self.current_id,
            wrapped=_seal(self.keys[self.current_id], key, bound),
        )


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals values for one cluster: whoever seals cannot open. `public_key`: 32 bytes, base64."""

    public_key: str

    def __post_init__(self) -> None:
        """Raises SecretsError when the key is not one."""
        _key_bytes(self.public_key)

    def seal(self, value: str) -> str:
        """Return the sealed value, base64."""
        box = SealedBox(PublicKey(_key_bytes(self.public_key)))
        return base64.b64encode(box.encrypt(value.encode())).decode()


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens what was sealed for this cluster. `private_key`: 32 bytes, base64."""

    private_key: str = field(repr=False)

    def __post_init__(self) -> None:
        """Raises SecretsError when the key is not one."""
        _key_bytes(self.private_key)

    @property
    def public_key(self) -> str:
        """The key to seal with, base64."""
        return base64.b64encode(bytes(self._private().public_key)).decode()

    def open(self, sealed: str) -> str:
        """Return the value. Raises SecretsError when it was sealed for another key or damaged."""
        try:
            return SealedBox(self._private()).decrypt(base64.b64decode(sealed, validate=True)).decode()
        except (CryptoError, binascii.Error, ValueError) as fault:
            raise SecretsError("the sealed value cannot be opened with this cluster's key") from fault

    def _private(self) -> PrivateKey:
        return PrivateKey(_key_bytes(self.private_key))


def new_private_key() -> str:
    """Return a fresh X25519 private key, base64: what `Opener` takes."""
    return base64.b64encode(bytes(PrivateKey.generate())).decode()


def generate_secret() -> str:
    """Return 32 random URL-safe characters (192 bits): the value of an `auto-generated` secret."""
    return secrets.token_urlsafe(_SECRET_CHARACTERS * 3 // 4)


def new_token() -> str:
    """Return a fresh API key, `pdr_` and 43 random URL-safe characters."""
    return f"pdr_{secrets.token_urlsafe(32)}"


def token_digest(token: str) -> str:
    """Return what is stored of a token: SHA-256 in hex. No salt or stretching: tokens are 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def _key_bytes(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as fault:
        raise SecretsError("a cluster key is not base64") from fault
    if len(key) != KEY_BYTES:
        raise SecretsError(f"a cluster key has {len(key)} bytes, {KEY_BYTES} are needed")
    return key


def _data_key_bound(key_id: str, organization_id: str) -> bytes:
    return _bind("data key", organization_id, key_id)


def _bind(*parts: str) -> bytes:
    # Lengths first: no two lists of parts give the same bytes.
    return b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)


def _seal(key: bytes, clear: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, clear, bound)


def _open(key: bytes, ciphertext: bytes, bound: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:], bound)
    except (InvalidTag, ValueError) as fault:
        raise SecretsError("a stored value cannot be opened: wrong key, or changed") from fault
