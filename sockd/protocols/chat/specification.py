"""What chat is to sockd: its options, and how its parts are made. Imports nothing of Twisted's network."""

from typing import Any

from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.contract import DatagramProtocol, Host, Service, Specification


def _stream(host: Host[ChatOptions]) -> Any:
    from sockd.protocols.chat.stream import factory  # noqa: PLC0415

    return factory(host)


def _datagram(host: Host[ChatOptions]) -> DatagramProtocol:
    from sockd.protocols.chat.datagram import Door  # noqa: PLC0415

    return Door(host)


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
)
