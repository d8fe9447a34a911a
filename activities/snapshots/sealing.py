"""Sealing a stream and opening it again: compressed, encrypted in frames, its digests taken on the way.

Both are plain calculation, bytes in and bytes out, of some milliseconds for each megabyte: callers that have
an event loop give them a thread (`activities.snapshots.archive`).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from backports.zstd import (
    CompressionParameter,
    DecompressionParameter,
    ZstdCompressor,
    ZstdDecompressor,
    ZstdError,
)
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from activities.snapshots.frames import (
    FRAME_BYTES,
    TAG_BYTES,
    Component,
    FileKey,
    SealBroken,
    bound,
    nonce,
)

_LEVEL: Final = 3
_LARGEST_WINDOW: Final = 23
"""Base-2 logarithm of the memory that a stream may ask of whoever opens it: 8 MiB; level 3 takes 2 MiB."""
_SEALED_FRAME: Final = FRAME_BYTES + TAG_BYTES
_PIECE: Final = 1024 * 1024
"""Most bytes that `Opening` gives at once: a few bytes may expand to gigabytes."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What a stream is, before and after sealing: byte counts, and SHA-256 in hex."""

    plain_bytes: int
    plain_sha256: str
    stored_bytes: int
    stored_sha256: str


class _Count:
    """Bytes that went by and their digest."""

    def __init__(self) -> None:
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def take(self, data: bytes) -> bytes:
        self.bytes += len(data)
        self.sha256.update(data)
        return data


class _Counts:
    """The counts of both sides of a seal."""

    def __init__(self) -> None:
        self.plain, self.stored = _Count(), _Count()

    def digests(self) -> Digests:
        return Digests(
            plain_bytes=self.plain.bytes,
            plain_sha256=self.plain.sha256.hexdigest(),
            stored_bytes=self.stored.bytes,
            stored_sha256=self.stored.sha256.hexdigest(),
        )


class Sealing:
    """Seals one stream: the stored bytes are what the calls of `write` return, and last `finish`."""

    def __init__(self, key: FileKey, component: Component) -> None:
        self._cipher = AESGCM(key.key)
        self._bound = bound(key.header, component)
        self._compressor = ZstdCompressor(
            options={
                CompressionParameter.compression_level: _LEVEL,
                CompressionParameter.checksum_flag: True,
            }
        )
        self._counts = _Counts()
        self._header = key.header
        self._waiting = bytearray()
        self._number = 0

    def write(self, data: bytes) -> bytes:
        """Take the next bytes of the content; return the stored bytes that are ready, often none."""
        self._waiting += self._compressor.compress(self._counts.plain.take(data))
        return self._full_frames()

    def finish(self) -> bytes:
        """Return what is left of the stored bytes, the last frame at the end."""
        self._waiting += self._compressor.flush(ZstdCompressor.FLUSH_FRAME)
        full = self._full_frames()
        return full + self._frame(self._waiting, last=True)

    def digests(self) -> Digests:
        """Return what went through; after `finish`, what the stream is."""
        return self._counts.digests()

    def _full_frames(self) -> bytes:
        """Encrypt what fills frames; a full one waits until there is more, for it may be the last."""
        ready = [self._taken_header()]
        end = max(0, len(self._waiting) - 1) // FRAME_BYTES * FRAME_BYTES
        ready += [
            self._frame(self._waiting[start : start + FRAME_BYTES], last=False)
            for start in range(0, end, FRAME_BYTES)
        ]
        del self._waiting[:end]
        return b"".join(ready)

    def _taken_header(self) -> bytes:
        header, self._header = self._header, b""
        return self._counts.stored.take(header)

    def _frame(self, content: bytearray, *, last: bool) -> bytes:
        frame = self._cipher.encrypt(nonce(self._number, last=last), content, self._bound)
        self._number += 1
        return self._counts.stored.take(frame)


class Opening:
    """Opens one sealed stream: its content is what the calls of `write` yield, and last `finish`.

    Every byte that comes out was sealed with this key as this component, at this place. That there is no more
    of it is known only when `finish` has ended: what came out before may be the beginning of a stream that
    was cut. Memory stays bounded whatever the content expands to, as long as each iterator is exhausted.
    """

    def __init__(self, key: FileKey, component: Component) -> None:
        self._cipher = AESGCM(key.key)
        self._bound = bound(key.header, component)
        self._decompressor = ZstdDecompressor(
            options={DecompressionParameter.window_log_max: _LARGEST_WINDOW}
        )
        self._counts = _Counts()
        self._header = key.header
        self._waiting = bytearray()
        self._number = 0

    def write(self, data: bytes) -> Iterator[bytes]:
        """Take the next stored bytes; yield the content that they hold. Raises SealBroken."""
        self._waiting += self._counts.stored.take(data)
        self._skip_header()
        while len(self._waiting) > _SEALED_FRAME:
            frame = self._waiting[:_SEALED_FRAME]
            del self._waiting[:_SEALED_FRAME]
            yield from self._content(frame, last=False)

    def finish(self) -> Iterator[bytes]:
        """Yield what is left of the content. Raises SealBroken when the stream did not end with its end."""
        if self._header:
            raise SealBroken("a stored stream is cut in its header")
        yield from self._content(self._waiting, last=True)
        if not self._decompressor.eof or self._decompressor.unused_data:
            raise SealBroken("a stored stream does not end where its content does")

    def digests(self) -> Digests:
        """Return what went through; after `finish`, what the stream is."""
        return self._counts.digests()

    def _skip_header(self) -> None:
        there = self._waiting[: len(self._header)]
        if there != self._header[: len(there)]:
            raise SealBroken("a stored stream has another header than its key's")
        if len(there) == len(self._header):
            del self._waiting[: len(there)]
            self._header = b""

    def _content(self, frame: bytearray, *, last: bool) -> Iterator[bytes]:
        try:
            clear = self._cipher.decrypt(nonce(self._number, last=last), frame, self._bound)
        except (InvalidTag, ValueError) as fault:
            raise SealBroken(
                f"frame {self._number} of a stored stream cannot be opened: wrong key, changed, or cut"
            ) from fault
        self._number += 1
        try:
            while clear or not (self._decompressor.needs_input or self._decompressor.eof):
                content = self._decompressor.decompress(clear, max_length=_PIECE)
                clear = b""
                if content:
                    yield self._counts.plain.take(content)
        except (ZstdError, EOFError) as fault:
            raise SealBroken("the content of a stored stream cannot be expanded") from fault
