"""A clock that stands in for the reactor which a host offers."""

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock


class ClockReactor(Clock):
    """Calls from threads come at the clock's next step; nothing is ever read or written."""

    def callFromThread(self, call: Callable[..., Any], /, *args: Any, **kw: Any) -> None:
        self.callLater(0, call, *args, **kw)

    def addReader(self, _descriptor: object) -> None:
        """Watch nothing."""

    removeReader = addWriter = removeWriter = addReader  # noqa: N815
