"""What holds for every test: a clean reactor afterwards, signals, and how long Hypothesis may search."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from twisted.internet import reactor as installed
from twisted.internet.task import deferLater

from tests.daemons import Daemons
from tests.reactors import internal_readers
from tests.tree.house import House

settings.register_profile(
    "sockd",
    deadline=None,  # a busy machine is not a failure
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sockd")

# A shell without job control starts background programs with these ignored, and what they start inherits it:
# no program that a test starts could be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

TURNS = 20  # of the reactor, in which closed sockets leave it

reactor: Any = installed


def _in_use() -> set[object]:
    watched = {*reactor.getDelayedCalls(), *reactor.getReaders(), *reactor.getWriters()}
    return watched - internal_readers(reactor)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """pytest-twisted wraps a Hypothesis test anew for each of its parameters, within the last: unwrap it."""
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    inner = getattr(hypothesis, "inner_test", None)
    try:
        return (yield)
    finally:
        if hypothesis is not None:
            hypothesis.inner_test = inner


@pytest.fixture(autouse=True)
def clean_reactor(twisted_greenlet: object) -> Iterator[None]:
    """Fails a test that leaves delayed calls or open sockets in the reactor."""
    before = _in_use()
    yield
    for _ in range(TURNS):
        left = _in_use() - before
        if not left:
            return
        pytest_twisted.blockon(deferLater(reactor, 0))
    left = _in_use() - before
    for one in left:
        if one in reactor.getDelayedCalls():
            one.cancel()  # type: ignore[attr-defined]
        else:
            reactor.removeReader(one)
            reactor.removeWriter(one)
    if left:
        pytest.fail("left in the reactor: " + "\n".join(map(str, left)))


@pytest.fixture
def run() -> Iterator[Daemons]:
    """Starts daemons on a loop of their own; they are stopped in the end."""
    with Daemons() as daemons:
        yield daemons


@pytest.fixture
def gone_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has been removed."""
    here = tmp_path / "gone"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()


@pytest.fixture
def house(run: Daemons) -> House:
    """Where these daemons are."""
    return run.house
