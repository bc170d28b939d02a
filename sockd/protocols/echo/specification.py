"""What echo is to sockd: its options, the factories of its parts, its default limits."""

from ipaddress import ip_network

from pydantic import Field

from sockd.base.units import Rate
from sockd.config.types import Networks, Text
from sockd.protocols.contract import DatagramProtocol, Host, Options, Specification, StreamFactory

# This machine and private networks (RFC 1918, RFC 4193, RFC 3927, RFC 4291).
_PRIVATE = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
            "::1/128", "fc00::/7", "fe80::/10")  # fmt: skip
PRIVATE_NETWORKS = tuple(ip_network(network) for network in _PRIVATE)


class EchoOptions(Options):
    """The options of an echo endpoint."""

    prefix: Text = Field(
        default="",
        max_length=64,
        description="Written before each line and each Unix datagram that goes back; empty: bytes unchanged. "
        "Datagrams over UDP go back without it, as their source may be forged.",
    )
    answer: Networks = Field(
        default=PRIVATE_NETWORKS,
        description="Networks whose datagrams are answered. Sources can be forged: a public network makes "
        "sockd a reflector. Connections are not affected.",
    )


def _stream(host: Host[EchoOptions]) -> StreamFactory:
    from sockd.protocols.echo.echo import EchoFactory  # noqa: PLC0415

    return EchoFactory(host.options.prefix.encode())


def _datagram(host: Host[EchoOptions]) -> DatagramProtocol:
    from sockd.limits.reflection import Reflection  # noqa: PLC0415
    from sockd.protocols.echo.echo import EchoDatagrams  # noqa: PLC0415

    reflection = Reflection(host.options.answer, host.udp_ports)
    return EchoDatagrams(host.options.prefix.encode(), reflection)


specification = Specification(
    summary="the same bytes back (RFC 862), or lines with a prefix",
    options=EchoOptions,
    stream=_stream,
    datagram=_datagram,
    idle=30.0,
    # Two services on different high ports can be set against each other by forged datagrams, and look like
    # clients to each other: this bounds them.
    datagrams=Rate(20_000, 1.0),
    datagrams_per_source=Rate(5_000, 1.0),
)
