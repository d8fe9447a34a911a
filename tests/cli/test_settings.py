"""Where address and key come from."""

import os
from pathlib import Path

import pytest

from cli.errors import UsageFault
from cli.settings import API_KEY, ORGANIZATION, URL, Connection, resolve

CONFIG = """
default = "work"
[profiles.work]
url = "https://work.example"
api_key = "pdr_work"
organization = "org_work"
[profiles.home]
url = "http://home.example:8080/"
api_key = "pdr_home"
[profiles.broken]
uri = "https://x"
api_key = 3
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home" / ".config" / "perdure" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG, encoding="utf-8")
    return tmp_path / "home"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    below = tmp_path / "checkout" / "deep" / "below"
    below.mkdir(parents=True)
    env = tmp_path / "checkout" / ".dev" / "env"
    env.parent.mkdir()
    env.write_text(
        "# made by make dev\nexport PERDURE_URL='http://127.0.0.1:8080'\nPERDURE_API_KEY=pdr_dev\nKUBECONFIG=x\n",
        encoding="utf-8",
    )
    return below


def find(
    home: Path,
    cwd: Path,
    environ: dict[str, str] | None = None,
    options: dict[str, str | None] | None = None,
    profile: str | None = None,
) -> Connection:
    return resolve(options or {}, profile=profile, environ=environ or {}, cwd=cwd, home=home)


def test_options_before_variables_before_profile(home: Path, tmp_path: Path) -> None:
    found = find(
        home,
        tmp_path,
        {API_KEY: "pdr_env", URL: "https://env.example"},
        options={URL: "https://option.example"},
    )
    assert (found.url, found.api_key, found.organization) == ("https://option.example", "pdr_env", "org_work")
    assert "url: command line" in found.origins


def test_a_named_profile(home: Path, tmp_path: Path) -> None:
    assert find(home, tmp_path, profile="home").url == "http://home.example:8080"
    assert find(home, tmp_path, {"PERDURE_PROFILE": "home"}).api_key == "pdr_home"


def test_a_checkout_counts_when_nothing_else_is_set(tmp_path: Path, checkout: Path) -> None:
    found = find(tmp_path, checkout, {ORGANIZATION: "org_1"})
    assert (found.url, found.api_key, found.organization) == ("http://127.0.0.1:8080", "pdr_dev", "org_1")
    assert any(str(Path(".dev") / "env") in origin for origin in found.origins)


def test_a_development_key_is_sent_nowhere_else(tmp_path: Path, checkout: Path) -> None:
    with pytest.raises(UsageFault, match="No API key"):
        find(tmp_path, checkout, {URL: "https://elsewhere.example"})


def test_a_checkout_of_somebody_else_does_not_count(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody_else = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody_else)
    with pytest.raises(UsageFault, match="No API to talk to"):
        find(tmp_path, checkout)


@pytest.mark.parametrize("profile", ["unknown", "broken"])
def test_a_profile_that_is_not_usable(home: Path, tmp_path: Path, profile: str) -> None:
    with pytest.raises(UsageFault, match=profile):
        find(home, tmp_path, profile=profile)


def test_a_configuration_that_is_no_toml(home: Path, tmp_path: Path) -> None:
    (home / ".config" / "perdure" / "config.toml").write_text("=", encoding="utf-8")
    with pytest.raises(UsageFault, match="cannot be read"):
        find(home, tmp_path)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8080", "http://", "http://a:b@c", "http://[::1"])
def test_a_url_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageFault):
        find(tmp_path, tmp_path, options={URL: url, API_KEY: "pdr_x"})


@pytest.mark.parametrize("key", ["pdr_\n", "pdr ä", "a b"])
def test_a_key_that_is_none_is_not_repeated(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageFault) as refused:
        find(tmp_path, tmp_path, options={URL: "http://x", API_KEY: key})
    assert key not in str(refused.value)


def test_a_connection_does_not_show_its_key() -> None:
    assert "pdr_x" not in repr(Connection("http://x", "pdr_x"))
