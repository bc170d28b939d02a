"""How many branches the tests took: `branches.py COVERAGE.json TESTS.xml…` fails below what is asked for."""

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ASKED = 95.0  # per cent of the branches of sockd/


def skipped(tests: list[Path]) -> int:
    """How many tests pytest skipped, by its JUnit files."""
    suites = [suite for file in tests for suite in ET.parse(file).iter("testsuite")]  # noqa: S314 - pytest's own
    return sum(int(suite.get("skipped", "0")) for suite in suites)


def verdict(covered: int, branches: int, skips: int, *, strict: bool) -> tuple[str, int]:
    """What to say, and the status; where tests were skipped, too few are no failure but in CI (`strict`)."""
    share = 100 * covered / branches
    told = f"{covered} of {branches} branches: {share:.2f} %, of {ASKED:g} % asked for"
    if share >= ASKED:
        return told, 0
    if skips and not strict:
        return f"{told}; not insisted on, as {skips} tests were skipped", 0
    return told, 1


def main() -> int:
    coverage, *tests = map(Path, sys.argv[1:])
    totals = json.loads(coverage.read_text())["totals"]
    told, status = verdict(
        totals["covered_branches"],
        totals["num_branches"],
        skipped(tests),
        strict=os.environ.get("CI") == "true",
    )
    print(told)
    return status


if __name__ == "__main__":
    sys.exit(main())
