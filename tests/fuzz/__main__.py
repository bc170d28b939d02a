"""Fuzzes all parsers, one after another; `python -m tests.fuzz --seconds 60 [TARGET…]`.

Inputs that reach new code go to .fuzz/TARGET, where the next run starts from; `--keep` adds those that reach
more than the kept inputs do to tests/fuzz/corpus/TARGET.txt. An input that crashes a parser is always added
there, and the tests try it from then on.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.corpora import CORPUS, escaped, file_of, read, read_directory, unpacked, write
from tests.fuzz.targets import TARGETS
from tests.fuzz.words import words

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".fuzz"
INPUT_LIMIT = 4096  # bytes
TIME_LIMIT = 10  # seconds for one input; one that takes longer counts as a crash
MEMORY_LIMIT = 1024  # MiB, likewise


def fuzz(name: str, seconds: float, scratch: Path, corpus: Path) -> tuple[int, str, list[bytes]]:
    """One target's exit status, what the fuzzer said, and the inputs that crashed it, which are kept."""
    (scratch / name).mkdir(parents=True, exist_ok=True)
    kept = file_of(name, corpus)
    with (
        unpacked(kept) as directory,
        tempfile.TemporaryDirectory(prefix="sockd-crashes-") as crashes,
        tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary,
    ):
        dictionary.writelines(f'"{_quoted(word)}"\n' for word in words(name))
        dictionary.flush()
        status, output = _libfuzzer(
            name,
            f"-max_total_time={max(1, round(seconds))}",
            f"-max_len={INPUT_LIMIT}",
            f"-timeout={TIME_LIMIT}",
            f"-rss_limit_mb={MEMORY_LIMIT}",
            f"-artifact_prefix={crashes}/",
            f"-dict={dictionary.name}",
            str(scratch / name),
            str(directory),
        )
        crashed = read_directory(Path(crashes))
    if crashed:
        write(kept, [*read(kept), *crashed])
    return status, output, crashed


def keep(name: str, scratch: Path, corpus: Path) -> None:
    """Keep also those inputs of the scratch directory that reach more than the kept ones do."""
    kept = file_of(name, corpus)
    with unpacked(kept) as directory:
        status, output = _libfuzzer(name, "-merge=1", str(directory), str(scratch / name))
        if status:
            sys.exit(f"{name}: the inputs can't be merged\n{output}")
        write(kept, read_directory(directory))


def _libfuzzer(*arguments: str) -> tuple[int, str]:
    # Coverage and the fuzzer both trace what runs; together they are slow, so only the fuzzer does.
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


def _quoted(word: bytes) -> str:
    """A word of a dictionary, as libFuzzer reads it between quotes."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def report(name: str, status: int, output: str, kept: Path, crashed: list[bytes]) -> str:
    """One line about a target that passed, or everything that was said about one that crashed."""
    if status:
        said = output[max(0, output.find("=== Uncaught")) :]
        file = kept.relative_to(ROOT) if kept.is_relative_to(ROOT) else kept
        inputs = [f"{name}: the input is kept in {file}: {escaped(data)}" for data in crashed]
        return "\n".join([f"{name}: CRASHED", said, *inputs])
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
        parser.exit(1, "fuzzing needs atheris, which exists only for Linux on x86-64\n")
    failed = 0
    for name in chosen:
        seconds = arguments.seconds / len(chosen)
        status, output, crashed = fuzz(name, seconds, arguments.scratch, arguments.corpus)
        kept = file_of(name, arguments.corpus)
        sys.stdout.write(report(name, status, output, kept, crashed) + "\n")
        sys.stdout.flush()
        failed |= bool(status)
        if arguments.keep and not status:
            keep(name, arguments.scratch, arguments.corpus)
    return failed


if __name__ == "__main__":
    sys.exit(main())
