"""Completion in shells: the scripts, and names of environments from the API.

Whatever goes wrong on a Tab, nothing is printed and nothing waits: there are just no names.
"""

# ruff: noqa: PLC0415 - loaded on a Tab only
import os
import sys
import threading
from enum import StrEnum
from typing import Any, Final

PROGRAM: Final = "perdure"
VARIABLE: Final = "_PERDURE_COMPLETE"
ANSWER_SECONDS: Final = 1.5
"""Somebody waits with a finger on the keyboard."""


class Shell(StrEnum):
    """Shells that there are scripts for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def script(shell: Shell) -> str:
    """Return the script that a shell has to source."""
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value)


def enable() -> None:
    """Let this process answer a shell's Tab: the shells have to be known before the commands are run."""
    from typer._completion_classes import completion_init

    completion_init()
    # What is printed in the middle of somebody's line is no help.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the process ends


def environment_names(ctx: Any, incomplete: str) -> list[str]:
    """Return the names that begin so, of environments that are not deleted; none when the API is slow."""
    options = dict(ctx.find_root().params)
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(_names(options))
        except Exception:  # noqa: BLE001 - see the module
            return

    # A thread, as nothing else bounds a look-up of names in a network that hangs; it ends with the process.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    return sorted({name for name in list(found) if name.startswith(incomplete)})


def _names(options: dict[str, Any]) -> list[str]:
    from cli.client import ApiClient
    from cli.settings import API_KEY, ORGANIZATION, URL, resolve

    given = {URL: options.get("url"), API_KEY: options.get("api_key")}
    connection = resolve({**given, ORGANIZATION: options.get("organization")}, profile=options.get("profile"))
    with ApiClient(connection, attempts=1) as client:
        return [each.name for each in client.environments().value if each.status != "deleted"]
