"""Fuzzes all parsers, one after another; `python -m tests.fuzz --seconds 60 [TARGET…]`.

Inputs that reach new code go to .fuzz/TARGET, from where the next run goes on; `--keep` puts those that reach
what the kept ones don't into tests/fuzz/corpus. What crashes a parser goes there at once; the tests try it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS
from tests.fuzz.words import words

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".fuzz"
LONGEST_INPUT = 4096  # bytes
SLOW = 10  # seconds for one input, from which on it is a crash
MEMORY = 1024  # MiB, likewise


def fuzz(name: str, seconds: float, scratch: Path, corpus: Path) -> tuple[int, str]:
    """One target's exit status, and what the fuzzer said."""
    for directory in (scratch / name, corpus / name):
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary:
        dictionary.writelines(f'"{_escaped(word)}"\n' for word in words(name))
        dictionary.flush()
        return _libfuzzer(
            name,
            f"-max_total_time={max(1, round(seconds))}",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={SLOW}",
            f"-rss_limit_mb={MEMORY}",
            f"-artifact_prefix={corpus / name}/",
            f"-dict={dictionary.name}",
            str(scratch / name),
            str(corpus / name),
        )


def keep(name: str, scratch: Path, corpus: Path) -> tuple[int, str]:
    """Those inputs of the scratch directory that reach what the kept ones don't are kept too."""
    (corpus / name).mkdir(parents=True, exist_ok=True)
    return _libfuzzer(name, "-merge=1", str(corpus / name), str(scratch / name))


def _libfuzzer(*arguments: str) -> tuple[int, str]:
    # Two that trace what runs are slow: in a measured test it is the fuzzer alone.
    unmeasured = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_PROCESS")}
    one = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.one", *arguments],
        cwd=ROOT,
        env={**unmeasured, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    return one.returncode, one.stdout


def _escaped(word: bytes) -> str:
    """As libFuzzer reads it between quotes."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def report(name: str, status: int, output: str) -> str:
    """One line of a target that was well, all that was said of one that was not."""
    if status:
        kept = re.findall(r"Test unit written to (\S+)", output)
        files = [str(Path(file).relative_to(ROOT)) if file.startswith(str(ROOT)) else file for file in kept]
        said = output[max(0, output.find("=== Uncaught")) :]
        return f"{name}: CRASHED\n{said}\n{name}: the input is kept as {', '.join(files) or 'nothing'}"
    runs = re.search(r"Done (\d+) runs", output)
    reached = re.findall(r"cov: (\d+)", output)
    tried, branches = int(runs[1]) if runs else 0, reached[-1] if reached else 0
    return f"{name:16} {tried:>9} inputs, {branches:>5} branches reached"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz sockd's parsers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--keep", action="store_true", help="add what was found to the corpora")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chosen = arguments.targets or list(TARGETS)
    if unknown := sorted(set(chosen) - set(TARGETS)):
        parser.error(f"there is no target {', '.join(unknown)}")
    if find_spec("atheris") is None:
        parser.exit(1, "fuzzing needs atheris, which there is for Linux on x86-64 alone\n")
    failed = 0
    for name in chosen:
        status, output = fuzz(name, arguments.seconds / len(chosen), arguments.scratch, arguments.corpus)
        sys.stdout.write(report(name, status, output) + "\n")
        sys.stdout.flush()
        failed |= bool(status)
        if arguments.keep and not status:
            keep(name, arguments.scratch, arguments.corpus)
    return failed


if __name__ == "__main__":
    sys.exit(main())
