"""What chat is to sockd: its options, the factories of its parts, its default limits.

It imports nothing of Twisted, so that `sockd check` stays quick.
"""

from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.contract import DatagramProtocol, Host, Service, Specification, StreamFactory


def _stream(host: Host[ChatOptions]) -> StreamFactory:
    from sockd.protocols.chat.stream import ChatFactory  # noqa: PLC0415

    return ChatFactory(host)


def _datagram(host: Host[ChatOptions]) -> DatagramProtocol:
    from sockd.protocols.chat.datagram import ChatDatagrams  # noqa: PLC0415

    return ChatDatagrams(host)


def _service(host: Host[ChatOptions]) -> Service:
    from sockd.protocols.chat.service import ChatService  # noqa: PLC0415

    return ChatService(host)


specification = Specification(
    summary="rooms where everybody hears what the others type",
    options=ChatOptions,
    stream=_stream,
    datagram=_datagram,
    service=_service,
    idle=3600.0,
    answer_beyond=64,  # the challenge to a peer that has proved nothing (`proof`), whatever it sent
)
