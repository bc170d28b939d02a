"""What both ends of the control socket agree on: the version of the language, its bounds, and refusals."""

from typing import Any

from sockd.base.errors import SockdError

# Stands in each line of either side. A change that the other side could misread makes another version; a new
# command, argument or member of an answer doesn't.
VERSION = 1
# Lengths of a line, its newline included.
MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024

# A value that JSON can say. Any: as the json module reads and writes it, which has no narrower type.
Json = Any


class Refused(SockdError):  # noqa: N818 - an outcome of a request, not an error in handling it
    """A request that isn't fulfilled: the exit status of the command that asked, and why, line by line."""

    def __init__(self, status: int, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.status = status
        self.problems = problems


class NotThereError(Refused):
    """Nobody listens at a control socket: the daemon doesn't run, or is elsewhere."""
