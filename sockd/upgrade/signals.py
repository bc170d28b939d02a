"""Signals that come while one program takes another's place: none is lost, and none ends the process."""

import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """Those that this program handles, held back until the next one (or this one again) has its handlers.

    The mask survives exec, handlers don't. The kernel may give a signal to another thread, which doesn't
    block it: then it is sent once more, to this one.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._mask: set[Any] = set()

    def hold(self) -> None:
        """Begin, in the main thread. What handlers did before may still wait for a turn of the reactor."""
        if not self._handlers:
            handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
            self._handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)
            for number in self._handlers:
                signal.signal(number, _send_once_more)

    def settle(self) -> None:
        """Right before exec: send once more what another thread got; Python itself might do so too late."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def release(self) -> None:
        """This program goes on: its handlers are back, and get what came meanwhile."""
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if handlers:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _send_once_more(number: int, _frame: FrameType | None) -> None:
    signal.pthread_kill(threading.get_ident(), number)  # Python's handlers run in the main thread


def resume_signals() -> None:
    """The new program has installed its handlers: let it have what came since the old one held them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
