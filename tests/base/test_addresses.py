"""Addresses: what is written comes back, and what is wrong is told in one line."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.addresses import (
    OWN_NAME_PREFIX,
    Address,
    AddressError,
    Kind,
    overlap,
    parse,
    parse_path,
    resolve,
)


def _one_machine(host: IPv4Address | IPv6Address) -> bool:
    mapped = isinstance(host, IPv6Address) and host.ipv4_mapped
    return not (mapped or host.is_multicast or str(host) == "255.255.255.255")


inet = st.builds(
    Address,
    kind=st.sampled_from([Kind.TCP, Kind.UDP]),
    host=st.one_of(
        st.just("*"),
        st.builds(str, st.ip_addresses(v=4)),
        st.builds(str, st.ip_addresses(v=6)),
    ),
    port=st.integers(0, 65535),
).filter(lambda address: address.host == "*" or _one_machine(ip_address(address.host)))
name = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and text not in (".", "..") and text[0] not in "~@"
)
path = (
    st.lists(name, min_size=1, max_size=3).map("/".join) | name.map("@{}".format) | name.map("/run/{}".format)
)
local = st.builds(Address, kind=st.sampled_from([Kind.UNIX, Kind.UNIXGRAM]), path=path)
handed_over = st.builds(
    Address,
    kind=st.just(Kind.SYSTEMD),
    path=st.text(
        st.characters(min_codepoint=32, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=255
    ).filter(lambda text: not text.startswith(OWN_NAME_PREFIX)),
)


@given(inet | local | handed_over)
def test_round_trip(address: Address) -> None:
    """An address that is written reads as the same address."""
    assert parse(str(address)) == address


@given(
    st.text()
    | st.from_regex(
        r"(tcp|udp|unix|unixgram|systemd)://[0-9a-f:.*\[\]%/~@]{0,20}(:[0-9]{0,7})?", fullmatch=True
    )
)
def test_nothing_but_an_address_error(text: str) -> None:
    """Whatever is written gives a canonical address, or an error of one line."""
    try:
        read = str(parse(text))
    except AddressError as error:
        problem = str(error)
    else:
        assert str(parse(read)) == read
        problem = read
    assert problem.isprintable()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcp://[0:0::1]:7", "tcp://[::1]:7"),
        ("unix:////run//a/./b", "unix:///run/a/b"),
        ("unix://./a", "unix://a"),
        ("unixgram://a/../b", "unixgram://a/../b"),  # a symbolic link may make this something else than b
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    """Several ways to write one address come to the same."""
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unix://" + "x" * 2000, "'unix://xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'... is too long for an address"),
        ("unix://./@a", "'./@a': '@' has no meaning here, write the whole path"),
        ("tcp://[::1]", "tcp://[::1]: there is no port, write tcp://[::1]:PORT"),
        ("tcp://1.2.3.4:", "there is no port after the ':'"),
        ("tcp://1.2.3.4:5:6", "tcp://1.2.3.4:5:6: this is not HOST:PORT"),
        ("tcp://fe80::1", "tcp://fe80::1: an IPv6 address needs brackets: write tcp://[fe80::1]:PORT"),
        ("tcp://1.2.3.4:99999999999", "port 99999999999 is out of range (0 to 65535)"),
        (
            "udp://255.255.255.255:1",
            "255.255.255.255 is a multicast or broadcast address: write one of this machine's own",
        ),
        ("unix:/run/x.sock", "'unix:/run/x.sock' is not an address: write unix:///run/x.sock"),
        ("unixgram:x.sock", "'unixgram:x.sock' is not an address: write unixgram://x.sock"),
        ("tcp:127.0.0.1:7", "'tcp:127.0.0.1:7' is not an address: write tcp://127.0.0.1:7"),
        ("UDP:/[::1]:7", "'UDP:/[::1]:7' is not an address: write udp://[::1]:7"),
        ("SystemD:/web", "'SystemD:/web' is not an address: write systemd://web"),
        ("127.0.0.1:7", "'127.0.0.1:7' is not an address: write tcp://127.0.0.1:7"),
        ("/run/x.sock", "'/run/x.sock' is not an address: write unix:///run/x.sock"),
        ("unix:", "'unix:' is not an address: write it like tcp://127.0.0.1:7007 or unix://echo.sock"),
        (
            "tcp:localhost:7",
            "'tcp:localhost:7' is not an address: write it like tcp://127.0.0.1:7007 or unix://echo.sock",
        ),
        ("nonsense", "'nonsense' is not an address: write it like tcp://127.0.0.1:7007 or unix://echo.sock"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    """What is wrong is told with what was probably meant."""
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert str(caught.value) == problem


def test_relative_paths_lie_in_the_runtime_directory() -> None:
    """A relative path is made absolute, an absolute one and an abstract name stay, as do ports."""
    runtime = Path("/run/sockd")
    assert resolve(parse("unix://a.sock"), runtime).path == "/run/sockd/a.sock"
    assert resolve(parse("unix:///a.sock"), runtime).path == "/a.sock"
    assert resolve(parse("unix://@a"), runtime).path == "@a"
    assert resolve(parse("tcp://*:7"), runtime) == parse("tcp://*:7")
    assert resolve(parse("systemd://@a"), runtime) == parse("systemd://@a")


@given(path)
def test_a_path_alone(text: str) -> None:
    """What is always a Unix socket's path may be written without a scheme."""
    assert parse_path(text) == parse(f"unix://{text}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no path: write /run/NAME.sock, or NAME.sock"),
        ("unix://a", "'unix://a' is an address, not a path: write a"),
        ("tcp://", "'tcp://' is an address, not a path: write NAME.sock"),
        ("a/", "'a/' is a directory: a socket needs a name"),
        ("a\n", r"'a\n' holds a character that can't be printed"),
    ],
)
def test_problems_of_a_path_alone(text: str, problem: str) -> None:
    """They are told as those of an address are."""
    with pytest.raises(AddressError) as caught:
        parse_path(text)
    assert str(caught.value) == problem


def test_names_of_what_systemd_hands_over() -> None:
    """They are as long as systemd allows, and not one of those that sockd gives itself."""
    assert parse("systemd://" + "x" * 255).path == "x" * 255
    with pytest.raises(AddressError, match="1 to 255 ASCII"):
        parse("systemd://" + "x" * 256)
    with pytest.raises(AddressError, match="are reserved for sockd"):
        parse("systemd://sockd-listener-")


@pytest.mark.parametrize("text", ["unix:///" + "é" * 53, "unix://@" + "x" * 106])
def test_longest_path(text: str) -> None:
    """A path may have as many bytes as the kernel takes, and not one more."""
    assert resolve(parse(text), Path("/run"))
    with pytest.raises(AddressError, match="108 bytes long"):
        resolve(parse(text + "x"), Path("/run"))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("tcp://127.0.0.1:7", "tcp://127.0.0.1:7", True),
        ("tcp://127.0.0.1:7", "tcp://127.0.0.1:8", False),
        ("tcp://127.0.0.1:7", "udp://127.0.0.1:7", False),
        ("tls://127.0.0.1:7", "tcp://127.0.0.1:7", True),
        ("tls://*:7", "tcp://127.0.0.1:7", True),
        ("tls://127.0.0.1:7", "udp://127.0.0.1:7", False),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", False),
        ("tcp://0.0.0.0:7", "tcp://127.0.0.1:7", True),
        ("tcp://0.0.0.0:7", "tcp://[::1]:7", False),
        ("tcp://[::]:7", "tcp://[::1]:7", True),
        ("tcp://[::]:7", "tcp://0.0.0.0:7", False),
        ("tcp://*:7", "tcp://[::]:7", True),
        ("tcp://*:7", "tcp://10.0.0.1:7", True),
        ("unix://a", "unixgram://a", True),
        ("unix://a", "unix://b", False),
        ("unix://@a", "unixgram://@a", False),
        ("unix://@a", "unix://@a", True),
        ("unix://a", "tcp://*:7", False),
        ("systemd://a", "systemd://a", True),
        ("systemd://a", "systemd://b", False),
        ("systemd://a", "unix://a", False),
        ("systemd://a", "tcp://*:7", False),
    ],
)
def test_overlap(one: str, other: str, expected: bool) -> None:
    """Two addresses overlap as the kernel sees it, in both directions."""
    assert overlap(parse(one), parse(other)) is expected
    assert overlap(parse(other), parse(one)) is expected


def test_kinds() -> None:
    """The kinds know what they are."""
    assert [kind for kind in Kind if kind.stream] == [
        Kind.TCP,
        Kind.TLS,
        Kind.UNIX,
        Kind.SYSTEMD,
    ]
    assert [kind for kind in Kind if kind.datagram] == [Kind.UDP, Kind.UNIXGRAM, Kind.SYSTEMD]
    assert [kind for kind in Kind if kind.inet] == [Kind.TCP, Kind.TLS, Kind.UDP]
    assert [kind for kind in Kind if kind.local] == [Kind.UNIX, Kind.UNIXGRAM]
