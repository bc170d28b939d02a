"""What is raised where nobody can catch it: one line for it, and a bounded number of lines."""

import gc
import sys
from typing import Any

import pytest

from sockd.tree.unraisable import Unraisable
from tests.transports.loop import Loop
from tests.tree.house import Events


class Clinging:
    """Raises when it is forgotten."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error("a bug in __del__")


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_bug_in_a_destructor(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged with its place; a thousand of them are a line and a sum."""
    loop, log = Loop(), Events()
    hook = Unraisable(loop, log.log)
    monkeypatch.setattr(sys, "unraisablehook", hook.note)
    for _ in range(1000):
        Clinging(error)
    gc.collect()
    loop.pump([0.0, 1.0, 0.0])
    first, rest = log.messages()
    assert first.startswith(
        f"Clinging.__del__ raised where nobody can catch it: {error.__name__}: a bug in __del__ ("
    )
    assert rest == "within a second also raised: 999 x Clinging.__del__"
