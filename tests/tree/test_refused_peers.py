"""Each refusal on the way to a protocol has its peer and its exact reason in the log, whatever the door."""

import os
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sockd.base.units import Rate
from sockd.plan.plan import AccessPlan
from sockd.transports.datagrams.senders import Broadcasts
from tests.certificates import tls_plan
from tests.tree.house import Datagrams, House, Probes

TCP, TLS, UDP = "tcp://127.0.0.1:0", "tls://127.0.0.1:0", "udp://127.0.0.1:0"
HERE = (ip_network("127.0.0.1"),)
NOBODY = AccessPlan((), (ip_network("127.0.0.0/8"), ip_network("0.0.0.0/0")), frozenset(), frozenset())
FRIENDS = AccessPlan((ip_network("192.0.2.0/24"),), (), frozenset(), frozenset())
HEADER = b"PROXY TCP4 %s 192.0.2.1 4711 80\r\n"


def last(house: House, *parts: str) -> None:
    """The last line of the log has these parts."""
    house.until(
        lambda: all(part in house.log.messages()[-1] for part in parts) if house.log.events else False
    )


@pytest.mark.parametrize("kind", [TCP, TLS])
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"access": NOBODY}, "access (access.deny names 127.0.0.0/8)"),
        ({"access": FRIENDS}, "access (access.allow doesn't name it)"),
        ({"proxy_from": (ip_network("192.0.2.0/24"),)}, "proxy header (proxy_protocol.from doesn't name it)"),
        ({"connections_per_source": 1}, "connections_per_source (127.0.0.1 has 1 connection)"),
        ({"connect_rate": Rate(1, 60.0)}, "connect_rate (more than 1/m from 127.0.0.1)"),
    ],
)
def test_refused_by_the_address(kind: str, how: Any, reason: str, house: House) -> None:
    """Before anything is built for the peer: the line has its address and port."""
    endpoint = house.run(kind, stream=Probes(), tls=tls_plan(), **how)
    address = endpoint.listeners[0].address
    if "from 127" in reason or "has 1" in reason:
        house.connect(address)
        house.until(lambda: len(endpoint.connections))
    client = house.connect(address)
    host, port = client.getsockname()
    last(house, f"lobby: {host}:{port} on {address}: refused: {reason}")


@pytest.mark.parametrize("kind", [TCP, TLS])
@pytest.mark.parametrize(
    ("data", "peer", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "127.0.0.1:", "proxy header: no PROXY header"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + (1000).to_bytes(2) + bytes(1000),
            "127.0.0.1:",
            "proxy header: a header of 1016 bytes, more than 552",
        ),
        (HEADER % b"127.0.0.9", "127.0.0.9:4711", "access: access.deny names 127.0.0.0/8"),
    ],
)
def test_refused_by_its_header(kind: str, data: bytes, peer: str, reason: str, house: House) -> None:
    """The line about its end says what the parser found, or what is wrong with the client it names."""
    endpoint = house.run(kind, stream=Probes(), tls=tls_plan(), proxy_from=HERE, access=NOBODY)
    house.connect(endpoint.listeners[0].address, data)
    last(house, f"lobby: {peer}", f": not allowed ({reason}) after")


@pytest.mark.parametrize("proxied", [False, True])
def test_refused_for_its_time(proxied: bool, house: House) -> None:
    """Of a handshake or a header that doesn't come, and of a first byte: the line says how long it had."""
    more: Any = {"proxy_from": HERE} if proxied else {}
    kind = TCP if proxied else TLS
    endpoint = house.run(kind, TCP, stream=Probes(), tls=tls_plan(), handshake=2.0, first_byte=1.0, **more)
    house.connect(endpoint.listeners[0].address)
    house.until(lambda: len(endpoint.connections))
    house.run_clock(lambda: house.log.named("connection ended"))
    last(house, ": no handshake (handshake: 2s) after")
    if not proxied:
        house.connect(endpoint.listeners[1].address)
        house.until(lambda: len(endpoint.connections))
        house.run_clock(lambda: len(house.log.named("connection ended")) > 1)
        last(house, ": silent from the start (first_byte: 1s) after")


def test_each_has_an_account(house: House) -> None:
    """Under its source, with the reasons, whether something was built for it or not."""
    endpoint = house.run(TCP, stream=Probes(), proxy_from=HERE, access=NOBODY)
    for data in (b"no header", HEADER % b"198.51.100.9", HEADER % b"198.51.100.9"):
        house.connect(endpoint.listeners[0].address, data)
    accounts = endpoint.connections.refusals.accounts
    house.until(lambda: sum(one.refusals for _, one in accounts.items()) == 3)
    house.until(lambda: not len(endpoint.connections))
    assert {source: one.reasons for source, one in accounts.items()} == {
        "127.0.0.1": {"proxy header": 1},
        "198.51.100.9": {"access": 2},
    }


@pytest.mark.parametrize(
    ("kind", "parts"), [("unix", {"stream": Probes()}), ("unixgram", {"datagram": Datagrams()})]
)
def test_users_that_are_refused(kind: str, parts: Any, house: House, tmp_path: Path) -> None:
    """A Unix peer has its uid, its pid and its name."""
    rules = AccessPlan((), (), frozenset({os.getuid() + 1}), frozenset())
    endpoint = house.run(f"{kind}://{tmp_path}/a.sock", access=rules, **parts)
    house.connect(endpoint.listeners[0].address, b"x" if kind == "unixgram" else b"")
    name = " (root)" if os.getuid() == 0 else ""
    last(
        house,
        f"lobby: uid={os.getuid()},pid={os.getpid()}{name} on {kind}://",
        ": refused: access (access.users doesn't name it)",
    )


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"access": NOBODY}, "access (access.deny names 127.0.0.0/8)"),
        ({"datagrams_per_source": Rate(1, 60.0)}, "datagrams_per_source (more than 1/m from 127.0.0.1)"),
        ({"datagrams": Rate(1, 60.0)}, "datagrams (more than 1/m from all sources together)"),
    ],
)
def test_datagrams_that_are_refused(how: Any, reason: str, house: House) -> None:
    """One, or several that came together: a line for their sender."""
    endpoint = house.run(UDP, datagram=Datagrams(), **how)
    address = endpoint.listeners[0].address
    client = house.connect(address, b"x")
    for _ in range(3):
        client.send(b"x")
    host, port = client.getsockname()
    house.until(lambda: sum(endpoint.listeners[0].counters.refused.values()) == 4 - ("access" not in reason))
    line = house.log.messages()[-1]
    assert line.startswith(f"lobby: {host}:{port} on {address}: refused: ")
    assert line.endswith(reason)


def test_a_broadcast_has_no_return_address(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one to a socket for both families, where the kernel says only which address was asked."""
    assert Broadcasts().has("127.255.255.255")
    assert not Broadcasts().has("127.0.0.1")
    assert Broadcasts().has("255.255.255.255")
    assert Broadcasts().has("224.0.0.1")
    monkeypatch.setattr("sockd.transports.datagrams.senders.is_broadcast", lambda host: host == "127.0.0.1")
    protocol = Datagrams()
    endpoint = house.run("udp://*:0", datagram=protocol)
    client = socket.socket(type=socket.SOCK_DGRAM)
    house.clients.append(client)
    client.sendto(b"x", ("127.0.0.1", endpoint.listeners[0].address.port))
    house.until(lambda: protocol.data)
    assert endpoint.listeners[0].counters.refused == {"no return address": 1}
    last(house, ": refused: no return address (it sent to a broadcast or multicast address)")
