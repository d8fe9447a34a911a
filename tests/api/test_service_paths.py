"""What passes between a client and a service: paths, headers, redirects."""

import pytest

from api.access.headers import request_headers, response_headers, rewritten_location
from api.access.paths import LONGEST, service_path, service_query
from api.problems import ProblemError

OWN = b"/v1/environments/env_1/services/web/proxy"
PREFIX = "/v1/environments/env_1/services/web:80/proxy"
HOSTS = frozenset({"web", "web.ns", "localhost"})


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (b"", b"/"),
        (b"/", b"/"),
        (b"/a/b", b"/a/b"),
        (b"/a//b/", b"/a//b/"),
        (b"/a%2Fb", b"/a%2Fb"),
        (b"/%E2%82%AC", b"/%E2%82%AC"),
        (b"/100%25", b"/100%25"),
        (b"/...", b"/..."),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/a..b", b"/a..b"),
    ],
)
def test_honest_paths_arrive_as_they_were_written(written: bytes, seen: bytes) -> None:
    assert service_path(OWN + written) == seen
    assert service_path(OWN.removeprefix(b"/v1") + written) == seen
    assert service_path(b"/api" + OWN + written) == seen


@pytest.mark.parametrize(
    "written",
    [
        *(
            b"/..",
            b"/.",
            b"/a/../b",
            b"/%2e%2e/b",
            b"/%2E./b",
            b"/.%2e",
            b"/%252e%252e",
            b"/%25252e%25252e/x",
        ),
        *(b"/..;x/b", b"/..%3bx", b"/a%2f..%2fb", b"/..%5cb", b"/a\\b", b"/a%5cb", b"/a%00b", b"/a%0d%0ab"),
        *(b"/a b", b"/\xff", b"/%zz", b"/%", b"/a%2", b"/%25%32%65%25%32%65", b"/" + b"a" * LONGEST),
    ],
)
def test_paths_that_somebody_could_read_differently_are_refused(written: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        service_path(OWN + written)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "raw",
    [
        b"/v1/environments/env_1/services/web%2Fproxy/x",
        b"/v1/environments/env_1/services/web%2Fproxy%2Fx",
        b"/v1%2Fenvironments/env_1/services/web/proxy/x",
    ],
)
def test_an_address_whose_own_part_is_disguised_is_refused(raw: bytes) -> None:
    with pytest.raises(ProblemError):
        service_path(raw)


def test_queries_pass_as_they_are() -> None:
    assert service_query(b"a=1&b=%00&c=..") == b"a=1&b=%00&c=.."
    for wrong in (b"a b", b"\xff", b"a" * (LONGEST + 1)):
        with pytest.raises(ProblemError):
            service_query(wrong)


def test_what_is_ours_and_what_is_of_the_hop_does_not_reach_the_service() -> None:
    sent = [
        *((b"Authorization", b"Bearer x"), (b"Cookie", b"a=b"), (b"Host", b"api"), (b"TE", b"trailers")),
        *(
            (b"Connection", b"close, X-Hop"),
            (b"X-Hop", b"1"),
            (b"Upgrade", b"h2c"),
            (b"Expect", b"100-continue"),
        ),
        *((b"Proxy-Authorization", b"x"), (b"X-Organization-ID", b"org"), (b"Forwarded", b"for=x")),
        *((b"X-Forwarded-For", b"1.2.3.4"), (b"X-Perdure-Answered-By", b"x"), (b"Accept", b"*/*")),
        (b"Content-Length", b"3"),
    ]
    assert request_headers(sent, host="web:80", prefix=PREFIX, request_id="req_1") == [
        (b"host", b"web:80"),
        (b"accept", b"*/*"),
        (b"x-request-id", b"req_1"),
        (b"x-forwarded-prefix", PREFIX.encode()),
        (b"content-length", b"3"),
    ]


@pytest.mark.parametrize(
    ("sent", "framing"),
    [
        ([], []),
        ([(b"content-length", b"3"), (b"Content-Length", b"3")], [(b"content-length", b"3")]),
        (
            [(b"transfer-encoding", b"gzip, chunked"), (b"content-length", b"3")],
            [(b"transfer-encoding", b"chunked")],
        ),
        # Naming it as a hop's own does not take the length away from the body.
        ([(b"connection", b"content-length"), (b"content-length", b"3")], [(b"content-length", b"3")]),
    ],
)
def test_the_body_is_framed_in_one_way(
    sent: list[tuple[bytes, bytes]], framing: list[tuple[bytes, bytes]]
) -> None:
    assert request_headers(sent, host="h", prefix="p", request_id="r")[3:] == framing


@pytest.mark.parametrize("lengths", [(b"3", b"4"), (b"-1",), (b"+3",), (b"3, 3",), (b"",)])
def test_an_unclear_length_is_refused(lengths: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="length"):
        request_headers([(b"content-length", each) for each in lengths], host="h", prefix="p", request_id="r")


def test_a_service_cannot_speak_for_the_host_of_the_api() -> None:
    answered = [
        *((b"Content-Type", b"text/html"), (b"Set-Cookie", b"a=b"), (b"Strict-Transport-Security", b"x")),
        *((b"Clear-Site-Data", b'"*"'), (b"WWW-Authenticate", b"Basic"), (b"Refresh", b"0;url=/v1")),
        *((b"Access-Control-Allow-Origin", b"*"), (b"X-Perdure-Answered-By", b"perdure"), (b"Alt-Svc", b"x")),
        *((b"Service-Worker-Allowed", b"/"), (b"X-Content-Type-Options", b"off"), (b"Connection", b"x-hop")),
        *((b"X-Hop", b"1"), (b"Transfer-Encoding", b"chunked"), (b"X-Request-ID", b"forged")),
        *((b"Location", b"https://elsewhere.test/"), (b"Content-Security-Policy", b"default-src 'self'")),
    ]
    assert response_headers(answered, prefix=PREFIX, path=b"/", hosts=HOSTS) == [
        (b"content-type", b"text/html"),
        # Ours comes on top: of several policies each has to allow.
        (b"content-security-policy", b"default-src 'self'"),
        (b"x-perdure-location", b"https://elsewhere.test/"),
        (b"content-security-policy", b"sandbox"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-perdure-answered-by", b"application"),
    ]


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/x", "/x"),
        ("x?y=1#z", "/dir/x?y=1#z"),
        ("?y", "/dir/page?y"),
        ("", "/dir/page"),
        ("http://web/x", "/x"),
        ("https://WEB.ns:8443/x", "/x"),
        ("http://localhost", "/"),
        ("../../../..", "/"),
        ("//web/x", "/x"),
        *(
            (wrong, None)
            for wrong in (
                *(
                    "https://api.test/v1/environments",
                    "//api.test/",
                    "/\\api.test/",
                    "\\\\api.test",
                    "http:\\\\x",
                ),
                *("javascript:alert(1)", "data:text/html,x", "http://web@api.test/", "http://user:pw@web/"),
                *(
                    "/%2e%2e/%2e%2e/x",
                    "/a/..;/x",
                    "/..%2fx",
                    "/%252e%252e/x",
                    "http://[::1",
                    "/a b",
                    "/a\x00",
                ),
                *("http://web.evil.test/", "ftp://web/", "/" + "a" * 3000),
            )
        ),
    ],
)
def test_where_a_service_sends_the_client(location: str, seen: str | None) -> None:
    found = rewritten_location(location, prefix=PREFIX, path="/dir/page", hosts=HOSTS)
    assert found == (None if seen is None else PREFIX + seen)
