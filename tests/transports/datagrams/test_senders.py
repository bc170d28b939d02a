"""Who sent a datagram, of what the kernel told."""

import socket
import struct
from ipaddress import ip_network
from typing import Any

import pytest

from sockd.base.peers import Ancillary, Peer
from sockd.limits.access import Access
from sockd.plan.plan import AccessPlan
from sockd.transports.datagrams.senders import PEERS_KEPT, Broadcasts, Senders, peer_of

HERE = ("127.0.0.1", 7007)
V6 = ("2001:db8::9", 4000, 0, 0)


def ignore(_peer: Peer) -> None:
    """It is entered into no accounts."""


def told(level: int, kind: int, data: bytes) -> Peer:
    """The Peer that comes of this ancillary data."""
    return peer_of(V6, ((0, 0, b"unknown"), (level, kind, data)), local=False, broadcasts=Broadcasts())


@pytest.mark.parametrize(("asked", "interface"), [("2001:db8::1", 0), ("fe80::1", 3), ("::ffff:10.0.0.1", 0)])
def test_interface_of_a_reply(asked: str, interface: int) -> None:
    """Only a link-local address needs its interface to be told."""
    info = socket.inet_pton(socket.AF_INET6, asked) + struct.pack("i", 3)
    peer = told(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)
    assert peer.sockaddr == V6
    assert peer.control == (
        (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info[:16] + struct.pack("i", interface)),
    )


@pytest.mark.parametrize("asked", ["ff02::1", "ff0e::1", "::ffff:224.0.0.1", "::ffff:255.255.255.255"])
def test_ipv6_multicast_is_not_answered(asked: str) -> None:
    """Nor is IPv4's, seen through a socket for both."""
    info = socket.inet_pton(socket.AF_INET6, asked) + bytes(4)
    peer = told(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)
    assert peer.sockaddr is None
    assert peer.text == "[2001:db8::9]:4000"


def test_unknown_ancillary_data_is_ignored() -> None:
    """What we didn't ask for changes nothing."""
    assert told(0, 0, b"") == Peer.inet(V6)


def test_unknown_unix_sender() -> None:
    """Without credentials, which the kernel always gives, a sender is nobody known."""
    assert peer_of(None, (), local=True, broadcasts=Broadcasts()).text == "uid=?,pid=?"


class Told:
    """The kernel, of senders that are told apart by the number of their port."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, key: Any) -> tuple[Any, Ancillary]:
        self.asked.append(key)
        return ("192.0.2.1", key), ()


def test_senders_are_found_again() -> None:
    """Each is met once, also among others who are new, and is the same object again."""
    kernel = Told()
    entered: list[Peer] = []
    senders = Senders(kernel, entered.append, HERE, local=False)
    first = senders.of([5, 6, 5])
    again = senders.of([6, 7, 5])
    assert [peer.port for peer in first + again] == [5, 6, 5, 6, 7, 5]
    assert kernel.asked == [5, 6, 7]
    assert first[0] is first[2] is again[2]


def test_senders_are_remembered_within_bounds() -> None:
    """A million senders take no more memory than a thousand."""
    senders = Senders(Told(), ignore, HERE, local=False)
    assert [peer.port for peer in senders.of(range(PEERS_KEPT + 10))] == list(range(PEERS_KEPT + 10))
    assert len(senders) == 10


def test_refusals() -> None:
    """Each gets its own verdict, in order, until the rules are others; they are bounded in number too."""
    senders = Senders(Told(), ignore, HERE, local=False)
    friend, foe = Peer.inet(("192.0.2.1", 1)), Peer.inet(("198.51.100.1", 1))
    assert senders.refusals([friend, foe]) == [None, None]
    senders.admit(Access(AccessPlan((), (ip_network("198.51.100.0/24"),), frozenset(), frozenset())))
    assert senders.refusals([foe, friend, foe]) == ["access", None, "access"]
    for port in range(PEERS_KEPT + 10):
        assert senders.refusal(Peer.inet(("198.51.100.1", port))) == "access"
    assert 0 < senders.verdicts_kept <= PEERS_KEPT
    senders.admit(None)
    assert senders.refusal(foe) is None
