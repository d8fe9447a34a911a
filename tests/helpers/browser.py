"""A real headless Chromium, driven by its own protocol: https://chromedevtools.github.io/devtools-protocol/.

No driver and no browser of a package's own: what is tested is the browser of the system.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from websockets.sync.client import ClientConnection, connect

from tests.helpers.waiting import eventually

_ANSWER_SECONDS = 20.0
_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
    # Nothing but this machine is found, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def chromium() -> str | None:
    """Where Chromium is; None: it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Page:
    """One tab. What went wrong in it, and what it asked for, is noted while it is driven."""

    connection: ClientConnection
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts, of loading, and of the content security policy."""
    requested: list[str] = field(default_factory=list)
    _number: int = 0
    _loads: int = 0

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; return its result."""
        self._number += 1
        self.connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self.connection.recv(timeout=_ANSWER_SECONDS))
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        before = self._loads
        self.send("Page.navigate", url=url)
        eventually(lambda: self.send("Runtime.evaluate", expression="1") and self._loads > before, url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true, over navigations."""

        def now() -> bool:
            try:
                answer = self.send(
                    "Runtime.evaluate", expression=f"Boolean({expression})", returnByValue=True
                )
            except RuntimeError:  # the page is just being left
                return False
            return "exceptionDetails" not in answer and answer["result"].get("value") is True

        eventually(now, expression)

    def text(self) -> str:
        """All text that is seen."""
        found: str = self.evaluate("document.body.innerText")
        return found

    def type(self, selector: str, text: str) -> None:
        """Type into a field, and press Enter."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.send("Input.insertText", text=text)
        self.press("Enter", 13, "\r")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **extra
            )

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, in pixels, and light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message["method"]:
            case "Page.loadEventFired":
                self._loads += 1
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])


@dataclass
class Browser:
    """A running Chromium; `address` is that of its protocol."""

    address: str

    @contextmanager
    def page(self) -> Iterator[Page]:
        """Open a tab with no cookies but its own."""
        version = httpx2.get(f"{self.address}/json/version").json()
        with connect(version["webSocketDebuggerUrl"], max_size=None) as whole:
            browser = Page(whole)
            context = browser.send("Target.createBrowserContext")["browserContextId"]
            target = browser.send("Target.createTarget", url="about:blank", browserContextId=context)
            identifier = target["targetId"]
            host = self.address.removeprefix("http://")
            with connect(f"ws://{host}/devtools/page/{identifier}", max_size=None) as tab:
                page = Page(tab)
                for domain in ("Page", "Runtime", "Network", "Log"):
                    page.send(f"{domain}.enable")
                yield page
            browser.send("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def running_browser(executable: str, directory: Path) -> Iterator[Browser]:
    """Start a browser with its files in `directory`; it ends with the context."""
    command = [executable, *_SWITCHES, f"--user-data-dir={directory}", "about:blank"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        port_file = directory / "DevToolsActivePort"

        def port() -> str | None:
            assert process.poll() is None, (directory / "log").read_text(errors="replace")[-2000:]
            text = port_file.read_text() if port_file.exists() else ""
            return text.splitlines()[0] if "\n" in text else None

        try:
            yield Browser(f"http://127.0.0.1:{eventually(port, 'Chromium listens')}")
        finally:
            process.terminate()
            process.wait(20)
