"""The codec of payloads, shared by API and worker.

Payloads hold ids and sealed values only, so they are readable in the Temporal UI as they are. The codec is
for installations that do not want even that to be read by whoever runs the Temporal server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from activities.keyring import parse_keyring

ENCODING: Final = b"binary/encrypted"
KEY_ID: Final = "encryption-key-id"
_NONCE_BYTES: Final = 12


class PayloadUndecodable(Exception):
    """A payload was encrypted under a key that is not known here, or was changed since."""


@dataclass(frozen=True, slots=True)
class PayloadKeys:
    """AES-256 keys by id. `current` encrypts while `encode` is on; every key decrypts, always."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)
    encode: bool = True

    @classmethod
    def parse(cls, text: str, *, encode: bool) -> PayloadKeys:
        """Read `id:base64,...`, the first one current. Raises KeyringInvalidError."""
        ring = parse_keyring(text)
        return cls(current=ring.current, keys=ring.keys, encode=encode)


class EncryptingCodec(PayloadCodec):
    """AES-GCM over whole payloads; the key's id stands in the metadata and is authenticated with them.

    Decoding is always on, so that encryption can be switched, and keys changed, while workflows run.
    """

    def __init__(self, keys: PayloadKeys) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.keys.items()}
        self._current = keys.current
        self._encode = keys.encode

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload under the current key; what is encrypted already stays as it is."""
        if not self._encode:
            return list(payloads)
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted and pass on the rest. Raises PayloadUndecodable."""
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") == ENCODING:
            return payload
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(
            nonce, payload.SerializeToString(), self._current.encode()
        )
        return Payload(metadata={"encoding": ENCODING, KEY_ID: self._current.encode()}, data=nonce + sealed)

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        key_id = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise PayloadUndecodable(f"the payload key {key_id[:64]!r} is not known here")
        try:
            plain = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], key_id.encode())
        except (InvalidTag, ValueError) as error:
            raise PayloadUndecodable("the payload was changed, or encrypted under another key") from error
        return Payload.FromString(plain)


def data_converter(codec: PayloadKeys | None) -> DataConverter:
    """Return the converter of every client and worker: pydantic, and with keys the codec.

    With encryption on, failure messages and stack traces travel in encrypted attributes too.
    """
    if codec is None:
        return pydantic_data_converter
    converter = replace(pydantic_data_converter, payload_codec=EncryptingCodec(codec))
    if codec.encode:
        return replace(converter, failure_converter_class=DefaultFailureConverterWithEncodedAttributes)
    return converter
