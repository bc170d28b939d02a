"""No signal is lost while programs change, none ends the process."""

import signal
import threading
from collections.abc import Iterator

import pytest

from sockd.upgrade.signals import Signals, resume_signals


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What a handler of SIGUSR2 was called with."""
    calls: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGUSR2, before)


def _blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_what_comes_meanwhile_is_heard_afterwards(heard: list[int]) -> None:
    """By the program that goes on, with the mask it had."""
    before = _blocked()
    signals = Signals()
    signals.hold()
    signals.hold()
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)  # another thread would be the next test
    assert heard == []
    assert signal.SIGUSR2 in _blocked()
    signals.release()
    assert heard == [signal.SIGUSR2]
    assert _blocked() == before
    signals.release()


def test_a_signal_that_another_thread_got_waits_as_well(heard: list[int]) -> None:
    """A thread of a sink's, or of a third party's, doesn't know that programs change."""
    let_go = threading.Event()
    thread = threading.Thread(target=let_go.wait)
    thread.start()
    signals = Signals()
    signals.hold()
    assert thread.ident is not None
    signal.pthread_kill(thread.ident, signal.SIGUSR2)
    while signal.SIGUSR2 not in signal.sigpending():
        signals.settle()  # the other thread may not have got it yet
    assert heard == []
    signals.release()
    assert heard == [signal.SIGUSR2]
    let_go.set()
    thread.join()


def test_what_nobody_handles_does_what_it_always_does() -> None:
    """systemd's SIGABRT ends a program that hangs before it has any handler."""
    signals = Signals()
    signals.hold()
    assert not {signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV} & _blocked()
    signals.release()


def test_the_new_program_hears_it(heard: list[int]) -> None:
    """As soon as it has its handlers; those of the old program are gone with it."""
    handler = signal.getsignal(signal.SIGUSR2)
    signals = Signals()
    signals.hold()
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, handler)
    resume_signals()
    assert heard == [signal.SIGUSR2]
    signals.release()
