"""TCP and UDP sockets: families, options that hold before anybody connects, refusals in plain words."""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from sockd.base.addresses import Address, Kind, parse
from sockd.transports.sockets.inet import IP_PKTINFO, OpenError, explain, open_inet
from sockd.transports.sockets.options import Keepalive, SocketOptions

PLAIN = SocketOptions()


def refusing(error: int, *families: int) -> Callable[..., socket.socket]:
    """socket.socket on a machine that has not these families."""
    make = socket.socket

    def refuse(family: int, *args: Any) -> socket.socket:
        if family in families:
            raise OSError(error, "not on this machine")
        return make(family, *args)

    return refuse


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_tcp_listens(text: str) -> None:
    """A TCP socket is open, non-blocking and listening on exactly its address."""
    address = parse(text)
    with open_inet(address, PLAIN) as sock:
        host, port = sock.getsockname()[:2]
        assert host == address.host
        assert port
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        socket.create_connection((host, port)).close()


def test_a_wildcard_takes_both_families() -> None:
    """`*` is one port for IPv4 and IPv6, `[::]` for IPv6 alone, `0.0.0.0` for IPv4 alone."""
    for text, hosts in (
        ("tcp://*:0", ("127.0.0.1", "::1")),
        ("tcp://[::]:0", ("::1",)),
        ("tcp://0.0.0.0:0", ("127.0.0.1",)),
    ):
        with open_inet(parse(text), PLAIN) as sock:
            port = sock.getsockname()[1]
            for host in ("127.0.0.1", "::1"):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                with socket.socket(family) as client:
                    reached = client.connect_ex((host, port)) == 0
                assert reached == (host in hosts), (text, host)


@pytest.mark.parametrize("error", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize("kind", [Kind.TCP, Kind.UDP])
def test_wildcard_without_ipv6(kind: Kind, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without IPv6 `*` is IPv4 alone."""
    monkeypatch.setattr(socket, "socket", refusing(error, socket.AF_INET6))
    with open_inet(Address(kind, "*"), PLAIN) as sock:
        assert sock.family == socket.AF_INET


def test_wildcard_with_another_trouble() -> None:
    """A port that is taken is no sign of a machine without IPv6."""
    with open_inet(parse("tcp://*:0"), PLAIN) as taken:
        address = Address(Kind.TCP, "*", taken.getsockname()[1])
        with pytest.raises(OpenError, match=r"^the address is in use by another program$"):
            open_inet(address, PLAIN)


def test_no_descriptor_is_an_open_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When not even a socket can be had, that is one line too."""
    monkeypatch.setattr(socket, "socket", refusing(errno.EMFILE, socket.AF_INET, socket.AF_INET6))
    for text in ("tcp://127.0.0.1:0", "udp://*:0"):
        with pytest.raises(OpenError, match="not on this machine"):
            open_inet(parse(text), PLAIN)


def test_options_are_inherited_by_connections() -> None:
    """Keepalive's three values, nodelay and the receive buffer hold on what is accepted."""
    options = SocketOptions(keepalive=Keepalive(71, 11, 3), nodelay=True, receive_buffer=65536, backlog=7)
    with open_inet(parse("tcp://127.0.0.1:0"), options) as sock:
        client = socket.create_connection(sock.getsockname())
        accepted, _ = sock.accept()
        with closing(client), closing(accepted):
            values = {
                name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_NODELAY")
            }
            keepalive = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            buffer = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert values == {"TCP_KEEPIDLE": 71, "TCP_KEEPINTVL": 11, "TCP_KEEPCNT": 3, "TCP_NODELAY": 1}
    assert keepalive == 1
    assert buffer == 2 * 65536  # the kernel doubles it (socket(7))


def test_options_off() -> None:
    """Without keepalive and nodelay neither is set."""
    with open_inet(parse("tcp://127.0.0.1:0"), SocketOptions(nodelay=False)) as sock:
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


@pytest.mark.parametrize("kind", [Kind.TCP, Kind.UDP])
def test_reuse_port(kind: Kind) -> None:
    """Two sockets share a port if both say so, and only then."""
    shared = SocketOptions(reuse_port=True)
    with open_inet(Address(kind, "127.0.0.1"), shared) as one:
        address = Address(kind, "127.0.0.1", one.getsockname()[1])
        open_inet(address, shared).close()
        with pytest.raises(OpenError):
            open_inet(address, PLAIN)


def test_udp_does_not_share_by_accident() -> None:
    """SO_REUSEADDR would let anybody take a UDP port over: it is not set."""
    with open_inet(parse("udp://127.0.0.1:0"), PLAIN) as sock:
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert sock.type == socket.SOCK_DGRAM


def test_wildcard_udp_asks_for_the_destination() -> None:
    """Only sockets with several addresses need to be told which of them was asked."""
    for text, level, option, wanted in (
        ("udp://*:0", socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1),
        ("udp://[::]:0", socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1),
        ("udp://[::1]:0", socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 0),
        ("udp://0.0.0.0:0", socket.IPPROTO_IP, IP_PKTINFO, 1),
        ("udp://127.0.0.1:0", socket.IPPROTO_IP, IP_PKTINFO, 0),
    ):
        with open_inet(parse(text), PLAIN) as sock:
            assert sock.getsockopt(level, option) == wanted, text


def test_address_of_another_machine() -> None:
    """An address that this machine hasn't got is named."""
    with pytest.raises(OpenError, match=r"^this machine has no address 192\.0\.2\.1$"):
        open_inet(parse("tcp://192.0.2.1:0"), PLAIN)


@pytest.mark.parametrize(
    ("error", "port", "words"),
    [
        (errno.EADDRINUSE, 7007, "the address is in use by another program"),
        (errno.EADDRNOTAVAIL, 7007, "this machine has no address 127.0.0.1"),
        (errno.EACCES, 80, "ports below 1024 need root or CAP_NET_BIND_SERVICE"),
        (errno.EACCES, 7007, "Permission denied"),
        (errno.EACCES, 0, "Permission denied"),
        (errno.ENOBUFS, 7007, "No buffer space available"),
    ],
)
def test_reasons_in_words(error: int, port: int, words: str) -> None:
    """Each refusal by the kernel says what to do where there is something to do."""
    why = OSError(error, os.strerror(error))
    assert explain(why, Address(Kind.TCP, "127.0.0.1", port)) == words


def test_reason_without_a_number() -> None:
    """An error that has only a text is told by that."""
    assert explain(OSError("odd"), parse("tcp://127.0.0.1:1")) == "odd"
