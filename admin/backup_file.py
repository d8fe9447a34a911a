"""A backup's file: gzip over JSON lines, of which the last has counts and a SHA-256 of all before it.

The first line is the head; then for each table a line with its name and columns, and one line for each row.
`gzip -dc FILE | head -1` shows what a file is. The digest finds damage, it does not keep anybody from
changing a file: keep backups where nobody can.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from activities.db.copying import Row
from admin.errors import AdminError, NotUsable
from admin.new_file import new_file
from admin.sealed_keys import SealedKeys

FORMAT: Final = 1
_LEVEL: Final = 5
_LONGEST_LINE: Final = 64 * 2**20
_WHOLE: Final = "It is damaged or was not written to its end: take another backup."


class Head(BaseModel):
    """What a backup is. `schema_revision`: of the tables in it. `master_keys`: ids that its secrets need."""

    model_config = ConfigDict(frozen=True)

    perdure_backup: int
    taken_at: datetime
    installation: str
    schema_revision: str
    version: str
    engine: str
    master_keys: tuple[str, ...]
    sealed_keys: SealedKeys | None = None

    @property
    def bound(self) -> str:
        """What its sealed keys are bound to."""
        return f"perdure backup of {self.installation} at {self.taken_at.isoformat()}"


@dataclass(frozen=True, slots=True)
class TableStart:
    """The rows that follow are of this table."""

    name: str
    columns: tuple[str, ...]


class Writer:
    """Writes the lines of one file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._table = ""
        self.rows: dict[str, int] = {}

    def head(self, head: Head) -> None:
        """Write the first line."""
        self._line(head.model_dump(mode="json"))

    def table(self, start: TableStart) -> None:
        """Begin a table."""
        self._table = start.name
        self.rows[start.name] = 0
        self._line({"table": start.name, "columns": list(start.columns)})

    def row(self, row: Row) -> None:
        """Write a row of the table that was begun last."""
        self.rows[self._table] += 1
        self._line(row)

    def end(self) -> None:
        """Write the last line."""
        self._line({"end": self.rows, "sha256": self._digest.hexdigest()})

    def _line(self, value: object) -> None:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        self._digest.update(line)
        self._file.write(line)


@contextmanager
def new_backup(path: Path) -> Iterator[Writer]:
    """Yield a writer; the file appears under its name, whole and on the disk, when the body ends well.

    Only its owner may read it. Raises AdminError when something of that name is there; it stays as it is.
    """
    taken = AdminError(f"{path} exists already; a backup is never written over something.")
    if path.exists():
        raise taken
    try:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(new_file(path))
            except OSError as error:
                raise NotUsable(f"{path} cannot be made: {error.strerror}.") from error
            # No name and no time in its header: the same content is the same file.
            packed = stack.enter_context(gzip.GzipFile("", "wb", _LEVEL, file, mtime=0))
            writer = Writer(packed)  # type: ignore[arg-type]
            yield writer
            writer.end()
    except FileExistsError as error:
        raise taken from error


def read_head(path: Path) -> Head:
    """Return what a file says that it is, without looking at the rest. Raises AdminError."""
    with _lines(path) as lines:
        return _head(path, next(lines, b""))


def read_file(path: Path) -> Iterator[Head | TableStart | Row]:
    """Yield the head, then tables and their rows; the end is reached only by a whole, undamaged file.

    Raises AdminError.
    """
    digest = hashlib.sha256()
    rows: dict[str, int] = {}
    table = ""
    with _lines(path) as lines:
        line = next(lines, b"")
        yield _head(path, line)
        for following in lines:
            digest.update(line)
            line = following
            try:
                value = json.loads(line)
            except ValueError as error:
                raise _damaged(path) from error
            if isinstance(value, list):
                if table not in rows:
                    raise _damaged(path)
                rows[table] += 1
                yield value
            elif isinstance(value, dict) and "table" in value:
                table = str(value["table"])
                rows[table] = 0
                yield TableStart(table, tuple(value["columns"]))
            else:
                whole = isinstance(value, dict) and value.get("end") == rows
                if not whole or value.get("sha256") != digest.hexdigest() or next(lines, None) is not None:
                    raise _damaged(path)
                return
    raise _damaged(path)


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    def read(file: gzip.GzipFile) -> Iterator[bytes]:
        try:
            while line := file.readline(_LONGEST_LINE):
                yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(path) from error

    try:
        opened = gzip.open(path, "rb")  # noqa: SIM115 - closed below; only the opening is looked at here
    except FileNotFoundError as error:
        raise NotUsable(f"There is no file {path}.") from error
    except OSError as error:
        raise NotUsable(f"{path} cannot be read: {error.strerror}.") from error
    with opened as file:
        yield read(file)


def _head(path: Path, line: bytes) -> Head:
    try:
        kind = json.loads(line).get("perdure_backup")
    except (ValueError, AttributeError):
        kind = None
    if not isinstance(kind, int):
        raise AdminError(f"{path} is not a backup of Perdure.")
    if kind != FORMAT:
        raise AdminError(f"{path} is in format {kind}, this version reads format {FORMAT}.")
    try:
        return Head.model_validate_json(line)
    except ValidationError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> AdminError:
    return AdminError(f"{path} cannot be restored.", hints=[_WHOLE])
