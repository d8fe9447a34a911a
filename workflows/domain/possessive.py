"""Regular expressions that repeat a group for good, as every Python reads them."""


def any_number(alternatives: str) -> str:
    """Return the regular expression of any number of what `alternatives` (`A|B`) match, taken for good.

    `(?:A|B)*+` says the same only since Python 3.11.5, and Debian 12 has 3.11.2. Before, a repetition that
    failed halfway moved the place from which the match goes on: https://github.com/python/cpython/issues/100061.
    The empty alternative at the end never fails.
    """
    return f"(?:{alternatives}|)*+"


def one_or_more(alternatives: str) -> str:
    """Return the regular expression of at least one of what `alternatives` match, taken for good (`++`)."""
    return f"(?>(?:{alternatives}){any_number(alternatives)})"
