"""A share link over the whole stack: what it shows of a real environment, and that it is written nowhere."""

import pytest

from tests.e2e.support import idle
from tests.helpers.stack import Handle, Stack

pytestmark = pytest.mark.cluster

PIN = "pin-7f3a91c2"


@pytest.fixture(scope="module")
def made(stack: Stack) -> Handle:
    """An environment that runs."""
    handle = stack.create({"name": "shared", "services": {"web": idle(dependsOn=["store"]), "store": idle()}})
    handle.succeeded()
    return handle


def test_a_guest_sees_it_run_and_finds_no_trace(stack: Stack, made: Handle) -> None:
    base = f"/v1/environments/{made.environment_id}"
    link = stack.client.post(f"{base}/share", json={"pin": PIN}).json()["data"]
    address, guest = f"/v1/share/{link['token']}", {"Authorization": "", "X-Share-PIN": PIN}
    seen = stack.client.get(address, headers=guest)
    assert seen.status_code == 200, seen.text
    assert seen.json()["status"] == "running"
    assert [(each["name"], each["state"]) for each in seen.json()["services"]] == [
        ("web", "ready"),
        ("store", "ready"),
    ]
    opened = stack.client.post(
        f"/v1/portal/{made.environment_id}", data={"token": link["token"], "pin": PIN}, headers=guest
    )
    assert opened.status_code == 303
    page = stack.client.get(opened.headers["location"], headers=guest)
    assert "Everything runs." in page.text
    for wrong in range(5):
        tried = stack.client.get(address, headers={**guest, "X-Share-PIN": f"wrong-{wrong}"})
        assert tried.status_code == 401
    stack.api.kill()
    stack.start_api()
    assert stack.client.get(address, headers=guest).status_code == 429, "a restart does not forget"
    revoked = stack.client.delete(f"{base}/shares/{link['id']}")
    assert revoked.json()["data"]["state"] == "revoked"
    assert stack.client.get(address, headers=guest).status_code == 404
    assert stack.client.get(opened.headers["location"], headers=guest).status_code == 404
    signature = link["token"].rpartition(".")[2]
    read = 0
    for path in stack.directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            read += 1
            assert signature.encode() not in content, path
            assert PIN.encode() not in content, path
    assert read > 5
    assert "/v1/share/(token)" in stack.api.text()


def test_figures_of_a_real_installation(stack: Stack, made: Handle) -> None:
    found = stack.client.get("/v1/status/stats").json()["data"]
    assert found["environments"]["byStatus"] == {"running": 1}
    provision = found["operations"]["durations"]["provision"]
    assert provision["count"] == 1
    assert 0 < provision["medianSeconds"] == provision["p95Seconds"] < 120
    assert found["operations"]["failureRate"] == 0
    assert found["workers"]["known"] is True
    assert all(queue["workers"] >= 1 and queue["backlog"] == 0 for queue in found["workers"]["queues"])
