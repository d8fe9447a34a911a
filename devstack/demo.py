"""The main job, end to end: a stack, an application in it, an order in the application."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from devstack import envfile
from devstack.cluster import Cluster
from devstack.errors import DevstackError
from devstack.kube import ServiceProxy
from devstack.progress import say, wait_until
from devstack.settings import Stack
from devstack.stack import Up, describe

BLUEPRINT: Final = "examples/shop.yaml"
NAME: Final = "shop"
_NOT_FOUND: Final = 6
"""What `perdure` exits with for an environment that does not exist (cli/errors.py)."""
_API_SERVICE: Final = "api"
_API_PORT: Final = 8080
_HANDLED_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Chapter:
    """Prints the headings of the demo, numbered, with the time so far."""

    began: float = field(default_factory=time.monotonic)

    def __call__(self, text: str) -> None:
        say(f"\n[{time.monotonic() - self.began:5.1f} s] {text}")


def demo(stack: Stack) -> None:
    """Run the demo; when it returns, everything it shows has held. Raises DevstackError."""
    chapter = Chapter()
    chapter("A real Kubernetes, Temporal, a worker and the API")
    Up(stack)()
    chapter("Images of the example application")
    Cluster(stack).images()
    perdure = Perdure(stack)
    if (status := perdure.status_of(NAME)) is not None:
        chapter(f"An environment `{NAME}` is left from an earlier demo ({status}): it is deleted first")
        perdure.show("env", "delete", NAME, "--yes", "--wait", "--timeout", "5m")
    chapter(f"{BLUEPRINT} becomes a running environment: perdure env create -f {BLUEPRINT} --wait")
    perdure.show("env", "create", "-f", BLUEPRINT, "--wait", "--timeout", "10m")
    environment = perdure.ask("env", "get", NAME)
    chapter(f"The running application answers, in namespace {environment['namespace']}")
    use_shop(ServiceProxy(Cluster(stack).admin_kubeconfig, environment["namespace"], _API_SERVICE, _API_PORT))
    chapter(f"What Perdure says of it: perdure env status {NAME}")
    perdure.show("env", "status", NAME)
    status = perdure.ask("env", "status", NAME)["status"]
    if status != "running":
        raise DevstackError(f"the environment was to be running and is {status}")
    chapter("Done. Where to look further:")
    say(f"  Each step of what just happened, as Temporal saw it: {perdure.temporal_url(environment)}")
    say(f"  .venv/bin/perdure env logs {NAME} --tail 5")
    say("  Kill the worker in the middle of an operation and start it again (the README says how).")
    describe(stack)


def use_shop(shop: ServiceProxy) -> None:
    """List products, order one, and wait until the shop's worker has handled it. Raises DevstackError."""
    products = _expect(shop, "GET", "products")["products"]
    if not products:
        raise DevstackError("the shop sells nothing: its database was not filled")
    for product in products:
        price = product["price_cents"] / 100
        say(f"  GET /products     {product['id']:>3}  {product['name']:<12} {price:8.2f}")
    order = _expect(shop, "POST", "orders", {"product_id": products[0]["id"], "quantity": 2})
    say(
        f"  POST /orders      order {order['id']} is {order['state']}: in Postgres, and in the queue in Redis"
    )

    def look() -> str | None:
        state = _expect(shop, "GET", f"orders/{order['id']}")["state"]
        return None if state == "done" else f"order {order['id']} is {state}"

    if (missing := wait_until("order", look, seconds=_HANDLED_SECONDS)) is not None:
        raise DevstackError(
            f"the shop's worker did not handle the order within {_HANDLED_SECONDS:.0f} s: {missing}"
        )
    say(f"  GET /orders/{order['id']:<5} order {order['id']} is done: the shop's worker has handled it")


def _expect(shop: ServiceProxy, method: str, path: str, body: object = None) -> Any:
    status, answer = shop.request(method, path, body)
    if status not in {200, 201}:
        raise DevstackError(f"{method} /{path} was answered with {status}: {str(answer)[:500]}")
    return answer


@dataclass(frozen=True, slots=True)
class Perdure:
    """The command line, as a user types it, against this stack."""

    stack: Stack

    def show(self, *arguments: str) -> None:
        """Run a command whose output is for the person who watches. Raises DevstackError when it fails."""
        ended = self._run(arguments, capture=False).returncode
        if ended != 0:
            raise DevstackError(
                f"`perdure {' '.join(arguments)}` ended with status {ended}; what it says is above"
            )

    def ask(self, *arguments: str) -> Any:
        """Run a command and return its JSON. Raises DevstackError when it fails."""
        ended = self._run((*arguments, "-o", "json"), capture=True)
        if ended.returncode != 0:
            raise DevstackError(f"`perdure {' '.join(arguments)}` failed:\n{ended.stderr.strip()}")
        return json.loads(ended.stdout)

    def status_of(self, name: str) -> str | None:
        """Return the status of an environment; None when there is none, or it was deleted."""
        ended = self._run(("env", "get", name, "-o", "json"), capture=True)
        if ended.returncode == _NOT_FOUND:
            return None
        if ended.returncode != 0:
            raise DevstackError(f"`perdure env get {name}` failed:\n{ended.stderr.strip()}")
        status = str(json.loads(ended.stdout)["status"])
        return None if status == "deleted" else status

    def temporal_url(self, environment: Any) -> str:
        """Return the page of the environment's last operation in the Temporal UI."""
        operation = environment.get("operation") or {}
        return str(operation.get("temporalUrl") or self.stack.temporal_ui_url)

    def _run(self, arguments: tuple[str, ...], *, capture: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("perdure")), *arguments],
            cwd=self.stack.repo,
            env=envfile.over_environment(self.stack.user_env),
            stdin=subprocess.DEVNULL,
            capture_output=capture,
            text=True,
            check=False,
        )
