"""Command line of the development cluster."""

import argparse
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devcluster.borrowed import BorrowedCluster
from devcluster.embedded import EmbeddedNode
from devcluster.errors import DevclusterError
from devcluster.kind import KindCluster
from devcluster.layout import Layout, default_layout
from devcluster.progress import Progress
from devcluster.providers import ENGINES, Machine, Provider, ProviderName, choose, look_around


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it held, 1 with the reason on stderr when not."""
    options = _parser().parse_args(arguments)
    layout = default_layout()
    try:
        return _run(options, layout)
    except DevclusterError as e:
        sys.stderr.write(f"devcluster: {e}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("devcluster: interrupted; `down` removes what is half done\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devcluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="make the cluster run; a second time it starts only what is missing")
    up.add_argument(
        "--provider", type=ProviderName, choices=list(ProviderName), help="do not choose, use this one"
    )
    commands.add_parser("down", help="remove the cluster and everything of it outside the cache")
    commands.add_parser("status", help="what runs; ends with 1 when there is no cluster")
    commands.add_parser("images", help="build the demo's images where needed, load and push them")
    load = commands.add_parser("load", help="import an image archive (OCI or docker) under its own tags")
    load.add_argument("archive", type=Path)
    push = commands.add_parser("push", help="push a loaded image to the registry named in its reference")
    push.add_argument("reference")
    config = commands.add_parser("kubeconfig", help="print the path of the control plane's kubeconfig")
    config.add_argument("--admin", action="store_true", help="of the one with all rights instead")
    commands.add_parser("packages", help="install missing system packages (Debian, root)")
    return parser


def _run(options: argparse.Namespace, layout: Layout) -> int:
    progress = Progress()
    if options.command == "packages":
        return subprocess.run([layout.repo / "devcluster" / "packages.sh"], check=False).returncode
    if options.command == "up":
        with _lock(layout):
            return _up(layout, progress, options.provider)
    name = _recorded(layout)
    if name is None:
        if options.command == "down":
            progress.say("There is no cluster.")
            return 0
        raise DevclusterError("there is no cluster; run: python -m devcluster up")
    if options.command == "kubeconfig":
        path = layout.admin_kubeconfig if options.admin else layout.perdure_kubeconfig
        sys.stdout.write(f"{path}\n")
        return 0
    provider = _provider(name, layout, progress, None)
    if options.command == "status":
        sys.stdout.write("\n".join([f"provider: {name}", *provider.status()]) + "\n")
        return 0
    with _lock(layout):
        match options.command:
            case "down":
                provider.down()
                progress.say("The cluster is gone.")
            case "images":
                provider.images()
            case "load":
                provider.load(options.archive)
            case "push":
                provider.push(options.reference)
    return 0


def _up(layout: Layout, progress: Progress, forced: ProviderName | None) -> int:
    recorded = _recorded(layout)
    if recorded is not None and forced not in (None, recorded):
        raise DevclusterError(f"a cluster of provider {recorded} is up; run `down` first")
    # A cluster that is up needs no look around, which asks engines that may be slow to say no.
    machine = look_around() if recorded in (None, ProviderName.KUBECONFIG) else None
    name = recorded or choose(machine or look_around(), forced)
    provider = _provider(name, layout, progress, machine)
    provider.check()
    layout.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout.provider_file.write_text(f"{name}\n")
    try:
        provider.up()
    except DevclusterError:
        if recorded is None:
            # Nothing half started is left; the message carries the end of the log that goes with it.
            with suppress(DevclusterError):
                provider.down()
        raise
    progress.say(f"The cluster is up (provider {name}); KUBECONFIG={layout.admin_kubeconfig}")
    return 0


def _recorded(layout: Layout) -> ProviderName | None:
    try:
        return ProviderName(layout.provider_file.read_text().strip())
    except FileNotFoundError:
        return None


def _provider(name: ProviderName, layout: Layout, progress: Progress, machine: Machine | None) -> Provider:
    match name:
        case ProviderName.EMBEDDED:
            return EmbeddedNode(layout, progress)
        case ProviderName.KIND:
            return KindCluster(layout, progress, machine.engine or ENGINES[0] if machine else None)
        case ProviderName.KUBECONFIG:
            return BorrowedCluster(
                layout, progress, machine.kubeconfig if machine else "", machine.context if machine else ""
            )


@contextmanager
def _lock(layout: Layout) -> Iterator[None]:
    """Keep a second `up` or `down` of this checkout waiting."""
    layout.state.parent.mkdir(parents=True, exist_ok=True)
    with (layout.state.parent / "cluster.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
