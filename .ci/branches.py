"""Says how many branches the tests took: `branches.py COVERAGE.json TESTS.xml…` fails below the minimum."""

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

MINIMUM = 95.0  # per cent of the branches of sockd/


def skipped(tests: list[Path]) -> int:
    """How many tests pytest skipped, by its JUnit files."""
    suites = [suite for file in tests for suite in ET.parse(file).iter("testsuite")]  # noqa: S314 - pytest's own
    return sum(int(suite.get("skipped", "0")) for suite in suites)


def verdict(covered: int, branches: int, skips: int, *, strict: bool) -> tuple[str, int]:
    """The line to print, and the status; with skipped tests, too few branches fail only in CI (`strict`)."""
    share = 100 * covered / branches
    text = f"{covered} of {branches} branches: {share:.2f} %, of {MINIMUM:g} % asked for"
    if share >= MINIMUM:
        return text, 0
    if skips and not strict:
        return f"{text}; not a failure, as {skips} tests were skipped", 0
    return text, 1


def main() -> int:
    coverage, *tests = map(Path, sys.argv[1:])
    totals = json.loads(coverage.read_text())["totals"]
    text, status = verdict(
        totals["covered_branches"],
        totals["num_branches"],
        skipped(tests),
        strict=os.environ.get("CI") == "true",
    )
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
