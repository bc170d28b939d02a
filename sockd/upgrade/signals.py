"""Signals that arrive during a start or an upgrade, held back until the program has its handlers."""

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType


class Signals:
    """The signals that this program handles, held back until the next one has handlers, or this one goes on.

    The mask of blocked signals survives exec, handlers don't. The kernel may deliver a signal to another
    thread, which doesn't block it: then it is sent once more, to the main thread.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._mask: set[int | signal.Signals] = set()

    def hold(self) -> None:
        """Begin, in the main thread. What handlers have asked for may still wait for a turn."""
        if not self._handlers:
            handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
            self._handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)
            for number in self._handlers:
                signal.signal(number, _send_once_more)

    def settle(self) -> None:
        """Right before exec: send once more what another thread got; Python itself might be too late."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def release(self) -> None:
        """This program goes on: its handlers are back, and get the signals that came."""
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if handlers:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _send_once_more(number: int, _frame: FrameType | None) -> None:
    signal.pthread_kill(threading.get_ident(), number)  # Python's handlers run in the main thread


def hold_signals() -> None:
    """A start begins: hold back what would end a program that has no handlers yet, but isn't meant to.

    logrotate doesn't know whether sockd has just been started. SIGTERM and SIGINT end it at any time.
    """
    with suppress(OSError):  # of a sandbox
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))


def resume_signals() -> None:
    """The program has installed its handlers: let it have the signals that were held."""
    with suppress(OSError):  # of a sandbox, in which none can have been held
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
