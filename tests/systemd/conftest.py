"""Fixtures of the tests under a booted systemd: one machine for all of them, a clean service for each."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd.harness import CannotBootError, Machine
from tests.systemd.service import Service, install_protocol, install_units

# Runs the Python that it is sent, in the daemon's process, and answers with the outcome: what a flaw in a
# protocol would give to an attacker.
ATTEMPT = """
import json
from twisted.internet.protocol import Factory, Protocol
from sockd.protocols.contract import Specification

class Attempt(Protocol):
    received = b""
    def dataReceived(self, data):
        self.received += data
        if not self.received.endswith(b"\\n#end\\n"):
            return
        names = {}
        try:
            exec(self.received, names)
            outcome = {"result": names.get("result")}
        except BaseException as error:
            outcome = {"error": type(error).__name__, "text": str(error)}
        self.transport.write(json.dumps(outcome).encode())
        self.transport.loseConnection()

specification = Specification("for tests", stream=lambda host: Factory.forProtocol(Attempt))
"""


def coverage_data() -> Path | None:
    """Where `make pytest` gathers what is measured, if every user may write there."""
    file = os.environ.get("COVERAGE_FILE")
    measured = "COVERAGE_PROCESS_START" in os.environ or "COVERAGE_PROCESS_CONFIG" in os.environ
    if not file or not measured:
        return None
    directory = Path(file).absolute().parent
    return directory if directory.stat().st_mode & stat.S_IWOTH else None


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A booted systemd with sockd and its units installed."""
    try:
        booted = Machine(coverage_data())
    except CannotBootError as error:
        if os.environ.get("CI") == "true" and os.getuid() == 0:
            pytest.fail(f"no systemd can be booted, in CI: {error}")
        pytest.skip(f"no systemd can be booted: {error}")
    try:
        install_units(booted)
        install_protocol(booted, "attempt", ATTEMPT)
        yield booted
    finally:
        booted.close()


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """sockd.service, which nobody has started yet."""
    one = Service(machine)
    yield one
    one.close()


@pytest.fixture
def instance(machine: Machine) -> Iterator[Callable[[str], Service]]:
    """Makes sockd@NAME.service for a name."""
    made: list[Service] = []

    def make(name: str) -> Service:
        made.append(Service(machine, f"sockd-{name}"))
        return made[-1]

    yield make
    for one in made:
        one.close()
