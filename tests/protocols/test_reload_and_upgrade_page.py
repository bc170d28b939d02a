"""docs/writing-a-protocol.md: the example of its last sections keeps what they promise."""

import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import StringTransport
from twisted.logger import Logger

from sockd.protocols.contract import Host, Specification
from tests.protocols.reactors import ClockReactor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "writing-a-protocol.md"


class Program:
    """One program that runs the example."""

    def __init__(self, **options: Any) -> None:
        (text,) = re.findall(
            r"^```python\n(.*?)^```$", PAGE.read_text().partition("## Upgrade")[2], re.MULTILINE | re.DOTALL
        )
        names: dict[str, Any] = {}
        exec(compile(text, str(PAGE), "exec"), names)
        specification: Specification = names["specification"]
        self.host: Host[Any] = Host(
            "counter", specification.options(**options), ClockReactor(), Logger(), lambda _error: None
        )
        assert specification.service
        assert specification.stream
        self.service: Any = specification.service(self.host)
        self.host.service = self.service
        self.factory = specification.stream(self.host)


@pytest.fixture(name="transport")
def _transport() -> StringTransport:
    return StringTransport()


def test_the_example_survives(transport: StringTransport) -> None:
    """A client sees one series of numbers, though the program is replaced in the middle of a line."""
    old, new = Program(), Program()
    before = old.factory.buildProtocol(None)
    before.makeConnection(transport)
    before.dataReceived(b"one\ntw")
    state, rest = old.service.freeze(), before.freeze()
    assert (old.service.freeze(), before.freeze()) == (state, rest)
    new.service.thaw(state)
    after = new.factory.buildProtocol(None)
    after.transport, after.connected = transport, 1
    after.thaw(rest)
    after.dataReceived(b"o\nthree\n")
    assert transport.value() == b"1 one\n2 two\n3 three\n"
    after.dataReceived(b"x" * 1001)
    assert transport.disconnecting


def test_the_example_reloads(transport: StringTransport) -> None:
    """New options hold immediately, and so do the old ones again."""
    one = Program()
    protocol = one.factory.buildProtocol(None)
    protocol.makeConnection(transport)
    for options in (one.host.options, type(one.host.options)(first=100), one.host.options):
        one.service.reload(options)
        protocol.dataReceived(b"line\n")
    assert transport.value() == b"1 line\n101 line\n3 line\n"
