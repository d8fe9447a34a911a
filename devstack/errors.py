"""What goes wrong here, as messages for the person at the terminal."""


class DevstackError(Exception):
    """A failure whose text says what happened and what to do."""
