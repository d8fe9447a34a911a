"""docs/benchmarks.md: the measured numbers, between two marks; the words around them are kept.

The JSON behind the tables is what the file remembers: the last measurement of each part, with its own time.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- numbers: begin (make bench) -->"
END: Final = "<!-- numbers: end -->"
_JSON: Final = re.compile(r"^```json\n(.*?)\n```$", re.DOTALL | re.MULTILINE)


def write(target: Path, results: Mapping[str, Any]) -> None:
    """Put the parts that were measured in the place of what stands between the marks of them."""
    text = target.read_text()
    head, rest = text.split(BEGIN)
    numbers, tail = rest.split(END)
    kept = _JSON.search(numbers)
    parts = (json.loads(kept[1]) if kept else {}) | dict(results)
    target.write_text(f"{head}{BEGIN}\n{tables(parts)}\n{END}{tail}")


def tables(parts: Mapping[str, Any]) -> str:
    """Return the parts that there are as Markdown, and all of them as JSON."""
    lines: list[str] = []
    for name, shown in _SHOWN.items():
        if name in parts:
            lines += [*shown(parts[name]), "", _measured(parts[name]), ""]
    known = {name: parts[name] for name in _SHOWN if name in parts}
    return "\n".join([*lines, "```json", json.dumps(known), "```"])


def _measured(part: Mapping[str, Any]) -> str:
    """Say when and where a part was measured, and what the processes had in memory at its end."""
    said = f"Measured {part['at']} on {part['machine']['cores']} cores, Python {part['machine']['python']}."
    memory = part.get("memoryMegabytes")
    if not memory:
        return said
    each = ", ".join(f"{name} {megabytes}" for name, megabytes in memory.items())
    return f"{said} Resident memory at its end, MB: {each}."


def _beside(part: Mapping[str, Any]) -> list[str]:
    return [
        "| services | Perdure, s (min / median / max) | kubectl, s | ratio | difference, ms |",
        "|---|---|---|---|---|",
        *(_row(each) for each in part["runs"]),
    ]


def _row(each: Mapping[str, Any]) -> str:
    what = f"{each['services']} in a chain" if each["chained"] else str(each["services"])
    return (
        f"| {what} | {_three(each['perdureSeconds'])} | {_three(each['kubectlSeconds'])} "
        f"| {_three(each['ratio'])} | {_three(each['differenceMilliseconds'])} |"
    )


def _cost(part: Mapping[str, Any]) -> list[str]:
    return [
        "| services | activities | history events | rows of steps | rows of events | bytes in the database |",
        "|---|---|---|---|---|---|",
        *(
            f"| {each['services']} | {each['activities']} | {each['historyEvents']} | {each['steps']} "
            f"| {each['events']} | {each['databaseBytes']} |"
            for each in part["runs"]
        ),
    ]


def _at_once(part: Mapping[str, Any]) -> list[str]:
    return [
        f"{part['environments']} environments of {part['servicesEach']} services at once: "
        f"{part['wallSeconds']} s in all, p95 {part['p95Seconds']} s."
    ]


def _snapshot(part: Mapping[str, Any]) -> list[str]:
    processor = part["processorNanosecondsPerByte"]
    bar = part["bar"]
    grown = " / ".join(str(each) for each in part["growthMebibytes"])
    return [
        f"| snapshot of {part['mebibytes']} MiB (min / median / max) | MB/s | seconds "
        "| processor, ns per byte |",
        "|---|---|---|---|",
        f"| a worker's capture | {_three(part['perdureMegabytesPerSecond'])} "
        f"| {_three(part['captureSeconds'])} | {_three(processor['perdure'])} |",
        f"| kubectl exec tar, zstd, openssl | {_three(part['pipeMegabytesPerSecond'])} "
        f"| {_three(part['pipeSeconds'])} | {_three(processor['pipe'])} |",
        f"| from the request to the end of the operation | | {_three(part['wholeSeconds'])} | |",
        f"| ratio, pair by pair | {_three(part['ratio'])} | | |",
        "",
        f"Bars: the worker's memory grows by less than {bar['growthBarMebibytes']:g} MiB, and the median "
        f"ratio is at least {bar['ratioBar']:g} (aim {bar['ratioAim']:g}). "
        f"**{bar['verdict'].capitalize()}**: {bar['growthMebibytes']} MiB above "
        f"the {part['beforeMebibytes']} MiB before the first snapshot "
        f"(one by one: {grown}), ratio {bar['ratio']}.",
    ]


def _per_byte(what: str) -> Callable[[Mapping[str, Any]], list[str]]:
    """Return what shows the cost of `what` for each byte of each kind of dump."""

    def shown(part: Mapping[str, Any]) -> list[str]:
        return [
            f"| {what}, {part['mebibytes']} MiB, ns per byte (min / median / max) | {what} | sealing "
            "| zstd, openssl |",
            "|---|---|---|---|",
            *(
                f"| {kind} | {_three(each[what])} | {_three(each['sealing'])} | {_three(each['pipe'])} |"
                for kind, each in part["nanosecondsPerByte"].items()
            ),
        ]

    return shown


def _api(part: Mapping[str, Any]) -> list[str]:
    return [
        "| API, 50 clients | requests/s | p50, ms | p95, ms | p99, ms |",
        "|---|---|---|---|---|",
        *(_pages(name, each) for name, each in part["loads"].items()),
    ]


def _thousand(part: Mapping[str, Any]) -> list[str]:
    return [
        f"| lists of {part['environments']} environments | pages/s | p50, ms | p95, ms | p99, ms |",
        "|---|---|---|---|---|",
        *(_pages(f"{each['clients']} at once", each) for each in (part["oneClient"], part["tenClients"])),
        *(_pages(f"alone, {kind}", each) for kind, each in part["oneClient"]["lists"].items()),
        "",
        _bar(part["bar"]),
    ]


def _pages(what: str, each: Mapping[str, Any]) -> str:
    return (
        f"| {what} | {each.get('perSecond', '')} | {each['p50Milliseconds']} | {each['p95Milliseconds']} "
        f"| {each['p99Milliseconds']} |"
    )


def _bar(bar: Mapping[str, Any]) -> str:
    return (
        f"Bar for a page at the 99th percentile, one client: under {bar['barMilliseconds']:g} ms. "
        f'**{bar["verdict"].capitalize()}**: the slowest is "{bar["worst"]}" with '
        f"{bar['p99Milliseconds']} ms."
    )


def _three(values: Mapping[str, float]) -> str:
    return f"{values['min']} / {values['median']} / {values['max']}"


_SHOWN: Final[Mapping[str, Callable[[Mapping[str, Any]], list[str]]]] = {
    "beside": _beside,
    "cost": _cost,
    "atOnce": _at_once,
    "api": _api,
    "thousand": _thousand,
    "snapshot": _snapshot,
    "facts": _per_byte("facts"),
    "masking": _per_byte("masking"),
}
"""By part, in the order in which they stand in the file."""
