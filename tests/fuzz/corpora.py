r"""Reads and writes the corpora: the inputs that are kept for each target, one a line.

A line is what stands between the quotes of a bytes literal: printable ASCII for itself, `\\` for a backslash,
and `\n`, `\r`, `\t` or `\xHH` for any other byte. A space at the end of a line is `\x20`, as editors drop it
otherwise. An empty line is the empty input. The inputs are in the order of their bytes, each once, so that
diffs are small.

libFuzzer reads and writes directories with a file for each input, so a corpus is unpacked into one for a run.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

CORPUS = Path(__file__).parent / "corpus"


def escaped(data: bytes) -> str:
    """An input as a line of a corpus, without the line's end."""
    line = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    return f"{line[:-1]}\\x20" if line.endswith(" ") else line


def unescaped(line: str) -> bytes:
    """The input that a line of a corpus stands for; ValueError where it is none."""
    return line.encode("ascii").decode("unicode_escape").encode("latin-1")


def file_of(target: str, corpus: Path = CORPUS) -> Path:
    """Where the inputs of a target are kept."""
    return corpus / f"{target}.txt"


def read(file: Path) -> list[bytes]:
    """The inputs of a corpus, in its order; none where there is no file."""
    return [unescaped(line) for line in file.read_text("ascii").split("\n")[:-1]] if file.exists() else []


def write(file: Path, inputs: Iterable[bytes]) -> None:
    """Replace a corpus by these inputs, sorted and each once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{escaped(data)}\n" for data in sorted(set(inputs))), "ascii", newline="\n")


def read_directory(directory: Path) -> list[bytes]:
    """The inputs in a directory of libFuzzer's, a file each."""
    return [file.read_bytes() for file in directory.iterdir()]


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """A temporary directory that has the inputs of a corpus as libFuzzer wants them: a file each."""
    with TemporaryDirectory(prefix="sockd-corpus-") as place:
        for number, data in enumerate(read(file)):
            Path(place, str(number)).write_bytes(data)
        yield Path(place)
