"""Sleep and waking on the real cluster: what the sweeper stopped answers the next request, whoever dies."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.e2e.support import SHOP_API
from tests.e2e.sweeps import eventually_swept
from tests.e2e.test_sweep import operations, timer_events, turn_back
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
AT_ONCE = 10


def web(stack: Stack, name: str) -> Handle:
    """An environment with a web server, which sleeps after half an hour."""
    service: dict[str, Any] = {
        "image": SHOP_API,
        "command": ["python3", "-m", "http.server", "--directory", "/etc", "8080"],
        "ports": [{"containerPort": 8080}],
        "resources": {"cpu": "10m", "memory": "32Mi"},
        "probes": {"readiness": {"tcp": {"port": 8080}, "periodSeconds": 1}},
    }
    timers = {"autoShutdownEnabled": True, "autoShutdownDelayMinutes": 30}
    handle = stack.create({"name": name, "services": {"web": service}, **timers})
    handle.succeeded()
    return handle


def let_it_sleep(stack: Stack, handle: Handle) -> None:
    """Half an hour passes, and the sweeper looks."""
    turn_back(stack, [handle], minutes=31)

    def asleep() -> bool:
        return [state for _, state, _ in operations(stack, [handle], "stop")][-1:] == ["succeeded"]

    eventually_swept(stack, asleep, "it sleeps", within=120)
    assert stack.objects(handle.namespace, "pods") == []


def get(stack: Stack, handle: Handle) -> httpx2.Response:
    """Ask the service through the proxy."""
    return stack.client.get(f"/v1/environments/{handle.environment_id}/services/web/proxy/hostname")


def resumes(stack: Stack, handle: Handle) -> list[str]:
    """States of the resumes."""
    return [state for _, state, _ in operations(stack, [handle], "resume")]


def test_requests_to_what_sleeps_are_answered_by_it(stack: Stack, name: str) -> None:
    handle = web(stack, name)
    let_it_sleep(stack, handle)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(lambda _: get(stack, handle), range(AT_ONCE)))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-perdure-answered-by"] == "application"
    eventually(lambda: resumes(stack, handle) == ["succeeded"], "it was woken once", within=60)
    assert timer_events(stack, handle) == ["warn", "stop", "wake"]
    [(_, _, asker)] = operations(stack, [handle], "resume")
    assert asker != "schedule:sweep"


def test_a_resume_survives_the_process_whose_request_asked_for_it(stack: Stack, name: str) -> None:
    handle = web(stack, name)
    let_it_sleep(stack, handle)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(get, stack, handle)
        eventually(lambda: resumes(stack, handle), "it is woken")
        stack.api.kill()
        with pytest.raises(httpx2.TransportError):
            asked.result(30)
    stack.start_api()

    def answered() -> bool:
        # The killed process may not have started what it accepted: the reconciler does.
        answer = get(stack, handle)
        assert answer.status_code == 200 or answer.json()["code"] == "waking", answer.text
        return answer.is_success

    eventually_swept(stack, answered, "it is awake", within=120)
    eventually(lambda: resumes(stack, handle) == ["succeeded"], "one resume, and it ends well", within=60)
