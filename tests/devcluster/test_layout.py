"""Places and content hashes."""

from pathlib import Path

from devcluster import images, nodebinary
from devcluster.layout import MAX_STATE_PATH, Layout, default_layout, hash_of, layout_of


def layout(repo: Path) -> Layout:
    return Layout(repo=repo, state=repo / ".dev" / "cluster", cache=repo / "cache")


def test_a_short_path_is_used_as_it_is() -> None:
    assert layout(Path("/src/app")).short == Path("/src/app/.dev/cluster")


def test_a_long_path_gets_a_short_name_of_its_own() -> None:
    one, other = layout(Path("/" + "a" * 90)), layout(Path("/" + "b" * 90))
    assert len(str(one.short)) < MAX_STATE_PATH
    assert one.short.parent == Path("/run")
    assert one.short != other.short


def test_checkouts_that_share_their_state_call_it_alike(tmp_path: Path) -> None:
    """One started the cluster, and another may stop it."""
    owner, guest = tmp_path / "owner", tmp_path / "guest"
    (owner / ".dev").mkdir(parents=True)
    guest.mkdir()
    (guest / ".dev").symlink_to(owner / ".dev")
    assert layout_of(guest).state == layout_of(owner).state == owner.resolve() / ".dev" / "cluster"
    assert layout_of(guest).short == layout_of(owner).short
    assert layout_of(guest).repo == guest


def test_the_hash_follows_names_contents_and_modes(tmp_path: Path) -> None:
    context = tmp_path / "image"
    (context / "part").mkdir(parents=True)
    file = context / "part" / "run.sh"
    file.write_text("exit 0\n")
    seen = {hash_of([context])}
    file.write_text("exit 1\n")
    seen.add(hash_of([context]))
    file.chmod(0o755)
    seen.add(hash_of([context]))
    file.rename(context / "part" / "start.sh")
    seen.add(hash_of([context]))
    seen.add(hash_of([context], "another option"))
    assert len(seen) == 5


def test_compiled_python_does_not_change_the_hash(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("pass\n")
    before = hash_of([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "app.pyc").write_bytes(b"1")
    assert hash_of([tmp_path]) == before


def test_the_binary_is_cached_by_its_sources() -> None:
    here = default_layout()
    place = nodebinary.location(here)
    assert place.is_relative_to(here.cache)
    assert place == nodebinary.location(here)
    assert place.name == "perdure-node"


def test_every_image_has_a_dockerfile_on_a_base_that_can_be_replaced() -> None:
    here = default_layout()
    assert sorted(images.NAMES) == sorted(path.parent.name for path in here.images.glob("*/Dockerfile"))
    for name in images.NAMES:
        text = (here.images / name / "Dockerfile").read_text()
        assert "ARG BASE=debian:bookworm-slim\nFROM ${BASE}" in text or "\nFROM scratch\n" in text
        assert images.reference(name).endswith(f"/perdure/{name}:1")
