"""Echo as Twisted's users write it, on the reactor that Twisted chooses.

python echo_twisted.py ADDRESS
"""

import resource
import sys
from typing import Any

from twisted.internet import reactor as chosen  # noqa: TID251
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

reactor: Any = chosen


class Stream(Protocol):
    """Reads no more while the other side doesn't."""

    transport: Any

    def connectionMade(self) -> None:  # noqa: N802
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.transport.write(data)


class Datagram(DatagramProtocol):
    transport: Any

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:  # noqa: N802
        self.transport.write(datagram, addr)


def main() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind, _, where = sys.argv[1].partition(":")
    factory = Factory.forProtocol(Stream)
    factory.noisy = False
    match kind:
        case "udp":
            reactor.listenUDP(int(where), Datagram(), "127.0.0.1")
        case "unix":
            reactor.listenUNIX(where, factory, backlog=1024)
        case _:
            reactor.listenTCP(int(where), factory, backlog=1024, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
