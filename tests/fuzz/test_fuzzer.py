"""The fuzzer itself: it runs, it finds a bug that was planted, and keeps the input that showed it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.__main__ import ROOT, _quoted, report
from tests.fuzz.__main__ import fuzz as run
from tests.fuzz.corpora import escaped, file_of, read, write
from tests.fuzz.planted import find_me

PLANTED = "tests.fuzz.planted:find_me"

needs_atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not there for this machine"
)


def fuzz(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = ("--scratch", str(directory / "scratch"), "--corpus", str(directory / "corpus"))
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *places, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@needs_atheris
def test_a_second_of_it(tmp_path: Path) -> None:
    """It tries inputs, reaches new branches with some, and with --keep adds those to what is kept."""
    kept = file_of("proof", tmp_path / "corpus")
    write(kept, [b"/prove x\n"])
    one = fuzz(tmp_path, "--seconds", "1", "--keep", "proof")
    assert one.returncode == 0, one.stdout + one.stderr
    assert "branches reached" in one.stdout
    assert b"/prove x\n" in read(kept)
    assert len(read(kept)) > 1


def test_unknown_targets(tmp_path: Path) -> None:
    """They are named in one line."""
    one = fuzz(tmp_path, "paln")
    assert one.returncode == 2
    assert one.stderr.endswith("there is no target paln\n")


@needs_atheris
def test_a_bug_is_found(tmp_path: Path) -> None:
    """An exception in a place that few inputs reach; the input is kept, and the report says where."""
    scratch, corpus = tmp_path / "scratch", tmp_path / "corpus"
    status, output, crashed = run(PLANTED, 60.0, scratch, corpus)
    assert status != 0
    kept = file_of(PLANTED, corpus)
    (data,) = read(kept)
    assert crashed == [data]
    with pytest.raises(ZeroDivisionError):
        find_me(data)
    told = report(PLANTED, status, output, kept, crashed)
    assert told.startswith(f"{PLANTED}: CRASHED\n=== Uncaught Python exception: ===\nZeroDivisionError")
    assert told.endswith(f"{PLANTED}: the input is kept in {kept}: {escaped(data)}")


def test_words_of_a_dictionary() -> None:
    """Every byte is written in a way that libFuzzer reads."""
    assert _quoted(b'a"\xff') == "\\x61\\x22\\xff"
