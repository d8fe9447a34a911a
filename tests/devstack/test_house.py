"""What README and lock files promise, held against the code."""

import inspect
import re
import subprocess
from pathlib import Path

import pytest

from activities.settings import SharedSettings
from api.settings import ApiSettings
from tests.conftest import LONGEST, ON_CLUSTER
from worker.settings import WorkerSettings

REPO = Path(__file__).resolve().parent.parent.parent


def test_the_readme_lists_every_setting_and_no_other() -> None:
    table = (REPO / "README.md").read_text().partition("## Configuration")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {name for cell in first_cells for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert listed == {name.upper() for name in (*WorkerSettings.model_fields, *ApiSettings.model_fields)}


def test_a_setting_of_both_processes_is_defined_once() -> None:
    both = set(WorkerSettings.model_fields) & set(ApiSettings.model_fields)
    assert both == set(SharedSettings.model_fields)
    for settings in (WorkerSettings, ApiSettings):
        assert not both & inspect.get_annotations(settings).keys()


def test_what_both_processes_share_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_LOG_LEVEL", "DEBUG")
    assert (ApiSettings().log_level, SharedSettings().log_level) == ("DEBUG", "INFO")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-bootstrap.lock"])
def test_lock_files_have_hashes_and_name_no_host(name: str) -> None:
    text = (REPO / name).read_text()
    assert not re.search(r"://|--(?:extra-)?index-url|--find-links| @ ", text)
    packages = re.findall(r"^[a-z0-9][^\n]*$(?:\n    [^\n]*)*", text, re.MULTILINE)
    assert packages
    assert all("--hash=sha256:" in package for package in packages)


def test_every_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", (REPO / "README.md").read_text()))
    listing = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    assert named - set(re.findall(r"make ([a-z-]+)", listing)) == set()


@pytest.mark.parametrize(
    "path", [*sorted(REPO.glob("docs/**/*.md")), REPO / "README.md"], ids=lambda p: p.name
)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    # Written by `make bench` when it has run.
    missing = [link for link in links if not (path.parent / link).exists() and link != "benchmarks.md"]
    assert missing == []


def test_what_the_proofs_name_is_there() -> None:
    named = re.findall(r"`(tests/[^`:]+\.py)(?:::(\w+))?`", (REPO / "docs" / "proofs.md").read_text())
    assert named
    absent = [
        (path, test)
        for path, test in named
        if not (REPO / path).exists() or (test and f"def {test}(" not in (REPO / path).read_text())
    ]
    assert absent == []


def test_the_files_that_begin_first_are_there() -> None:
    there = {path.stem for folder in ON_CLUSTER for path in (REPO / folder).glob("test_*.py")}
    assert {f"test_{name}" for name in LONGEST} <= there


def test_no_group_is_repeated_for_good_by_hand() -> None:
    """Before Python 3.11.5 that takes what it should not: `workflows/domain/possessive.py`."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=REPO, capture_output=True, text=True, check=True
    )
    by_hand = [
        name
        for name in tracked.stdout.split()
        if not name.startswith("tests/") and re.search(r"\)[*+?]\+", (REPO / name).read_text())
    ]
    assert by_hand == ["workflows/domain/possessive.py"]
