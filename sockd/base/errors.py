"""The errors of sockd's own side: what a peer does wrong is counted, not raised."""

import errno
from dataclasses import dataclass, replace

# Why nothing can be opened or read for now: no descriptors or memory, of the process or of the system.
LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class SockdError(Exception):
    """An error that an administrator can act on: its text is one line that says how.

    An error that has `problems` has a line for each of them.
    """

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print of it; a newline within one of these came from elsewhere, and forges no other."""
        return tuple(map(str, getattr(self, "problems", ()))) or (str(self),)


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """A place in a file, in the form that editors jump to.

    Lines and columns count from 1; line 0 stands for the whole file.
    """

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration file.

    `path` is the path of keys to it, such as `endpoints.echo.listen[0]`, or empty; `text` says what is wrong.
    """

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return f"{self.place}: {path}{self.text}"

    def without_severity(self) -> "Problem":
        """The same without the `warning: ` before its text, for a log, whose lines have a level."""
        return replace(self, text=self.text.removeprefix("warning: "))


class FileWrongError(SockdError):
    """The configuration file can't be used; `problems` are all that were found, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ProtocolUnavailableError(SockdError):
    """A protocol isn't installed, or its distribution fails to load."""


class SystemLacksError(SockdError):
    """The system refuses what nothing is wrong with, such as memory or a descriptor: later it may work."""
