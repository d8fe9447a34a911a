"""Symmetric keys as operators write them: `id:base64,id:base64,...`, the first one current.

Master keys and payload keys are given so, to API and worker alike.
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

KEY_BYTES: Final = 32


class KeyringInvalidError(ValueError):
    """Keys cannot be read. The message never holds key material."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """AES-256 keys by id: `current` encrypts, all of them decrypt."""

    current: str
    keys: dict[str, bytes] = field(repr=False)


def parse_keyring(text: str) -> Keyring:
    """Read `id:base64,...` (commas or line ends between keys). Raises KeyringInvalidError."""
    keys: dict[str, bytes] = {}
    entries = [entry.strip() for line in text.splitlines() for entry in line.split(",")]
    for number, entry in enumerate((entry for entry in entries if entry), start=1):
        key_id, _, encoded = entry.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise KeyringInvalidError(f"key {number} is not base64") from error
        if not key_id or len(key) != KEY_BYTES:
            raise KeyringInvalidError(f"key {number} is not `id:base64` of {KEY_BYTES} bytes")
        if key_id in keys:
            raise KeyringInvalidError(f"key {number} repeats the id {key_id}")
        keys[key_id] = key
    if not keys:
        raise KeyringInvalidError("there is no key")
    return Keyring(current=next(iter(keys)), keys=keys)


def load_keyring(path: Path, *, create: bool) -> Keyring:
    """Read a key file; with `create`, make one with a random key when it is missing (mode 0600).

    Several processes may start at once: one file wins, and all of them read it. Raises KeyringInvalidError.
    """
    if create and not path.exists():
        _create(path)
    try:
        return parse_keyring(path.read_text())
    except OSError as error:
        raise KeyringInvalidError(f"the key file cannot be read: {error.strerror}") from error


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"dev:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}\n")
        # A link, not a rename: it does not replace what another process made meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        Path(temporary).unlink()
