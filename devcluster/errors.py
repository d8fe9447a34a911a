"""What goes wrong here, as messages for the person at the terminal."""


class DevclusterError(Exception):
    """A failure whose text says what happened and, where known, what to do."""


class ToolError(DevclusterError):
    """A system tool ended with a status other than 0; carries the end of what it printed."""

    def __init__(self, argv: list[str], returncode: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(f"`{' '.join(argv)}` ended with status {returncode}\n{tail}".rstrip())
        self.returncode = returncode
        self.output = output
