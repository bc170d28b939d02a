"""What both ends of the control socket agree on: the version of what is spoken there, bounds, refusals."""

from sockd.base.errors import SockdError

# Told by each side in each line. A change that the other side could misread makes it another version; a new
# command, argument or member of an answer doesn't.
VERSION = 1
# Bytes of a line, its newline included.
LONGEST_REQUEST = 64 * 1024
LONGEST_ANSWER = 64 * 1024 * 1024


class Refused(SockdError):  # noqa: N818 - it answers a request as asked for, an error is what it may be about
    """A request that isn't fulfilled: the exit status of the command that asked, and why, line by line."""

    def __init__(self, status: int, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.status = status
        self.problems = problems
