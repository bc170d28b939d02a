"""The transports of sockd's own are what the contract promises to protocols."""

import pytest
from twisted.internet.interfaces import IConsumer, ITCPTransport
from zope.interface.verify import verifyClass

from sockd.protocols.contract import StreamTransport
from sockd.transports.connection import Connection
from sockd.transports.tls import TlsConnection


def promised(transport: StreamTransport) -> StreamTransport:
    """For mypy: what is passed satisfies the contract."""
    return transport


def as_promised(plain: Connection, secure: TlsConnection) -> tuple[StreamTransport, StreamTransport]:
    """Never called: it fails when mypy looks at it and a connection lacks what is promised."""
    return promised(plain), promised(secure)


def test_twisteds_interfaces() -> None:
    """A connection has every method of Twisted's, with the arguments that Twisted's callers pass."""
    for interface in (ITCPTransport, IConsumer):
        for transport in (Connection, TlsConnection):
            assert verifyClass(interface, transport)


def test_every_promise_is_kept() -> None:
    """Each name of the contract is one of a connection."""
    promises = {name for name in vars(StreamTransport) if not name.startswith("_")}
    assert promises <= set(dir(Connection))


# What sockd asks a connection's protocol for, if it has it.
ASKED = {"drain", "freeze", "last_word", "only_receives", "reload", "thaw"}


@pytest.mark.parametrize("transport", [Connection, TlsConnection])
def test_no_transport_answers_for_its_protocol(transport: type) -> None:
    """A wrapper of Twisted's shows what its transport has as if it were its own."""
    assert not ASKED & set(dir(transport))
