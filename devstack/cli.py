"""Command line of the development stack."""

import argparse
import signal
import subprocess
import sys
from types import FrameType

from devstack import settings
from devstack.csidriver import ensure as ensure_csi_driver
from devstack.errors import DevstackError
from devstack.progress import say
from devstack.runner import PROGRAMS
from devstack.s3server import ensure as ensure_s3_server
from devstack.settings import Stack
from devstack.stack import Up, describe, down, status

INTERRUPTED = 130


def main() -> int:
    """Run one command; return the exit status."""
    given = _parser().parse_args()
    # A stop by a supervisor or a CI system cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(given, settings.read())
    except DevstackError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start what is missing, in the background")
    stop = commands.add_parser("down", help="stop everything, the cluster too")
    stop.add_argument("--keep-cluster", action="store_true", help="leave the cluster and the stack's state")
    commands.add_parser("status", help="say what runs; exit status 1 when something does not")
    commands.add_parser("logs", help="follow the logs")
    commands.add_parser("dev", help="up, then follow the logs; Ctrl-C stops everything")
    commands.add_parser("demo", help="provision the example shop and place an order in it")
    commands.add_parser("s3", help="build the S3 server that tests run against, and say where it is")
    commands.add_parser("csi", help="build what snapshots by a storage are tried with, and say where it is")
    return parser


def _run(given: argparse.Namespace, stack: Stack) -> int:
    match given.command:
        case "up":
            Up(stack)()
            describe(stack)
        case "down":
            down(stack, keep_cluster=given.keep_cluster)
        case "status":
            return 0 if status(stack) else 1
        case "logs":
            _follow(stack)
        case "dev":
            _dev(stack)
        case "demo":
            # The Kubernetes client takes a second to import, and only the demo needs it.
            from devstack.demo import demo  # noqa: PLC0415

            demo(stack)
        case "s3":
            say(str(ensure_s3_server()))
        case "csi":
            say(str(ensure_csi_driver()))
    return 0


def _dev(stack: Stack) -> None:
    """Bring the stack up and follow its logs until interrupted; then take down whatever there is."""
    try:
        Up(stack)()
        describe(stack)
        say("Following the logs; Ctrl-C stops everything.\n")
        _follow(stack)
    except KeyboardInterrupt:
        say("\nStopping everything.")
    finally:
        # A second Ctrl-C would leave half of it behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        down(stack)


def _follow(stack: Stack) -> None:
    """Show the ends of the logs and what is added to them, until interrupted."""
    logs = [str(stack.log / f"{name}.log") for name in PROGRAMS]
    subprocess.run(["tail", "-n", "20", "-F", *logs], check=False)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
