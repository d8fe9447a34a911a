"""What holds for every test."""

import pytest
import structlog


@pytest.fixture(autouse=True, scope="session")
def plain_tracebacks() -> None:
    """Log exceptions as Python prints them: half a second for each drawn panel adds up over the suite."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[*processors[:-1], renderer])
