"""What can go wrong on our side; what a peer does wrong is counted, not raised."""

from collections.abc import Iterable
from dataclasses import dataclass


class SockdError(Exception):
    """Ours: its text is one line that an administrator can act on."""


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """A place in a file, as editors jump to it: line and column count from 1; line 0 is the whole file."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One thing that is wrong in the file: where, at which path of keys (may be empty), and what."""

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return f"{self.place}: {path}{self.text}"


class FileWrongError(SockdError):
    """The file can't be used; every problem found in it, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ProtocolUnavailableError(SockdError):
    """A protocol that is not installed, or whose distribution fails to load."""


_LONGEST = 64  # comparing takes quadratic time, and nobody mistypes so long a word


def offer(word: str, known: Iterable[str]) -> str:
    """What to put behind a message about an unknown word: `, did you mean 'listen'?`, or what there is."""
    import difflib  # noqa: PLC0415 - most files have no mistake

    words = sorted(known)
    near = difflib.get_close_matches(word[:_LONGEST].lower(), words, n=1)
    if near:
        return f", did you mean '{near[0]}'?"
    if not words[1:]:
        return f": there is {words[0]}" if words else ": there are none here"
    return f": there are {', '.join(words[:-1])} and {words[-1]}"
