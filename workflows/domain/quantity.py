"""Kubernetes quantities (`250m`, `1.5Gi`, `1e3`): parsing and exact comparison.

Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

_QUANTITY = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:(?P<suffix>Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)|[eE](?P<exponent>[+-]?[0-9]{1,2}))?"
)
_FACTORS: dict[str, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", start=1)},
}
_LONGEST = 32


class QuantityError(ValueError):
    """The text is not a Kubernetes quantity."""


def parse_quantity(text: str) -> Fraction:
    """The exact value of an unsigned quantity: cores for CPU, bytes for memory and storage.

    Raises QuantityError for anything outside the grammar, signs and more than 32 characters included.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST and text.isascii() else None
    if match is None:
        raise QuantityError("not a Kubernetes quantity")
    value = Fraction(Decimal(match["number"]))
    if match["suffix"]:
        return value * _FACTORS[match["suffix"]]
    if match["exponent"]:
        return value * Fraction(10) ** int(match["exponent"])
    return value


def is_binary(text: str) -> bool:
    """Whether a quantity has a binary suffix (`Ki`, `Mi`, ...), which makes no sense for CPU."""
    return text.endswith("i")


def is_fractional(text: str) -> bool:
    """Whether a quantity has a suffix below one (`n`, `u`, `m`), which makes no sense for bytes."""
    return text.endswith(("n", "u", "m"))
