"""What factory is to sockd: its options, and what calls the callables that they name."""

from sockd.protocols.contract import DatagramProtocol, Host, Service, Specification, StreamFactory
from sockd.protocols.factory.options import FactoryOptions


def _service(_host: Host[FactoryOptions]) -> Service:
    from sockd.protocols.factory.made import Hosting  # noqa: PLC0415

    return Hosting()


def _stream(host: Host[FactoryOptions]) -> StreamFactory:
    from sockd.protocols.factory.made import stream  # noqa: PLC0415

    return stream(host)


def _datagram(host: Host[FactoryOptions]) -> DatagramProtocol:
    from sockd.protocols.factory.made import datagram  # noqa: PLC0415

    return datagram(host)


specification = Specification(
    summary="what others wrote for Twisted, by the name of a factory",
    options=FactoryOptions,
    service=_service,
    stream=_stream,
    datagram=_datagram,
    starts_tls=True,
)
