"""What parameters put into a document: their values, where they stand, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from workflows.domain.templates import Parameter, ParameterType, instantiate, read_value, template_faults

TEXT = [Parameter(name="a"), Parameter(name="n", type=ParameterType.INTEGER)]


@given(st.text(max_size=200), st.integers(-(2**53), 2**53))
def test_a_value_stays_within_its_place(text: str, number: int) -> None:
    document: JsonValue = {"${{ a }}": ["${{ a }}", "x-${{a}}-${{ n }}", "${{ n }}", 3, None]}
    filled, faults = instantiate(TEXT, document, {"a": text, "n": number})
    assert faults == ()
    assert filled == {"${{ a }}": [text, f"x-{text}-{number}", number, 3, None]}


def test_what_a_value_holds_is_not_looked_at_again() -> None:
    filled, _ = instantiate(TEXT, ["${{ a }}", "-${{ a }}", "$${{ a }}"], {"a": "${{ n }}", "n": 1})
    assert filled == ["${{ n }}", "-${{ n }}", "${{ a }}"]


def test_patterns_that_a_matcher_could_hang_on_are_refused() -> None:
    for pattern in ("(a+)+", "a|b", "a?a?a?a?", "a*a*a*a*b", "[", "(?i)a", "\\1"):
        faults = template_faults([Parameter(name="a", pattern=pattern)], ["${{ a }}"])
        assert [fault.path for fault in faults] == [("parameters", 0, "pattern")], pattern
    assert template_faults([Parameter(name="a", pattern="[a-z][a-z0-9-]{0,39}")], ["${{ a }}"]) == ()


def test_text_is_read_in_the_type_of_its_parameter() -> None:
    assert read_value(TEXT[1], "12") == 12
    assert read_value(TEXT[0], "12") == "12"
    assert read_value(Parameter(name="b", type=ParameterType.BOOLEAN), "true") is True
