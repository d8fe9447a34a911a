"""A worker that is killed under several cases at once, each at a moment of its own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tests.helpers.kube_gate import Hold
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

REACHED_SECONDS: Final = 120.0


def await_moments(looks: Mapping[str, Callable[[], Any]]) -> dict[str, bool]:
    """Wait until each case is at its moment; return which were. A test says so of its own case."""
    reached: dict[str, bool] = {}
    for case, look in looks.items():
        try:
            reached[case] = bool(eventually(look, case, within=REACHED_SECONDS))
        except AssertionError:
            reached[case] = False
    return reached


def kill_worker(stack: Stack, holds: Iterable[Hold]) -> None:
    """Kill the worker under all that is held, which then vanishes with it."""
    stack.worker.kill()
    for hold in holds:
        hold.drop()


def commands(handle: Handle, pod: str) -> list[str]:
    """Return the names of the processes in a pod."""
    script = "for each in /proc/[0-9]*/comm; do read -r name <$each && echo $name; done 2>/dev/null; :"
    return handle.sh(pod, script).split()


def start_anew(stack: Stack) -> None:
    """Start another worker: one that has just looked at an environment sees it on, and asks nothing."""
    kill_worker(stack, ())
    stack.worker.start()
