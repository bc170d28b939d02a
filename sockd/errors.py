"""What can go wrong on our side; what a peer does wrong is counted, not raised."""

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
