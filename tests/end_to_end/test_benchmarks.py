"""The benchmarks run, and print what they promise; how fast anything is no test says."""

import sys

from benchmarks.reload import CHANGES
from tests.end_to_end.harness import ROOT
from tests.end_to_end.programs import run


def test_reloads_are_measured() -> None:
    """A small file, each kind of change once: the machine, then a line for each."""
    one = run([sys.executable, "-m", "benchmarks.reload", "--endpoints", "20", "--rounds", "1"], cwd=ROOT)
    assert (one.returncode, one.stderr) == (0, "")
    assert "Twisted" in one.stdout
    for change in CHANGES:
        assert f"\n{change} " in one.stdout
