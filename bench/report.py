"""docs/benchmarks.md: the measured numbers, between two marks; the words around them are kept."""

import json
from pathlib import Path
from typing import Any

BEGIN = "<!-- numbers: begin (make bench) -->"
END = "<!-- numbers: end -->"


def write(target: Path, results: dict[str, Any]) -> None:
    """Replace what stands between the marks."""
    text = target.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    target.write_text(f"{head}{BEGIN}\n{tables(results)}\n{END}{tail}")


def tables(results: dict[str, Any]) -> str:
    """Return the numbers as Markdown."""
    machine = results["machine"]
    lines = [f"Measured {results['at']} on {machine['cores']} cores, Python {machine['python']}.", ""]
    lines += [
        "| services | Perdure, s (min / median / max) | kubectl, s | ratio | difference, ms |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(each) for each in results["beside"]]
    lines += [
        "",
        "| services | activities | history events | rows of steps | rows of events | bytes in the database |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each['services']} | {each['activities']} | {each['historyEvents']} | {each['steps']} "
        f"| {each['events']} | {each['databaseBytes']} |"
        for each in results["cost"]
    ]
    once = results["atOnce"]
    lines += [
        "",
        f"{once['environments']} environments of {once['servicesEach']} services at once: "
        f"{once['wallSeconds']} s in all, p95 {once['p95Seconds']} s.",
        "",
        "| API, 50 clients | requests/s | p50, ms | p95, ms | p99, ms |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {each['perSecond']} | {each['p50Milliseconds']} | {each['p95Milliseconds']} "
        f"| {each['p99Milliseconds']} |"
        for name, each in results["api"].items()
    ]
    thousand = results["thousand"]
    lines += [
        "",
        f"| lists of {thousand['environments']} environments | pages/s | p50, ms | p95, ms | p99, ms |",
        "|---|---|---|---|---|",
        *(
            _pages(f"{each['clients']} at once", each)
            for each in (thousand["oneClient"], thousand["tenClients"])
        ),
        *(_pages(f"alone, {kind}", each) for kind, each in thousand["oneClient"]["lists"].items()),
        "",
        _bar(thousand["bar"]),
    ]
    snapshot = results["snapshot"]
    lines += [
        "",
        f"| snapshot of {snapshot['mebibytes']} MiB | MB/s (min / median / max) |",
        "|---|---|",
        f"| Perdure | {_three(snapshot['perdureMegabytesPerSecond'])} |",
        f"| kubectl exec, zstd, openssl | {_three(snapshot['pipeMegabytesPerSecond'])} |",
        f"| ratio | {_three(snapshot['ratio'])} |",
        "",
        f"Memory that a snapshot takes, at most: {snapshot['growthMebibytes']} MiB.",
    ]
    memory, loaded = results["memoryMegabytes"], results["memoryMegabytesAfterLoad"]
    lines += [
        "",
        f"Resident memory, MB: API {memory['api']}, after the load {loaded['api']}; "
        f"worker {memory['worker']}, after the load {loaded['worker']}.",
        "",
        "```json",
        json.dumps(results),
        "```",
    ]
    return "\n".join(lines)


def _pages(what: str, each: dict[str, Any]) -> str:
    return (
        f"| {what} | {each.get('perSecond', '')} | {each['p50Milliseconds']} | {each['p95Milliseconds']} "
        f"| {each['p99Milliseconds']} |"
    )


def _bar(bar: dict[str, Any]) -> str:
    return (
        f"Bar for a page at the 99th percentile, one client: under {bar['barMilliseconds']:g} ms. "
        f'**{bar["verdict"].capitalize()}**: the slowest is "{bar["worst"]}" with '
        f"{bar['p99Milliseconds']} ms."
    )


def _three(values: dict[str, float]) -> str:
    return f"{values['min']} / {values['median']} / {values['max']}"


def _row(each: dict[str, Any]) -> str:
    what = f"{each['services']} in a chain" if each["chained"] else str(each["services"])
    return (
        f"| {what} | {_three(each['perdureSeconds'])} | {_three(each['kubectlSeconds'])} "
        f"| {_three(each['ratio'])} | {_three(each['differenceMilliseconds'])} |"
    )
