"""Master keys sealed with a passphrase: scrypt (RFC 7914), then AES-256-GCM, bound to their backup."""

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict

from activities.keyring import parse_keyring
from activities.secrets import MasterKeys, SecretsError

SHORTEST_PASSPHRASE: Final = 12
_COST: Final = 2**17
_BLOCK: Final = 8
"""128 MiB and some tenths of a second for each guess."""
_MOST_COST: Final = 2**20
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12


class SealedKeys(BaseModel):
    """As they stand in the file; bytes as base64."""

    model_config = ConfigDict(frozen=True)

    cost: int
    salt: str
    sealed: str


def seal_keys(keys: MasterKeys, passphrase: str, bound_to: str) -> SealedKeys:
    """Seal the keys; the same `bound_to` has to be given to open them."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    text = written_keys(keys).encode()
    sealed = AESGCM(_derived(passphrase, salt, _COST)).encrypt(nonce, text, bound_to.encode())
    return SealedKeys(cost=_COST, salt=_base64(salt), sealed=_base64(nonce + sealed))


def open_keys(sealed: SealedKeys, passphrase: str, bound_to: str) -> MasterKeys:
    """Open the keys. Raises SecretsError for a wrong passphrase, or when they were changed."""
    try:
        if not 2 <= sealed.cost <= _MOST_COST:
            raise ValueError("the cost is out of bounds")
        salt, text = (base64.b64decode(part, validate=True) for part in (sealed.salt, sealed.sealed))
        cipher = AESGCM(_derived(passphrase, salt, sealed.cost))
        ring = parse_keyring(
            cipher.decrypt(text[:_NONCE_BYTES], text[_NONCE_BYTES:], bound_to.encode()).decode()
        )
    except (InvalidTag, ValueError, binascii.Error) as error:
        raise SecretsError(
            "the sealed master keys do not open: wrong passphrase, or the file was changed"
        ) from error
    return MasterKeys(current_id=ring.current, keys=ring.keys)


def written_keys(keys: MasterKeys) -> str:
    """Return the keys as PERDURE_MASTER_KEYS has them, the current one first."""
    order = sorted(keys.keys, key=lambda each: each != keys.current_id)
    return ",".join(f"{each}:{_base64(keys.keys[each])}" for each in order)


def _derived(passphrase: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=_BLOCK, p=1).derive(passphrase.encode())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
