"""Why an upgrade doesn't come about."""

from sockd.errors import SockdError


class HandoverError(SockdError):
    """What was to be handed over can't be, or can't be read."""


class UpgradeRefusedError(SockdError):
    """The running program goes on; `problems` are the lines that say why."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
