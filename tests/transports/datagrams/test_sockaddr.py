"""The kernel's forms of addresses and ancillary data are those that Python's socket module makes of them."""

import contextlib
import os
import socket
import struct
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.transports.datagrams.sockaddr import (
    NOT_PACKED,
    pack_address,
    pack_control,
    unpack_address,
    unpack_control,
)

HOSTS = st.ip_addresses(v=4).map(str)
HOSTS6 = st.ip_addresses(v=6).map(lambda host: socket.inet_ntop(socket.AF_INET6, host.packed))
PORTS = st.integers(0, 65_535)
PATHS = st.text(st.characters(min_codepoint=1, max_codepoint=0xFF), min_size=1, max_size=50)
ABSTRACT = st.binary(max_size=100).map(lambda name: b"\0" + name)
ADDRESSES = (
    st.tuples(HOSTS, PORTS)
    | st.tuples(HOSTS6, PORTS, st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
    | PATHS
    | ABSTRACT
)


@given(ADDRESSES)
def test_there_and_back(address: object) -> None:
    """What is packed is found again."""
    assert unpack_address(pack_address(address)) == address


@pytest.mark.parametrize(
    ("address", "packed"),
    [
        (("127.0.0.1", 258), struct.pack("=H", 2) + bytes([1, 2, 127, 0, 0, 1]) + bytes(8)),
        (
            ("::1", 258, 0, 7),
            struct.pack("=H", 10) + bytes([1, 2]) + bytes(19) + b"\1" + struct.pack("=I", 7),
        ),
        ("/a", struct.pack("=H", 1) + b"/a\0"),
        (b"\0a\0", struct.pack("=H", 1) + b"\0a\0"),
    ],
)
def test_packed(address: object, packed: bytes) -> None:
    """Ports and addresses are as they are on the wire, families and interfaces as in the machine."""
    assert pack_address(address) == packed


@pytest.mark.parametrize("name", [b"", struct.pack("=H", 1)])
def test_a_sender_without_a_name(name: bytes) -> None:
    """It has no address that could be answered."""
    assert unpack_address(name) is None


@pytest.mark.parametrize(
    "wrong",
    [None, 5, ("localhost", 1), ("127.0.0.1", 70_000), ("127.0.0.1", -1), ("::1", 1), ("::1", 1, -1, 0),
     ("::1", 1, 0, 2**40), ("127.0.0.1",), ("::1", 1, 0, 0, 0), ("127.0.0.1", "1")],
)  # fmt: skip
def test_what_is_no_address(wrong: object) -> None:
    """It is told by an exception, before anything reaches the kernel."""
    with pytest.raises(NOT_PACKED):
        pack_address(wrong)


ITEMS = st.tuples(st.integers(0, 300), st.integers(0, 300), st.binary(max_size=40))


@given(st.lists(ITEMS, max_size=4).map(tuple))
def test_ancillary_data(items: tuple[tuple[int, int, bytes], ...]) -> None:
    """What is packed is found again, also before zeros."""
    packed = pack_control(items)
    assert len(packed) == sum(socket.CMSG_SPACE(len(data)) for _, _, data in items)
    assert unpack_control(packed) == items
    assert unpack_control(packed + bytes(40)) == items


@contextlib.contextmanager
def senders() -> Iterator[list[socket.socket]]:
    """Sockets with names of all sorts."""
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        bound = []
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_INET6, ("::1", 0)),
            (socket.AF_UNIX, f"{place}/" + "x" * (107 - len(place) - 1)),
            (socket.AF_UNIX, os.fsdecode(f"{place}/ü".encode("latin-1"))),
            (socket.AF_UNIX, b"\0" + os.urandom(8) + b"\0"),
        ):
            one = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            one.bind(address)
            bound.append(one)
        yield bound


def test_as_pythons_socket_module() -> None:
    """What it says of a socket is what comes back of packing it."""
    with senders() as bound:
        for one in bound:
            name = one.getsockname()
            assert unpack_address(pack_address(name)) == name
