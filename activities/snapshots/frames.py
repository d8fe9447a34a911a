"""The sealed stream, version 1: header, then AES-256-GCM frames of equal size, the last one marked.

    magic "PERDURE\\x01" | length of what follows, 2 bytes | salt, 16 bytes | id of the data key | 0x00 |
    wrapped component key
    frame 0 | frame 1 | ... | last frame

Numbers are big-endian. A frame is `FRAME_BYTES` of content, encrypted, and 16 bytes of tag; only the last one
may have less content, none at all if the whole is empty. Why it is made so: docs/adr/0025-sealed-streams.md.
"""

import os
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from activities.secrets import KEY_BYTES, DataKey, SecretsError

MAGIC: Final = b"PERDURE\x01"
FRAME_BYTES: Final = 256 * 1024
TAG_BYTES: Final = 16
_LENGTH_BYTES: Final = 2
_SALT_BYTES: Final = 16
_COUNTER_BYTES: Final = 11
_LONGEST_HEADER: Final = 1024
_STREAM_KEY_INFO: Final = b"perdure snapshot stream v1"


class SealBroken(Exception):
    """A sealed stream cannot be opened: wrong key, another component's, changed, cut or put together anew."""


@dataclass(frozen=True, slots=True)
class Component:
    """Which stream of which snapshot: what is sealed for one does not open as another."""

    snapshot_id: str
    name: str

    @property
    def subject(self) -> str:
        """What the file key is for."""
        return f"snapshot {self.snapshot_id} {self.name}"


@dataclass(frozen=True, slots=True)
class ComponentKey:
    """The key of a component, open, and how it is written down. Lives in memory only.

    It seals nothing itself: each attempt at the component has a stream key of its own made from it, so that
    a worker that starts anew after a kill never uses a key twice. `body`: key id, zero byte, wrapped key.
    """

    key: bytes = field(repr=False)
    body: bytes

    @classmethod
    def new(cls, data_key: DataKey, component: Component) -> Self:
        """Make a random key for a component that is about to be captured."""
        key = os.urandom(KEY_BYTES)
        return cls(key, data_key.id.encode() + b"\0" + data_key.wrap_key(key, subject=component.subject))

    def stream_key(self) -> "FileKey":
        """Make a key for one stream, which nobody has had before."""
        body = os.urandom(_SALT_BYTES) + self.body
        return FileKey.derived(self.key, MAGIC + len(body).to_bytes(_LENGTH_BYTES) + body)


@dataclass(frozen=True, slots=True)
class FileKey:
    """The key of one stream, open, and the header that says how it is found again. Lives in memory only.

    Never used for two streams: frames are told apart by their number alone.
    """

    key: bytes = field(repr=False)
    header: bytes

    @classmethod
    def derived(cls, component_key: bytes, header: bytes) -> Self:
        """Return the key of the stream with this header: HKDF-SHA256 (RFC 5869) under the header's salt.

        Raises SealBroken.
        """
        salt, _, _ = _parts(header)
        hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_STREAM_KEY_INFO)
        return cls(hkdf.derive(component_key), header)

    @classmethod
    def open(cls, data_key: DataKey, header: bytes, component: Component) -> Self:
        """Open the key of a stream by its header. Raises SealBroken when the data key is not its own."""
        _, key_id, wrapped = _parts(header)
        if key_id != data_key.id:
            raise SealBroken(f"a stored stream was sealed under data key {key_id}, not {data_key.id}")
        try:
            component_key = data_key.unwrap_key(wrapped, subject=component.subject)
        except SecretsError as fault:
            raise SealBroken("the key of a stored stream cannot be opened") from fault
        return cls.derived(component_key, header)

    def __post_init__(self) -> None:
        """Refuse what is no key. Raises SealBroken."""
        if len(self.key) != KEY_BYTES:
            raise SealBroken(f"a file key has {len(self.key)} bytes, {KEY_BYTES} are needed")


def header_length(start: bytes) -> int | None:
    """Return how long the header is that a stream begins with; None when more of it is needed to say.

    Raises SealBroken when it is no sealed stream.
    """
    given = start[: len(MAGIC)]
    if given != MAGIC[: len(given)]:
        raise SealBroken("this is no sealed stream, or one of a version that is not known here")
    fixed = len(MAGIC) + _LENGTH_BYTES
    if len(start) < fixed:
        return None
    length = fixed + int.from_bytes(start[len(MAGIC) : fixed])
    if length > _LONGEST_HEADER:
        raise SealBroken("the header of a stored stream is longer than any")
    return length


def data_key_id(header: bytes) -> str:
    """Return the id of the data key that a stream's key is wrapped under. Raises SealBroken."""
    return _parts(header)[1]


def nonce(number: int, *, last: bool) -> bytes:
    """Return a frame's nonce: its number, counted from 0, and whether it is the last one."""
    return number.to_bytes(_COUNTER_BYTES) + bytes((last,))


def bound(header: bytes, component: Component) -> bytes:
    """Return what every frame is bound to besides its nonce."""
    parts = (header, component.snapshot_id.encode(), component.name.encode())
    # Lengths first: no two lists of parts give the same bytes.
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def _parts(header: bytes) -> tuple[bytes, str, bytes]:
    """Return salt, id of the data key and wrapped key."""
    if header_length(header) != len(header):
        raise SealBroken("the header of a stored stream is cut")
    body = header[len(MAGIC) + _LENGTH_BYTES :]
    key_id, separator, wrapped = body[_SALT_BYTES:].partition(b"\0")
    try:
        name = key_id.decode()
    except UnicodeDecodeError as fault:
        raise SealBroken("the header of a stored stream names no key") from fault
    if not separator or not name:
        raise SealBroken("the header of a stored stream names no key")
    return body[:_SALT_BYTES], name, wrapped
