"""Files of operators: whole or not there, and never in the place of another."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from admin.new_file import new_file


@pytest.fixture(
    params=[None, errno.EPERM, errno.ENOTSUP], ids=["links", "no links", "no links, said otherwise"]
)
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of a file system, of one without hard links too."""
    if request.param is not None:

        def refused(*_: object) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(os, "link", refused)
    return tmp_path


def names_in(directory: Path) -> list[str]:
    return [each.name for each in directory.iterdir()]


def write(path: Path, content: bytes, then: Callable[[], object]) -> None:
    """Write a new file, and do something before it has its name."""
    with new_file(path) as file:
        file.write(content)
        then()


def test_it_is_there_whole_when_the_body_has_ended(directory: Path) -> None:
    path = directory / "keys"
    with new_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(directory) == ["keys"]


def test_what_fails_leaves_nothing(directory: Path) -> None:
    def fail() -> None:
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write(directory / "keys", b"half", fail)
    assert names_in(directory) == []


def test_what_was_put_there_meanwhile_stays(directory: Path) -> None:
    path = directory / "keys"
    with pytest.raises(FileExistsError):
        write(path, b"ours", lambda: path.write_bytes(b"somebody else's"))
    assert path.read_bytes() == b"somebody else's"
    assert names_in(directory) == ["keys"]


def test_other_errors_are_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="full"), new_file(directory / "keys"):
        pass
    assert names_in(directory) == []
