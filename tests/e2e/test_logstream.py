"""The log stream on a real cluster: two services, a killed pod and a restarted container."""

import json
import time
from collections.abc import Callable

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.e2e.conftest import TINY
from tests.helpers.stack import Handle, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Line = dict[str, str]


def _document(name: str) -> dict[str, object]:
    def service(word: str) -> dict[str, object]:
        count = f'n=$((n+1)); echo "{word} $n"; sleep 0.2'
        program = f'n=0; echo "{word} starts"; while [ ! -e /tmp/end ]; do {count}; done'
        return {
            "name": word,
            "image": TINY,
            "command": ["sh", "-c", program],
            "secrets": [{"name": "word", "envKey": "WORD", "value": "planted-9c21-value"}],
        }

    left, right = service("left"), service("right")
    right["command"] = ["sh", "-c", 'while [ ! -e /tmp/end ]; do echo "right $WORD"; sleep 0.2; done']
    return {"name": name, "services": [left, right]}


def _read_until(connection: ClientConnection, wanted: Callable[[Line], bool], into: list[Line]) -> Line:
    """Read lines until one is as wanted."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        line: Line = json.loads(connection.recv(timeout=60))
        into.append(line)
        if wanted(line):
            return line
    raise AssertionError(f"the line did not come; the last ones: {into[-5:]}")


def _pod(made: Handle, service: str) -> str:
    [found] = [
        each["metadata"]["name"]
        for each in made.stack.objects(made.namespace, "pods", f"app.kubernetes.io/name={service}")
        if "deletionTimestamp" not in each["metadata"]
    ]
    return str(found)


def test_the_stream_goes_on_over_a_killed_pod_and_a_restarted_container(stack: Stack, name: str) -> None:
    made = stack.create(_document(name))
    made.succeeded()
    base = str(stack.client.base_url).replace("http", "ws", 1).rstrip("/")
    url = f"{base}/v1/environments/{made.environment_id}/logstream?tail=5"
    lines: list[Line] = []
    headers = {"Authorization": stack.client.headers["Authorization"]}
    with connect(url, additional_headers=headers, proxy=None) as connection:
        left, right = _pod(made, "left"), _pod(made, "right")
        _read_until(connection, lambda line: line["pod"] == left, lines)
        _read_until(connection, lambda line: line["pod"] == right, lines)

        stack.kubectl("-n", made.namespace, "delete", "pod", left, "--grace-period=1", "--wait=false")
        new = _read_until(connection, lambda line: line["service"] == "left" and line["pod"] != left, lines)
        assert new["line"] == "left starts", "a new pod is read from its first line"

        before = len(lines)
        made.sh(new["pod"], "touch /tmp/end")
        again = _read_until(connection, lambda line: line["line"] == "left starts", lines)
        assert again["pod"] == new["pod"], "the same pod, another run of its container"
        _read_until(connection, lambda line: line["pod"] == right, lines)
    counted = [
        int(line["line"].split()[1])
        for line in lines
        if line["pod"] == new["pod"] and line["line"] != "left starts"
    ]
    ends = counted.index(1, 1) if 1 in counted[1:] else len(counted)
    assert counted[:ends] == list(range(1, ends + 1)), "no line of the first run is missing or there twice"
    assert before > 1
    assert {line["line"] for line in lines if line["service"] == "right"} == {"right [redacted]"}
    seen = [(line["pod"], line["container"], line["timestamp"]) for line in lines]
    assert len(seen) == len(set(seen)), "nothing comes twice"
