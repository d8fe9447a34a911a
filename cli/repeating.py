"""Printing an answer anew whenever it differs (`--watch`)."""

import time
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from cli.client import Answer
from cli.errors import ApiUnreachable, Interrupted
from cli.output import OutputFormat, emit_again, tell

PERIOD_SECONDS: Final = 5.0
"""Metrics are measured every 15 s or so."""

T = TypeVar("T")


def print_changes(
    read: Callable[[], Answer[T]],
    lines: Callable[[T], list[str]],
    output: OutputFormat,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> NoReturn:
    """Print the answer, and each later one whose lines differ; goes on while the API is away.

    Raises Interrupted on Ctrl-C, ApiError when the API refuses, ApiUnreachable when it never answered.
    """
    shown: list[str] | None = None
    away = False
    try:
        while True:
            try:
                answer = read()
            except ApiUnreachable:
                if shown is None:
                    raise
                if not away:
                    tell("The API does not answer; trying again.")
                away = True
            else:
                away = False
                told = lines(answer.value)
                if told != shown:
                    emit_again(output, answer.raw, told, again=shown is not None)
                    shown = told
            sleep(PERIOD_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted("Stopped watching; nothing else was changed.") from None
