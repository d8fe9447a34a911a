"""The picture of a topology: a pure function of the graph."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from api.shares.picture import HEIGHT, PER_ROW, WIDTH, Node, draw, lay_out, layers, shortened

_SVG = "{http://www.w3.org/2000/svg}"
_NAMES = st.lists(st.text(min_size=1, max_size=20), min_size=0, max_size=25, unique=True)


def texts(svg: str, tag: str) -> list[str]:
    """The texts of all elements of this tag: reading fails when it is no XML."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(_SVG + tag)]


def test_each_stands_below_all_that_wait_for_it() -> None:
    edges = [("web", "api"), ("api", "db"), ("web", "db"), ("worker", "db"), ("api", "cache")]
    assert layers(["db", "cache", "api", "worker", "web"], edges) == [
        ["web", "worker"],
        ["api"],
        ["cache", "db"],
    ]


def test_strangers_and_loops_do_no_harm() -> None:
    assert layers(["a", "b"], [("a", "a"), ("a", "gone"), ("gone", "b")]) == [["a", "b"]]
    assert layers(["a", "b", "c"], [("c", "a"), ("a", "b"), ("b", "a")]) == [["c"], ["a", "b"]]
    assert layers([], []) == []
    assert "0 services" in draw([], [])


@given(_NAMES, st.data())
def test_no_two_boxes_overlap_and_all_are_inside(names: list[str], data: st.DataObject) -> None:
    pairs = [(above, below) for index, above in enumerate(names) for below in names[index + 1 :]]
    edges = data.draw(st.lists(st.sampled_from(pairs), max_size=40)) if pairs else []
    layout = lay_out(names, edges)
    assert layout.places.keys() == set(names)
    for name, (x, y) in layout.places.items():
        assert 0 <= x <= layout.width - WIDTH
        assert 0 <= y <= layout.height - HEIGHT
        for other, (left, top) in layout.places.items():
            assert name == other or abs(x - left) >= WIDTH or abs(y - top) >= HEIGHT
    for source, target in edges:
        assert layout.places[source][1] < layout.places[target][1]


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5, unique_by=lambda pair: pair[0]))
def test_any_text_leaves_it_well_formed(found: list[tuple[str, str]]) -> None:
    svg = draw([Node(name, "good", note) for name, note in found], [])
    assert len(texts(svg, "rect")) == len(found)


def test_markup_in_names_is_text() -> None:
    name = "</text><script>alert(1)</script>"
    svg = draw([Node(name, "bad", '"><img src=x onerror=alert(2)>')], [])
    assert "<script" not in svg
    assert "<img" not in svg
    assert texts(svg, "title") == [f'{name}: "><img src=x onerror=alert(2)>']


def test_thirty_services_take_rows_and_stay_narrow() -> None:
    names = [f"service-{number:02}" for number in range(30)]
    layout = lay_out(names, [])
    assert layout.width < PER_ROW * (WIDTH + 40)
    assert len({y for _, y in layout.places.values()}) == 8
    assert texts(draw([Node(name, "good", "ready 1/1") for name in names], []), "text")[::2] == names


def test_long_and_wide_names_are_cut_to_their_box() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
    assert shortened("データベース", 6) == "デー…"
    assert shortened("データ", 6) == "データ"
    svg = draw([Node("payment-reconciliation-worker", "good", "ready 1/1")], [])
    assert texts(svg, "text")[0] == "payment-reconcil…"
    assert texts(svg, "title") == ["payment-reconciliation-worker: ready 1/1"]
