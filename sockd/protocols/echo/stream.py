"""echo on connections. Memory and half-close are the transport's: it stops reading from who doesn't read."""

from typing import Any

from twisted.internet.protocol import Factory, Protocol


class Echo(Protocol):
    """The same bytes back."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.transport.write(data)


class PrefixedEcho(Protocol):
    """The same bytes back, a prefix before each line, whatever its length."""

    transport: Any

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._at_start = True

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        first = self._prefix if self._at_start else b""
        self._at_start = data.endswith(b"\n")
        # The newline at the end gets its prefix when something follows it.
        lines = data[:-1].replace(b"\n", b"\n" + self._prefix)
        self.transport.write(first + lines + data[-1:])


class EchoFactory(Factory):
    """Makes an Echo for each connection."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def buildProtocol(self, addr: Any) -> Protocol:  # noqa: N802, ARG002
        return PrefixedEcho(self._prefix) if self._prefix else Echo()
