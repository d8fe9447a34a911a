"""The images of the demo and of the tests: built once for each content, kept as archives in the cache."""

import os
import shutil
import tempfile
from pathlib import Path

from devcluster.addresses import OPEN_REGISTRY, PRIVATE_REGISTRY
from devcluster.layout import Layout, hash_of
from devcluster.progress import Progress
from devcluster.tools import run, succeeds

NAMES = ("pause", "tiny", "postgres", "redis", "mariadb", "shop-api", "stub", "nginx")
# Images that are also behind a login, to show pull secrets with.
PRIVATE_NAMES = ("shop-api",)
TAG = "1"
BASE = "localhost/debian:bookworm"
_SUITE = "bookworm"
_BASE_OPTIONS = (
    "--variant=minbase",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)


def reference(name: str) -> str:
    """The name under which an image is known to every cluster."""
    return f"{OPEN_REGISTRY}/perdure/{name}:{TAG}"


def private_reference(name: str) -> str:
    """The name of an image's copy in the registry that asks for a login."""
    return f"{PRIVATE_REGISTRY}/private/{name}:{TAG}"


def content_hash(layout: Layout, name: str) -> str:
    """Changes when anything that goes into the image does."""
    return hash_of([layout.images / name], _SUITE, *_BASE_OPTIONS, reference(name))


def archive_path(layout: Layout, name: str) -> Path:
    """Where the archive of the image's present content is, or will be."""
    return layout.cache / "images" / f"{name}-{content_hash(layout, name)}.tar"


def ensure_archive(layout: Layout, name: str, progress: Progress) -> Path:
    """The archive of an image, built with buildah when this content was never built here."""
    archive = archive_path(layout, name)
    if archive.exists():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    builder = _Buildah(layout.cache / "buildah")
    if "ARG BASE" in (layout.images / name / "Dockerfile").read_text():
        builder.ensure_base(progress)
    with (
        progress.step(f"Building image {name}"),
        tempfile.TemporaryDirectory(prefix="perdure-image-") as scratch,
    ):
        context = compiled_context(layout.images / name, Path(scratch))
        unfinished = archive.with_name(f"{archive.name}.{os.getpid()}")
        builder.build(context, reference(name), unfinished)
        unfinished.replace(archive)
    for older in archive.parent.glob(f"{name}-{'?' * 16}.tar"):
        if older != archive:
            older.unlink()
    return archive


def compiled_context(source: Path, scratch: Path) -> Path:
    """A copy of a build context; a Go program in it is compiled, under the directory's name."""
    context = scratch / "context"
    shutil.copytree(source, context, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    if (context / "main.go").exists():
        run(
            *(
                "go",
                "build",
                "-trimpath",
                "-ldflags",
                "-s -w",
                "-o",
                context / source.name,
                context / "main.go",
            ),
            cwd=scratch,
            env={"CGO_ENABLED": "0", "GO111MODULE": "off"},
        )
    return context


class _Buildah:
    """buildah with a store of its own, without a daemon and without user namespaces."""

    def __init__(self, store: Path) -> None:
        self._words = (
            "buildah",
            "--root",
            store / "root",
            "--runroot",
            store / "run",
            "--storage-driver",
            "overlay",
        )

    def _run(self, *words: str | Path) -> str:
        return run(*self._words, *words)

    def ensure_base(self, progress: Progress) -> None:
        """The Debian base image, made from the distribution's own packages when it is not in the store."""
        if succeeds(*self._words, "inspect", "--type", "image", BASE):
            return
        with (
            progress.step("Making the Debian base image", expect="about 40 s, once"),
            tempfile.TemporaryDirectory(prefix="perdure-base-") as scratch,
        ):
            tar = Path(scratch) / "base.tar"
            run("mmdebstrap", *_BASE_OPTIONS, _SUITE, tar)
            container = self._run("from", "scratch").strip()
            try:
                self._run("add", container, tar, "/")
                self._run("config", "--cmd", "bash", container)
                self._run("commit", "--quiet", container, BASE)
            finally:
                self._run("rm", container)

    def build(self, context: Path, name: str, archive: Path) -> None:
        """Build a context and write it as an OCI archive under its name."""
        self._run(
            *("bud", "--isolation", "chroot", "--layers=false", "--pull=never", "--quiet"),
            *("--build-arg", f"BASE={BASE}", "--tag", name, context),
        )
        self._run("push", "--quiet", name, f"oci-archive:{archive}:{name}")
        # The archive is what is kept; in the store only the base is of use for the next build.
        self._run("rmi", name)
