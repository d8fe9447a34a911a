"""How a command ends: its exit code, and the errors that carry one."""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `perdure`; scripts rely on them."""

    DONE = 0
    FAILED = 1
    """An operation failed, the API refused for how things stand (a name in use), or it gave no answer."""
    USAGE = 2
    """Wrong usage or invalid input, such as a Blueprint with faults."""
    TIMEOUT = 5
    """`--timeout` passed while waiting; the operation goes on."""
    NOT_FOUND = 6
    REFUSED = 7
    """A policy, a role or `protected` refused it."""
    INTERRUPTED = 130


class CliError(Exception):
    """A command cannot do what was asked: one sentence, then what the user can do about it.

    `details` are lines shown below the message, `hints` ways out. Never holds a credential.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: ExitCode = ExitCode.FAILED,
        details: Sequence[str] = (),
        hints: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.details = tuple(details)
        self.hints = tuple(hints)


class UsageFault(CliError):
    """The command line, a file it names or the settings are not usable. Exit code 2."""

    def __init__(self, message: str, *, details: Sequence[str] = (), hints: Sequence[str] = ()) -> None:
        super().__init__(message, exit_code=ExitCode.USAGE, details=details, hints=hints)


class ApiUnreachable(CliError):
    """The API gave no answer: refused, timed out, cut off."""


class WaitTimeout(CliError):
    """`--timeout` passed before the end was seen. Exit code 5."""

    def __init__(self, message: str, *, hints: Sequence[str] = ()) -> None:
        super().__init__(message, exit_code=ExitCode.TIMEOUT, hints=hints)


class Interrupted(CliError):
    """Ctrl-C. Exit code 130."""

    def __init__(self, message: str = "Interrupted.", *, hints: Sequence[str] = ()) -> None:
        super().__init__(message, exit_code=ExitCode.INTERRUPTED, hints=hints)
