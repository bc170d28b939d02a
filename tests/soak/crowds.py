"""Visitors and residents, processes of their own, which stay as long as a soak takes."""

import sys

from tests.end_to_end import load, residents
from tests.end_to_end.harness import ROOT
from tests.end_to_end.programs import Process
from tests.end_to_end.traffic import Residents, Visitors

COUNT = 40  # residents


class SoakVisitors(Visitors):
    def __init__(self, urls: list[str], seconds: float) -> None:
        arguments = ("--watch-input", "--seconds", str(seconds * 10 + 600), "--workers", "2")
        Process.__init__(self, [sys.executable, "-m", load.__name__, *arguments, *urls], cwd=ROOT)


class SoakResidents(Residents):
    def __init__(self, echo: list[str], chat: list[str], seconds: float) -> None:
        urls = [*(f"--echo={url}" for url in echo), *(f"--chat={url}" for url in chat)]
        arguments = ("--watch-input", "--seconds", str(seconds * 10 + 600), "--residents", str(COUNT))
        Process.__init__(self, [sys.executable, "-m", residents.__name__, *arguments, *urls], cwd=ROOT)
        self.expect(r'"ready"')


def so_far(client: Visitors | Residents | None, key: str) -> int:
    """How far a client said it was."""
    if client is None:
        return 0
    for line in reversed(client.lines(client.output[-1000:])):
        if key in line:
            return int(line[key])
    return 0
