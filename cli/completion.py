"""Completion in shells: the scripts, and names that the API has.

Whatever goes wrong on a Tab, nothing is printed and nothing waits: there are just no names.
"""

# ruff: noqa: PLC0415 - loaded on a Tab only
import os
import sys
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cli.client import ApiClient

    Words = Mapping[str, Any]
    """What was given to the command so far, by parameter."""
    Names = Callable[[ApiClient, Words], Iterable[str]]

PROGRAM: Final = "perdure"
VARIABLE: Final = "_PERDURE_COMPLETE"
ANSWER_SECONDS: Final = 1.5
"""Somebody waits with a finger on the keyboard."""
MOST_IDS: Final = 50
"""Ids that are offered, of things that there are very many of."""


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


def _completer(names: "Names") -> "Callable[[Any, str], list[str]]":
    """Return what completes a word by the names that the API has; it has none when the API is slow."""

    def complete(ctx: Any, incomplete: str) -> list[str]:
        options, words = dict(ctx.find_root().params), _words(ctx)
        found: list[str] = []

        def ask() -> None:
            try:
                with _client(options) as client:
                    found.extend(names(client, words))
            except Exception:  # noqa: BLE001 - see the module
                return

        # A thread, as nothing else bounds a look-up of names in a network that hangs; it ends with the
        # process.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(ANSWER_SECONDS)
        return sorted({name for name in list(found) if name.startswith(incomplete)})

    return complete


def _words(ctx: Any) -> dict[str, Any]:
    """What was given so far; behind an option that lacks its value nothing has been assigned yet."""
    names = [param.name for param in ctx.command.params if param.param_type_name == "argument"]
    given = {name: value for name, value in ctx.params.items() if value is not None}
    return {**dict(zip(names, ctx.args, strict=False)), **given}


def _client(options: dict[str, Any]) -> "ApiClient":
    from cli.client import ApiClient
    from cli.settings import API_KEY, ORGANIZATION, URL, resolve

    given = {URL: options.get("url"), API_KEY: options.get("api_key")}
    connection = resolve({**given, ORGANIZATION: options.get("organization")}, profile=options.get("profile"))
    return ApiClient(connection, attempts=1)


def _environments(client: "ApiClient", _: "Words") -> list[str]:
    return [each.name for each in client.environments().value if each.status != "deleted"]


def _services(client: "ApiClient", words: "Words") -> list[str]:
    from cli.lookup import environment_id

    identifier = environment_id(client, str(words["environment"]), living=True)
    return [each.name for each in client.environment(identifier).value.services]


def _operations(client: "ApiClient", _: "Words") -> list[str]:
    return [each.id for each in client.operations({}, limit=MOST_IDS).value]


def _snapshots(client: "ApiClient", _: "Words") -> list[str]:
    return [each.id for each in client.snapshots(limit=MOST_IDS).value]


def _templates(client: "ApiClient", _: "Words") -> list[str]:
    return [each.name for each in client.templates().value]


def _packages(client: "ApiClient", _: "Words") -> list[str]:
    return [each.name for each in client.search_seeds("").value]


environment_names = _completer(_environments)
"""Of environments that are not deleted."""
service_names = _completer(_services)
"""Of the environment that stands before it."""
operation_ids = _completer(_operations)
"""Of the newest."""
snapshot_ids = _completer(_snapshots)
"""Of the newest."""
template_names = _completer(_templates)
package_names = _completer(_packages)
