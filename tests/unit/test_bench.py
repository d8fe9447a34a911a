"""What `make bench` says about its bars, writes and is made of; measuring is its own business."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bench.__main__
import bench.parts
from bench.formats import DUMPS, facts, masking
from bench.lists import verdict
from bench.parts import PARTS
from bench.report import BEGIN, END, tables, write
from bench.snapshots import piped
from bench.snapshots import verdict as snapshot_verdict
from tests.helpers.stack import ROOT
from workflows.domain.snapshot_facts import Kind

pytestmark = pytest.mark.slow

WHEN: dict[str, Any] = {"at": "2026-01-01T00:00:00+00:00", "machine": {"cores": 2, "python": "3.11.7"}}
AT_ONCE: dict[str, Any] = {
    **WHEN,
    "environments": 20,
    "servicesEach": 3,
    "wallSeconds": 16.5,
    "p95Seconds": 16.2,
    "memoryMegabytes": {"api": 160.5, "worker": 200.1},
}


def measured(overall: float, **lists: float) -> dict[str, Any]:
    """The result of a walk through lists, as far as the bar looks at it."""
    return {
        "p99Milliseconds": overall,
        "lists": {kind: {"p99Milliseconds": each} for kind, each in lists.items()},
    }


@pytest.mark.parametrize(
    ("result", "says", "worst"),
    [
        (measured(40.0, newest=30.0, label=99.9), "pass", "label"),
        (measured(40.0, newest=30.0, label=100.0), "fail", "label"),
        (measured(101.5, newest=30.0), "fail", "all"),
    ],
)
def test_the_slowest_kind_of_list_decides_over_the_bar(result: dict[str, Any], says: str, worst: str) -> None:
    found = verdict(result)
    assert (found["verdict"], found["worst"], found["barMilliseconds"]) == (says, worst, 100.0)


@pytest.mark.parametrize(
    ("growth", "ratios", "says"),
    [
        (63.9, [0.5, 0.8, 0.81], "pass"),
        (64.0, [1.2, 1.2, 1.2], "fail"),
        (10.0, [0.7996, 0.7996, 1.5], "fail"),
        (-3.0, [0.9], "pass"),
    ],
)
def test_a_snapshot_has_two_bars(growth: float, ratios: list[float], says: str) -> None:
    assert snapshot_verdict(growth, ratios)["verdict"] == says


def kubectl_is(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a shell script stand for kubectl."""
    kubectl = directory / "kubectl"
    kubectl.write_text(f"#!/bin/sh\n{script}\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=":")


@pytest.mark.parametrize(
    ("says", "size"),
    [("Defaulted container", 300_000), ("websocket.go:296] Unknown stream id 1, discarding message", None)],
)
def test_a_pipe_for_which_kubectl_lost_bytes_is_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, size: int | None
) -> None:
    kubectl_is(tmp_path, monkeypatch, f"echo '{says}' >&2; head -c 300000 /dev/zero")
    taken = piped(tmp_path / "kubeconfig", "any", tmp_path / "pipe")
    assert (taken and taken.bytes) == size


def test_a_pipe_that_fails_says_what_kubectl_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kubectl_is(tmp_path, monkeypatch, """echo 'pods "files-0" not found' >&2; exit 1""")
    with pytest.raises(subprocess.CalledProcessError):
        piped(tmp_path / "kubeconfig", "any", tmp_path / "pipe")
    assert 'pods "files-0" not found' in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "verdict", "met", "code"),
    [
        ((), "pass", True, None),
        ((), "fail", False, "bars that were missed: thousand, snapshot"),
        (("--quick",), "fail", False, None),
    ],
)
def test_a_bar_that_is_missed_fails_the_run_unless_it_is_a_quick_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    verdict: str,
    *,
    met: bool,
    code: str | None,
) -> None:
    bar = {"bar": {"verdict": verdict}}
    made = {"thousand": lambda _: bar, "cost": lambda _: {"runs": []}, "snapshot": lambda _: bar}
    for module in (bench.parts, bench.__main__):
        monkeypatch.setattr(module, "PARTS", made)
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    ended = None
    try:
        bench.__main__.main()
    except SystemExit as end:
        ended = end.code
    found = json.loads(capsys.readouterr().out)
    assert ended == code
    assert {name: each.get("met") for name, each in found.items()} == {
        "thousand": met,
        "cost": None,
        "snapshot": met,
    }


def page(directory: Path, numbers: str = "") -> Path:
    target = directory / "benchmarks.md"
    target.write_text(f"before\n{BEGIN}\n{numbers}\n{END}\nafter\n")
    return target


def remembered(target: Path) -> Any:
    numbers = target.read_text().split(BEGIN)[1].split(END)[0]
    return json.loads(numbers.split("```json\n")[1].split("\n```")[0])


def test_a_part_that_is_measured_alone_leaves_the_others(tmp_path: Path) -> None:
    target = page(tmp_path)
    write(target, {"atOnce": AT_ONCE})
    later = WHEN | {"at": "2026-02-02T00:00:00+00:00"}
    write(target, {"facts": later | facts(100_000, 1, settle=lambda: None)})
    assert remembered(target)["atOnce"] == AT_ONCE
    write(target, {"atOnce": AT_ONCE | {"wallSeconds": 9.75}})
    text = target.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "9.75 s in all" in text
    assert "16.5 s in all" not in text
    assert "Measured 2026-01-01T00:00:00+00:00 on 2 cores" in text
    assert "Measured 2026-02-02T00:00:00+00:00 on 2 cores" in text
    assert remembered(target)["facts"]["at"] == later["at"]


def test_every_part_can_be_written_and_the_page_is_what_its_json_says() -> None:
    numbers = (ROOT / "docs" / "benchmarks.md").read_text().split(BEGIN)[1].split(END)[0]
    parts = json.loads(numbers.split("```json\n")[1].split("\n```")[0])
    assert set(parts) <= set(PARTS)
    assert numbers.strip("\n") == tables(parts)


@pytest.mark.parametrize("kind", DUMPS)
def test_made_up_dumps_are_read_like_real_ones(kind: str) -> None:
    dump = DUMPS[kind]
    stream = dump.make(200_000)
    assert 150_000 < len(stream) < 5_000_000
    observer = dump.observer()
    observer.write(stream)
    found = observer.facts()
    assert not found.unread
    [tally] = [each for each in found.tallies if each.kind in (Kind.TABLES, Kind.KEYS, Kind.FILES)]
    assert tally.count > (0 if kind == "files" else 40)


@pytest.mark.parametrize("kind", [kind for kind, dump in DUMPS.items() if dump.masking is not None])
def test_made_up_dumps_are_masked_in_all_that_the_rules_name(kind: str) -> None:
    dump = DUMPS[kind]
    assert dump.masking is not None
    stream, under_way = dump.make(200_000), dump.masking()
    out = under_way.write(stream) + under_way.finish()
    assert b"Eriksen" in stream
    clear = {"redis": b"Eriksen <"}.get(kind, b"Eriksen")
    assert clear not in out
    observer = dump.observer()
    observer.write(out)
    assert not observer.facts().unread


def test_what_reading_and_masking_cost_is_told_beside_the_pipe() -> None:
    for what, result, kinds in (
        ("facts", facts(100_000, 1, settle=lambda: None), set(DUMPS)),
        ("masking", masking(100_000, 1, settle=lambda: None), {"postgres", "mariadb", "redis"}),
    ):
        assert set(result["nanosecondsPerByte"]) == kinds
        for each in result["nanosecondsPerByte"].values():
            assert set(each) == {what, "sealing", "pipe"}
            assert all(spread["min"] > 0 for spread in each.values())
