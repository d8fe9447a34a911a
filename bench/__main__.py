"""`make bench`: measures, prints JSON, and writes the same into docs/benchmarks.md."""

import argparse
import json
import sys
from dataclasses import replace
from typing import Any

from bench.parts import PARTS, here, measured
from bench.report import write
from tests.helpers.stack import ROOT

TARGET = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    """Measure all parts, or those that are named; each is written as soon as it is there.

    The exit code is 1 when one has missed its bar. A quick run is none to judge by.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one pair each: to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        metavar="PART",
        help=f"measure this part, keep what was written of the others; may be repeated: {', '.join(PARTS)}",
    )
    given = parser.parse_args()
    if given.quick and given.write:
        parser.error("--quick says nothing that is worth writing")
    bench = replace(here(), quick=given.quick)
    results: dict[str, Any] = {}
    for name in PARTS:
        if given.only is None or name in given.only:
            results[name] = measured(name, bench)
            if given.write:
                write(TARGET, {name: results[name]})
    sys.stdout.write(json.dumps(results, indent=2) + "\n")
    missed = [name for name, each in results.items() if each.get("met") is False]
    if missed and not given.quick:
        sys.exit(f"bars that were missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
