"""The checks of an installation as the API answers them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from api.envelope import ApiModel


class CheckStatus(StrEnum):
    """What came out of a check."""

    OK = "ok"
    WARN = "warn"
    """Works, and should be seen to."""
    FAIL = "fail"


class CheckOut(ApiModel):
    """One check. `remedy` says how to mend what is not `ok`."""

    name: str = Field(examples=["cluster/local/rights"])
    status: CheckStatus
    message: str = Field(examples=["2 of 131 rights are missing: get pods/log, create pods/exec"])
    remedy: str | None = Field(default=None, examples=["Apply deploy/cluster/20-rights.yaml."])


class ChecksOut(ApiModel):
    """All checks, in a fixed order, and what was asked with."""

    version: str = Field(description="Of the API")
    role: str = Field(description="Of the key that asked")
    observed_at: datetime = Field(description="By the clock of the API")
    checks: list[CheckOut]


def ok(name: str, message: str) -> CheckOut:
    """A check that found nothing."""
    return CheckOut(name=name, status=CheckStatus.OK, message=message)


def warn(name: str, message: str, remedy: str) -> CheckOut:
    """A check that found what should be seen to."""
    return CheckOut(name=name, status=CheckStatus.WARN, message=message, remedy=remedy)


def fail(name: str, message: str, remedy: str) -> CheckOut:
    """A check that found what does not work."""
    return CheckOut(name=name, status=CheckStatus.FAIL, message=message, remedy=remedy)
