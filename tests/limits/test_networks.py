"""The smallest network that holds a host, found as fast among ten thousand as among ten."""

import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.limits.access import Network, Networks, packed

# Few leading bits, so that networks and hosts meet often.
NUMBERS_4 = st.integers(0, 255).map(lambda number: number << 24 | number)
NUMBERS_6 = st.integers(0, 255).map(lambda number: number << 120 | number)
NETWORKS_4 = st.builds(
    lambda number, length: IPv4Network((number, length), strict=False), NUMBERS_4, st.integers(0, 32)
)
NETWORKS_6 = st.builds(
    lambda number, length: IPv6Network((number, length), strict=False), NUMBERS_6, st.integers(0, 128)
)
HOSTS = NUMBERS_4.map(IPv4Address) | NUMBERS_6.map(IPv6Address)


def plain(values: list[tuple[Network, int]], host: IPv4Address | IPv6Address) -> int | None:
    """Looks at all of them."""
    found: tuple[int, int] | None = None
    for network, value in values:
        if host in network and (found is None or network.prefixlen >= found[0]):
            found = network.prefixlen, value
    return None if found is None else found[1]


@given(values=st.lists(st.tuples(NETWORKS_4 | NETWORKS_6, st.integers())), hosts=st.lists(HOSTS, min_size=1))
def test_as_looking_at_each(
    values: list[tuple[Network, int]], hosts: list[IPv4Address | IPv6Address]
) -> None:
    """The answer is that of going through all networks; of equal ones the last counts."""
    networks = Networks(values)
    for host in hosts:
        assert networks.best(str(host)) == plain(values, host)


@pytest.mark.parametrize(
    ("network", "host", "inside"),
    [
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),  # written for IPv6 sockets, meant are IPv4 peers
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::ffff:0:0/96", "192.0.2.1", True),
        ("::/0", "192.0.2.1", False),  # the other family is another
        ("0.0.0.0/0", "2001:db8::1", False),
        ("fe80::/64", "fe80::1%eth0", True),
        ("192.0.2.1/32", "192.0.2.1", True),
        ("192.0.2.1/32", "192.0.2.2", False),
        ("::1/128", "::1", True),
    ],
)
def test_families(network: str, host: str, inside: bool) -> None:
    """IPv4 is IPv4 however it is written; scopes don't matter."""
    assert Networks([(ip_network(network), True)]).best(host) is (True if inside else None)


def test_looks_up_each_size_once() -> None:
    """Ten thousand networks cost a look-up for each of their sizes, not for each of them."""
    many = [(IPv4Network((number << 8, 24)), number) for number in range(10_000)]
    networks = Networks([*many, (IPv4Network("0.0.0.0/0"), -1)])
    lookups = 0

    def count(_frame: object, event: str, called: Any) -> None:
        nonlocal lookups
        lookups += event == "c_call" and called.__name__ == "get"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        assert networks.best(str(ip_address(7777 << 8 | 9))) == 7777
        assert networks.best("255.0.0.1") == -1
    finally:
        sys.setprofile(before)
    assert lookups == 1 + 2


def test_packed() -> None:
    """The bytes are those of the kernel."""
    assert packed("127.0.0.1") == b"\x7f\x00\x00\x01"
    assert packed("::1") == bytes(15) + b"\x01"
    assert packed("fe80::2%lo") == b"\xfe\x80" + bytes(13) + b"\x02"
