"""What systemd hears over a daemon's life: as long as it takes, and READY only when it is true."""

import pytest
from twisted.internet.task import Clock

from sockd.systemd.reports import EXTENSION, STATUS_INTERVAL, Reports
from tests.daemons import Systemd


class Daemon:
    """What is reported of, with words of the test's."""

    def __init__(self, *, there: bool = True) -> None:
        self.clock = Clock()
        self.systemd = Systemd(self.clock, there=there)
        self.words = "nothing yet"
        self.reports = Reports(self.systemd, self.clock, lambda: self.words)


@pytest.fixture
def daemon() -> Daemon:
    daemon = Daemon()
    daemon.reports.start()
    return daemon


def test_starting(daemon: Daemon) -> None:
    """Until it serves, systemd is asked to wait, and gets the status."""
    assert daemon.systemd.heard == [
        (f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}",),
        ("STATUS=nothing yet",),
    ]
    daemon.systemd.words()
    daemon.clock.advance(STATUS_INTERVAL)
    assert daemon.systemd.words() == ["EXTEND_TIMEOUT_USEC"]
    daemon.words = "a little"
    daemon.clock.advance(STATUS_INTERVAL)
    assert daemon.systemd.words() == ["EXTEND_TIMEOUT_USEC", "STATUS"]
    assert EXTENSION > 3 * STATUS_INTERVAL


def test_serving(daemon: Daemon) -> None:
    """The status follows; nothing is extended any more."""
    daemon.systemd.words()
    daemon.reports.ready()
    assert daemon.systemd.heard == [("READY=1", "STATUS=nothing yet")]
    daemon.clock.advance(STATUS_INTERVAL)
    assert len(daemon.systemd.heard) == 1
    daemon.words = "one connection"
    daemon.clock.advance(STATUS_INTERVAL)
    assert daemon.systemd.heard[1:] == [("STATUS=one connection",)]


def test_reloading(daemon: Daemon) -> None:
    """RELOADING, with the time that systemd wants to know, then READY, whatever came of it."""
    daemon.reports.ready()
    daemon.systemd.words()
    daemon.reports.reloading()
    ((first, second),) = daemon.systemd.heard
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    daemon.reports.went_on()
    assert daemon.systemd.heard[1:] == [("READY=1", "STATUS=nothing yet")]


def test_reloading_while_it_starts(daemon: Daemon) -> None:
    """That doesn't make it ready: what is required may not run yet."""
    daemon.systemd.words()
    daemon.reports.reloading()
    daemon.reports.went_on()
    assert not daemon.systemd.heard
    daemon.clock.advance(STATUS_INTERVAL)
    assert daemon.systemd.words() == ["EXTEND_TIMEOUT_USEC"]


def test_stopping(daemon: Daemon) -> None:
    """It may take any time; a reload that is given up for it doesn't say READY."""
    daemon.reports.ready()
    daemon.reports.reloading()
    daemon.systemd.words()
    daemon.reports.stopping()
    daemon.reports.went_on()
    assert daemon.systemd.heard == [("STOPPING=1", "STATUS=nothing yet")]
    daemon.words = "2 connections"
    daemon.clock.advance(STATUS_INTERVAL)
    assert daemon.systemd.words() == ["STOPPING", "EXTEND_TIMEOUT_USEC", "STATUS"]
    daemon.reports.stop()
    daemon.reports.stop()
    assert not daemon.clock.getDelayedCalls()


def test_nobody_listens() -> None:
    """Without systemd nothing is looked at."""
    daemon = Daemon(there=False)
    daemon.reports.start()
    daemon.reports.ready()
    daemon.reports.stopping()
    daemon.reports.stop()
    assert not daemon.clock.getDelayedCalls()
    assert not daemon.systemd.heard
