"""The page of a share link in a real browser."""

import json
from pathlib import Path
from typing import Any

import pytest

from activities.db.repositories.shares import MOST_WRONG_PINS
from tests.api.support import pod
from tests.helpers.browser import Page
from tests.pages.conftest import Served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PIN = "4711-blue"
OPENED = "document.querySelector('.badge') && document.readyState === 'complete'"
NASTY = '</p><script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'
_CONTRAST = """
(() => {
  const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    if (element.namespaceURI.endsWith("svg")) {
      const box = element.closest("g")?.querySelector("rect");
      if (box) return channels(getComputedStyle(box).fill);
    }
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || ["SCRIPT", "STYLE", "title"].includes(element.tagName)) continue;
    if (!element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const svg = element.namespaceURI.endsWith("svg");
    const ink = light(channels(svg ? style.fill : style.color));
    const paper = light(behind(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName} "${element.textContent.slice(0, 30)}" ${ratio}`);
  }
  return poor;
})()
"""
"""What is read with less contrast than WCAG 2.2 asks for (4.5 to 1)."""


def service(name: str, *needs: str, **more: Any) -> dict[str, Any]:
    """A service of a Blueprint."""
    ports = [{"containerPort": 8080}]
    return {
        "name": name,
        "image": f"registry.test/{name}:1",
        "ports": ports,
        "dependsOn": list(needs),
        **more,
    }


def shop(**more: Any) -> dict[str, Any]:
    """A Blueprint with three layers of services."""
    services = [
        service("web", "api", expose=True),
        service("admin", "api", expose=True),
        service("api", "db", "cache", "search"),
        service("worker", "db", "queue"),
        service("db"),
        service("cache"),
        service("queue"),
        service("search"),
    ]
    return {"name": "shop", "services": services, **more}


def opened(page: Page, served: Served, environment_id: str, **wish: Any) -> dict[str, Any]:
    """Make a link and follow it."""
    link = served.share(environment_id, **wish)
    page.open(link["url"])
    page.wait_for(OPENED)
    return link


def requests_elsewhere(page: Page, served: Served) -> list[str]:
    """What the page asked of anybody but the API."""
    return [url for url in page.requested if not url.startswith((served.url + "/", "data:", "about:"))]


def expected_complaints(page: Page) -> list[str]:
    """What a browser says about the status of a page that asks for the link is no fault of the page."""
    return [each for each in page.complaints if "status of 401" not in each]


def test_a_link_shows_status_topology_and_endpoints(page: Page, served: Served, tmp_path: Path) -> None:
    environment = served.create(shop(description="The shop of the autumn campaign."))
    served.cluster.pods = [
        *(pod(environment, name) for name in ("web", "admin", "api", "db", "cache", "queue")),
        pod(environment, "worker", ready=False),
    ]
    link = opened(page, served, environment)
    assert page.evaluate("document.title") == "shop · Perdure"
    assert page.evaluate("location.href") == f"{served.url}/v1/portal/{environment}", (
        "no token in the address"
    )
    text = page.text()
    for part in (
        "The shop of the autumn campaign.",
        "Endpoints",
        "Topology",
        "Services",
        "starting",
        "not running",
    ):
        assert part in text
    assert page.evaluate("document.querySelectorAll('svg .node').length") == 8
    assert page.evaluate("document.querySelectorAll('svg .wire').length") == 7
    assert page.evaluate("document.querySelector('.links a').href").startswith("http://")
    assert "registry.test" not in page.evaluate("document.documentElement.outerHTML")
    assert expected_complaints(page) == []
    assert requests_elsewhere(page, served) == []
    assert link["token"] not in json.dumps([page.requested, served.logs], default=str)
    for width, dark in ((1100, False), (390, False), (1100, True)):
        page.look(width, 900, dark=dark)
        assert page.evaluate(_CONTRAST) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        page.screenshot(tmp_path / f"portal-{width}{'-dark' if dark else ''}.png")


def test_it_can_be_read_and_used_without_eyes_or_mouse(page: Page, served: Served) -> None:
    environment = served.create(shop())
    opened(page, served, environment)
    assert page.evaluate("document.documentElement.lang") == "en"
    headings = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((each) => each.tagName)")
    assert headings == ["H1", "H2", "H2", "H2"]
    assert page.evaluate("[...document.querySelectorAll('th')].every((each) => each.scope)")
    assert page.evaluate("document.querySelector('svg').getAttribute('aria-label')").startswith("Picture of")
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in tree]
    assert {"main", "heading", "status", "table", "contentinfo", "link"} <= set(roles)
    reached = set()
    for _ in range(4):
        page.press("Tab", 9)
        reached.add(page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert {"A.", "DIV.scroll"} <= reached
    page.open(f"{served.url}/v1/portal/env_other")
    assert page.evaluate("document.querySelector('input').labels[0].innerText") == "Share link or token"
    assert page.evaluate(_CONTRAST) == []


def test_it_follows_what_happens(page: Page, served: Served) -> None:
    environment = served.create(shop())
    link = opened(page, served, environment)
    assert "not running" in page.text()
    page.evaluate("document.querySelector('.links a').focus()")
    served.cluster.pods = [pod(environment, name) for name in ("web", "db")]
    page.wait_for("document.querySelectorAll('svg .node.good').length === 2")
    page.wait_for("document.querySelectorAll('td .dot.good').length === 2")
    assert page.evaluate("document.activeElement.tagName") == "A", "what did not change keeps its focus"
    served.client.delete(f"/v1/environments/{environment}/shares/{link['id']}")
    page.wait_for("document.body.innerText.includes('opens nothing')")
    assert requests_elsewhere(page, served) == []


def test_a_pin_is_asked_for(page: Page, served: Served) -> None:
    link = served.share(served.create(shop()), pin=PIN)
    page.open(link["url"])
    page.wait_for("document.querySelector('#pin')")
    page.type("#pin", "wrong-one")
    page.wait_for("document.body.innerText.includes('That is not the PIN.')")
    assert page.evaluate(_CONTRAST) == []
    page.type("#pin", PIN)
    page.wait_for(OPENED)
    assert PIN not in json.dumps(page.requested)
    assert page.evaluate("document.cookie") == "", "no script reads it"
    page.open("about:blank")
    page.open(link["url"])
    page.wait_for(OPENED)
    assert expected_complaints(page) == []


def test_too_many_wrong_pins_lock_it(page: Page, served: Served) -> None:
    link = served.share(served.create(shop()), pin=PIN)
    page.open(link["url"])
    page.wait_for("document.querySelector('#pin')")
    for attempt in range(MOST_WRONG_PINS):
        page.evaluate("window.before = true")
        page.type("#pin", f"wrong-{attempt}")
        page.wait_for("!window.before && document.querySelector('[role=alert]')")
    page.type("#pin", PIN)
    page.wait_for("document.body.innerText.includes('Too many wrong PINs')")
    (listed,) = served.client.get(f"/v1/environments/{link['environmentId']}/shares").json()["data"]
    assert listed["state"] == "locked"


def test_a_new_link_opens_where_an_old_one_was_revoked(page: Page, served: Served) -> None:
    environment = served.create(shop())
    old = opened(page, served, environment)
    served.client.delete(f"/v1/environments/{environment}/shares/{old['id']}")
    page.wait_for("document.body.innerText.includes('opens nothing')")
    page.open("about:blank")
    opened(page, served, environment)


@pytest.mark.parametrize("end", ["revoked", "broken"])
def test_a_dead_link_says_so(page: Page, served: Served, end: str) -> None:
    link = served.share(served.create(shop()))
    url = link["url"]
    if end == "revoked":
        served.client.delete(f"/v1/environments/{link['environmentId']}/shares/{link['id']}")
    else:
        url = url[:-4]
    page.open(url)
    page.wait_for("document.body.innerText.includes('opens nothing')")
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert [each for each in expected_complaints(page) if "status of 404" not in each] == []


def test_markup_in_what_users_wrote_is_text(page: Page, served: Served) -> None:
    environment = served.create(shop(description=NASTY))
    opened(page, served, environment)
    assert NASTY in page.text()
    assert page.evaluate("document.title") == "shop · Perdure"
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert expected_complaints(page) == []


def test_even_markup_that_slipped_through_runs_nothing(page: Page, served: Served) -> None:
    opened(page, served, served.create(shop()))
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned=1\">')")
    page.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.owned=1';"
        " document.body.append(s); })()"
    )
    assert page.evaluate("window.owned") is None
    assert any("Content Security Policy" in each for each in page.complaints)


def test_without_scripts_the_link_is_pasted(page: Page, served: Served) -> None:
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    link = served.share(served.create(shop()))
    page.open(link["url"])
    assert "Paste the link here." in page.text()
    page.type("#token", link["url"])
    page.wait_for(OPENED)
    assert page.evaluate("document.querySelectorAll('svg .node').length") == 8


def test_thirty_services_fit(page: Page, served: Served) -> None:
    names = [f"service-{number:02}" for number in range(30)]
    services = [service(name, *names[number + 5 : number + 7]) for number, name in enumerate(names)]
    opened(page, served, served.create({"name": "many", "services": services}))
    assert page.evaluate("document.querySelectorAll('svg .node').length") == 30
    page.look(390, 800)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert expected_complaints(page) == []
