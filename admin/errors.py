"""Why something cannot be administered as was asked; the program makes an exit code of it."""

from collections.abc import Sequence


class AdminError(Exception):
    """It cannot be done as things stand: one sentence, then what can be done about it.

    `details` are lines that belong to it, `hints` ways out. Never holds a key or a password.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), hints: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hints = tuple(hints)


class NotUsable(AdminError):
    """A file, the settings or a name that were given are not usable: to ask again is of no use."""
