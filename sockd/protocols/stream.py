"""Twisted's Protocol with a transport whose type is known: the base of protocols that serve connections."""

from twisted.internet.protocol import Protocol

from sockd.protocols.contract import StreamTransport


class StreamProtocol(Protocol):
    """Twisted's Protocol; all that it adds is the type of `transport`.

    Twisted declares its transports as interfaces of zope, from which mypy learns nothing. Any other Twisted
    protocol serves as well.
    """

    transport: StreamTransport  # type: ignore[assignment]
