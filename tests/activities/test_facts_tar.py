"""Facts of a tar archive."""

import io
import tarfile
from collections.abc import Callable

import pytest

from activities.snapshots.facts import ContentBroken
from tests.helpers.fact_streams import archive, facts, flipped, names
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_facts import Kind, differences


def test_what_a_tar_archive_holds() -> None:
    found = facts(archive(), DataStore.FILES)
    assert names(found, Kind.FILES) == {".": 1, "a": 4, "b": 1, "c": 1}
    assert found.tallies[0].size == 700 + 1 + 512 + 1


def test_the_order_and_times_of_files_do_not_matter() -> None:
    def turned(files: dict[str, bytes]) -> None:
        for name in list(files)[::-1]:
            files[name] = files.pop(name)

    others = (archive(tarfile.PAX_FORMAT), archive(change=turned))
    for other in others:
        assert other != archive()
        assert facts(other, DataStore.FILES) == facts(archive(), DataStore.FILES)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda files: files.update({"top": b"y" * 512}),
            "directory .: 1 files as recorded, but with other content",
        ),
        (lambda files: files.pop("a/two"), "directory a: 4 files recorded, 3 found"),
        (lambda files: files.pop("./b/ü"), "directory b: recorded with 1 files, not found"),
        (lambda files: files.update({"d": b""}), "directory .: 1 files recorded, 2 found"),
        (
            lambda files: files.update({"a/one": files["a/two"], "a/two": files["a/one"]}),
            "directory a: 4 files as recorded, but with other content",
        ),
    ],
    ids=["changed", "lost", "directory", "more", "exchanged"],
)
def test_one_file_that_is_another(change: Callable[[dict[str, bytes]], object], line: str) -> None:
    recorded, found = facts(archive(), DataStore.FILES), facts(archive(change=change), DataStore.FILES)
    assert differences(recorded, found) == (line,)


def test_a_tar_archive_whose_bytes_were_changed() -> None:
    stream, whole = archive(), facts(archive(), DataStore.FILES)
    content = stream.index(b"1" * 700)
    for at in range(content, content + 700, 7):
        assert facts(flipped(stream, at), DataStore.FILES) != whole
    header = content - 512
    # But for the end of the field with the header's own sum, which is two bytes of filling.
    for at in (*range(header, header + 154, 7), *range(header + 156, content, 7)):
        with pytest.raises(ContentBroken):
            facts(flipped(stream, at), DataStore.FILES)
    with pytest.raises(ContentBroken, match="no end"):
        facts(flipped(stream, len(stream.rstrip(b"\0")) // 512 * 512 + 1100), DataStore.FILES)


def linked(first: str, second: str, content: bytes) -> bytes:
    """An archive of one file with two names, as tar found them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(first)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo(second)
        member.type, member.linkname = tarfile.LNKTYPE, first
        tar.addfile(member)
    return buffer.getvalue()


def test_which_of_two_names_is_the_link_does_not_matter() -> None:
    recorded = facts(linked("a/x", "b/y", b"1"), DataStore.FILES)
    assert facts(linked("b/y", "a/x", b"1"), DataStore.FILES) == recorded
    assert differences(recorded, facts(linked("b/y", "a/x", b"2"), DataStore.FILES)) == (
        "contents of files: 1 as recorded, but with other content",
    )
    assert differences(recorded, facts(linked("b/y", "a/z", b"1"), DataStore.FILES)) == (
        "directory a: 1 files as recorded, but with other content",
    )
    (line,) = differences(recorded, facts(archive(), DataStore.FILES))
    assert "hard links" in line
