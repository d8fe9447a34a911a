"""Seeds over HTTP: what a request may hold, what values become in it, and what an answer means."""

import json
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.contexts import CONTEXT
from workflows.domain import manifests
from workflows.domain.blueprint import parse_blueprint
from workflows.domain.json_reading import mapping, text
from workflows.domain.manifests import RecordState, SeedRecord
from workflows.domain.names import NAME, SEED
from workflows.domain.seeds import SeedContent, SeedRun, content_faults
from workflows.domain.seeds_http import (
    LONGEST_SENT,
    FilledRequest,
    HttpRequest,
    Meaning,
    ValueUnfit,
    delivery_key,
    fill_request,
    meaning,
    tcp_port,
    value_faults,
)

PLANTED = "planted-token-4711"
REQUEST: dict[str, Any] = {
    "path": "/visits/${{ who }}?times=${{ times }}",
    "headers": {"Authorization": "Bearer ${{ token }}", "X-Who": "$${{ who }}"},
    "body": {"who": "${{ who }}", "times": "${{ times }}", "note": ["seen ${{ times }} times", None, 1.5]},
}
PARAMETERS = [{"name": "who"}, {"name": "times", "type": "integer"}, {"name": "token", "secret": True}]


def request(**changed: Any) -> HttpRequest:
    return HttpRequest.model_validate({**REQUEST, **changed})


def content(**changed: Any) -> SeedContent:
    return SeedContent.model_validate(
        {"type": "http", "http": {**REQUEST, **changed}, "parameters": PARAMETERS}
    )


def filled(asked: HttpRequest, token: str = PLANTED, **values: Any) -> FilledRequest:
    return fill_request(
        asked, {"who": "ada", "times": 3, **values}, {"token": token}, host="web:8080", key="key-1"
    )


class TestContent:
    """What a seed over HTTP may hold."""

    def test_good_ones_have_no_faults(self) -> None:
        assert content_faults(content()) == ()
        assert content_faults(content(body=None, text="${{ nobody }}")) == ()
        assert content_faults(content(port="http", expect=[201, 409], timeout_seconds=120)) == ()

    @pytest.mark.parametrize(
        ("changed", "place"),
        [
            ({"path": "visits"}, "http.path"),
            ({"path": "http://elsewhere/"}, "http.path"),
            ({"path": "/a b"}, "http.path"),
            ({"path": "/a\r\nHost: x"}, "http.path"),
            ({"path": "/ü"}, "http.path"),
            ({"path": "/a#b"}, "http.path"),
            ({"path": "/a/%2e%2E/b"}, "http.path"),
            ({"path": "/${{ nobody }}"}, "http.path"),
            ({"path": "/${{ token }}"}, "http.path"),
            ({"headers": {"Host": "x"}}, "http.headers.Host"),
            ({"headers": {"idempotency-key": "x"}}, "http.headers.idempotency-key"),
            ({"headers": {"a b": "x"}}, 'http.headers["a b"]'),
            ({"headers": {"A": "x", "a": "y"}}, "http.headers.a"),
            ({"headers": {"A": "x\r\nB: y"}}, "http.headers.A"),
            ({"headers": {"A": "${{ nobody }}"}}, "http.headers.A"),
            ({"body": {"a": ["${{ nobody }}"]}}, "http.body.a[0]"),
            ({"body": {"a": {"b\0": 1}}}, "http.body"),
            ({"body": "x" * 300_000}, "http.body"),
            ({"body": {"a": [float("inf")]}}, "http.body.a[0]"),
            ({"body": {"a": float("nan")}}, "http.body.a"),
            ({"body": 1 << 20_000}, "http.body"),
            ({"text": "x"}, "http.text"),
            ({"body": None, "text": "\0"}, "http.text"),
            ({"port": "Not A Port"}, "http.port"),
            ({"port": 0}, "http.port"),
            ({"expect": [500]}, "http.expect"),
            ({"timeoutSeconds": 121}, "http.timeoutSeconds"),
        ],
    )
    def test_bad_ones_say_where(self, changed: dict[str, Any], place: str) -> None:
        assert [fault.field for fault in content_faults(content(**changed))] == [place]

    def test_a_seed_of_another_type_has_none_and_one_over_http_nothing_else(self) -> None:
        mixed = SeedContent.model_validate({"type": "sql", "script": "select 1", "http": {"path": "/"}})
        assert [fault.field for fault in content_faults(mixed)] == ["http"]
        mixed = SeedContent.model_validate({"type": "http", "script": "select 1", "image": "a:1"})
        assert {fault.field for fault in content_faults(mixed)} == {"script", "image", "http"}

    def test_what_ran_before_there_was_http_is_known_by_the_same_digest(self) -> None:
        before = "sha256:ea0a8f768650a4394bc3ca7935440fdd47d62fbf9f81311e252baf58d0053853"
        assert SeedContent.model_validate({"type": "sql", "script": "select 1"}).digest == before
        assert content().digest != content(path="/other").digest


class TestFilling:
    """What values become."""

    def test_each_place_has_its_form(self) -> None:
        sent = filled(request(), who="a/b c?ü&${{ times }}", times=-1)
        assert sent.target == b"/visits/a%2Fb%20c%3F%C3%BC%26%24%7B%7B%20times%20%7D%7D?times=-1"
        assert json.loads(sent.body) == {
            "who": "a/b c?ü&${{ times }}",
            "times": -1,
            "note": ["seen -1 times", None, 1.5],
        }
        assert dict(sent.headers) == {
            b"authorization": f"Bearer {PLANTED}".encode(),
            b"x-who": b"${{ who }}",
            b"content-type": b"application/json",
            b"accept": b"*/*",
            b"user-agent": b"perdure-seed",
            b"host": b"web:8080",
            b"content-length": str(len(sent.body)).encode(),
            b"connection": b"close",
            b"idempotency-key": b"key-1",
        }

    def test_text_is_sent_as_it_is(self) -> None:
        sent = filled(request(body=None, text="a=${{ who }}ü", headers={"content-type": "text/csv"}))
        assert sent.body == "a=${{ who }}ü".encode()
        assert dict(sent.headers)[b"content-type"] == b"text/csv"
        assert filled(request(body=None)).body == b""
        assert b"content-type" not in dict(filled(request(body=None)).headers)

    @given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(codec="ascii")))
    def test_no_value_makes_another_request_of_it(self, who: str, token: str) -> None:
        if not token.isprintable():
            with pytest.raises(ValueUnfit):
                filled(request(), token, who=who)
            return
        sent = filled(request(), token, who=who)
        written = h11.Connection(h11.CLIENT).send(
            h11.Request(method=sent.method, target=sent.target, headers=list(sent.headers))
        )
        assert written is not None
        server = h11.Connection(h11.SERVER)
        server.receive_data(written)
        head = server.next_event()
        assert isinstance(head, h11.Request)
        assert head.target.count(b"/") == 2
        assert len(head.headers) == len(sent.headers)
        assert json.loads(sent.body)["who"] == who

    def test_values_that_do_not_fit_are_told_without_what_they_are(self) -> None:
        asked = request(headers={"X-Who": "${{ who }}", "Authorization": "${{ token }}"})
        assert value_faults(asked, {"who": "ada", "times": 1}) == ()
        [fault] = value_faults(asked, {"who": "ü", "times": 1})
        assert fault.field == "parameters.who"
        for climbing in (".", ".."):
            assert [each.field for each in value_faults(asked, {"who": climbing, "times": 1})] == [
                "http.path"
            ]
        wide = request(path="/", headers={}, body=["${{ who }}"] * 300)
        assert [each.field for each in value_faults(wide, {"who": "x" * 4_096})] == ["http.body"]
        with pytest.raises(ValueUnfit, match="parameter token") as unfit:
            filled(asked, "planted\nü")
        assert "planted" not in str(unfit.value)
        with pytest.raises(ValueUnfit, match="longer"):
            filled(request(body="${{ token }}"), "x" * LONGEST_SENT)

    def test_its_key_is_that_of_the_run(self) -> None:
        assert delivery_key("seed/env_1/a", "op_1") == delivery_key("seed/env_1/a", "op_1")
        keys = {delivery_key("seed/env_1/a", "op_1"), delivery_key("seed/env_1/b", "op_1")}
        assert len({*keys, delivery_key("seed/env_1/a", "op_2")}) == 3


class TestMeaning:
    """What an answer says."""

    @pytest.mark.parametrize(
        ("status", "first", "again"),
        [
            (200, Meaning.DONE, Meaning.DONE),
            (204, Meaning.DONE, Meaning.DONE),
            (303, Meaning.UNKNOWN, Meaning.UNKNOWN),
            (400, Meaning.REFUSED, Meaning.UNKNOWN),
            (409, Meaning.REFUSED, Meaning.AGAIN),
            (429, Meaning.REFUSED, Meaning.UNKNOWN),
            (500, Meaning.AGAIN, Meaning.AGAIN),
            (503, Meaning.AGAIN, Meaning.AGAIN),
        ],
    )
    def test_of_a_request_that_may_be_repeated(self, status: int, first: Meaning, again: Meaning) -> None:
        asked = request(idempotent=True)
        assert meaning(asked, status, sent_before=False) is first
        assert meaning(asked, status, sent_before=True) is again

    def test_of_one_that_may_not(self) -> None:
        for status in (303, 500, 503):
            assert meaning(request(), status, sent_before=False) is Meaning.UNKNOWN
        assert meaning(request(), 404, sent_before=False) is Meaning.REFUSED
        assert meaning(request(), 409, sent_before=True) is Meaning.UNKNOWN

    def test_success_is_what_was_expected(self) -> None:
        asked = request(expect=[201, 303, 409])
        assert meaning(asked, 303, sent_before=False) is Meaning.DONE
        assert meaning(asked, 409, sent_before=True) is Meaning.DONE
        assert meaning(asked, 200, sent_before=False) is Meaning.UNKNOWN

    def test_methods_say_whether_twice_is_as_good_as_once(self) -> None:
        assert [request(method=each).repeatable for each in ("POST", "PUT", "PATCH", "DELETE")] == [
            *(False, True, False, True),
        ]
        assert request(idempotent=True).repeatable
        assert not request(method="PUT", idempotent=False).repeatable


def test_the_port_is_a_declared_one() -> None:
    ports = [
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 8080, "name": "http"},
        {"containerPort": 9090},
    ]
    blueprint = parse_blueprint(
        {"name": "x", "services": {"web": {"image": "a:1", "ports": ports, "expose": {"port": 9090}}}}
    )
    found = [tcp_port(blueprint.service("web"), wanted) for wanted in (None, 8080, "http", 53, 1)]
    assert [port and port.container_port for port in found] == [9090, 8080, 8080, None, None]


def test_a_record_holds_what_is_known_and_nothing_that_was_sent() -> None:
    run = SeedRun(
        content=content(),
        service="web",
        digest="sha256:abc",
        values={"who": "planted"},
        secrets={"token": "token"},
        key="seed/env_1/abc",
    )
    record = SeedRecord(RecordState.DONE, "key-1", "op_1", 201)
    made = manifests.seed_record(CONTEXT, run, record)
    assert manifests.read_seed_record(made) == record
    assert "planted" not in json.dumps(made)
    assert mapping(made, "metadata", "labels")[NAME] == "web"
    assert mapping(made, "metadata", "labels")[SEED] == manifests.seed_label(run)
    other = CONTEXT.model_copy(update={"operation_id": "op_other"})
    assert text(manifests.seed_record(other, run, record), "metadata", "name") != text(
        made, "metadata", "name"
    )
    assert manifests.read_seed_record({"data": {"state": "x", "status": "0"}}) is None
    assert manifests.read_seed_record({}) is None
