"""Many datagrams in one call come and go as one by one: the same bytes, peers, counts and answers."""

import contextlib
import ctypes
import errno
import os
import select
import socket
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.addresses import parse
from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.access import Access
from sockd.plan.plan import AccessPlan
from sockd.transports.datagrams import mmsg
from sockd.transports.datagrams.mmsg import Inbox, NoAddressError, Outbox, calls
from sockd.transports.datagrams.port import DatagramPort
from sockd.transports.flush import Flusher
from sockd.transports.sockets.inet import open_inet
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import open_unix
from tests.transports.datagrams.book import Book
from tests.transports.datagrams.receivers import receivers
from tests.transports.loop import Loop

CLIENTS = 4
TOO_LONG = b"!"  # the answer to what begins so is longer than any datagram


class Answers:
    """Answers each batch at once, and keeps what it was given."""

    def __init__(self, port: DatagramPort) -> None:
        self._port = port
        self.got: list[tuple[bytes, Any, str, Any]] = []

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        self.got += [(data, peer.sockaddr, peer.text, peer.control) for data, peer in batch]
        self._port.send_many(
            [(bytes(2**24) if data.startswith(TOO_LONG) else data, peer) for data, peer in batch]
        )


class Side:
    """A port, read in one of the two ways."""

    def __init__(self, address: str, steps: int | None, rates: tuple[Rate | None, Rate | None]) -> None:
        parsed = parse(address)
        options = SocketOptions(receive_buffer=4 * 2**20)
        self.sock = open_unix(parsed, options)[0] if parsed.kind.local else open_inet(parsed, options)
        self.turn = Flusher(Loop())
        with pytest.MonkeyPatch.context() as patch, receivers() as made:
            if steps is None:
                patch.setattr("sockd.transports.datagrams.receive.inbox", lambda *_: None)
                patch.setattr("sockd.transports.datagrams.port.outbox", lambda *_: None)
            book = Book()
            self.port = DatagramPort(
                self.sock, self.turn, book.counters, book.refuse, book.enter, self.failed, self.lost, *rates
            )
        if steps is not None:
            (source,) = made
            source.most = min(steps, source.inbox.count)
        self.port.protocol = self.answers = Answers(self.port)
        self.name = self.sock.getsockname()
        if isinstance(self.name, tuple) and self.name[0] == "0.0.0.0":
            self.name = ("127.0.0.1", self.name[1])

    def failed(self, where: str) -> None:
        raise AssertionError(where)

    def lost(self, error: BaseException, what: object) -> None:
        raise error

    def read(self) -> None:
        """As the reactor has it: as long as there is something."""
        while select.select([self.sock], [], [], 0)[0]:
            self.port.doRead()


DATA = st.builds(
    lambda first, size: first + b"x" * size,
    st.sampled_from([b"", b"a", TOO_LONG]),
    st.integers(0, 200) | st.sampled_from([0, 4096, 5000, 9000]),
)
# What the clients send between two events of the port.
EVENTS = st.lists(st.lists(st.tuples(st.integers(0, CLIENTS - 1), DATA), max_size=20), max_size=4)
RATES = st.sampled_from(
    [(None, None), (Rate(7, 1.0), None), (None, Rate(5, 1.0)), (Rate(9, 1.0), Rate(4, 1.0))]
)
ACCESS = st.sampled_from(
    [None, Access(AccessPlan((), (ip_network("127.0.0.3/32"),), frozenset(), frozenset()))]
)


@contextlib.contextmanager
def world(address: str, steps: int, rates: Any) -> Iterator[tuple[list[Side], list[socket.socket]]]:
    """Both ports and the clients, of which one can't be answered, or is gone before the answer."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        sides = [
            Side(address.format(place=place, side=side), each, rates)
            for side, each in enumerate((steps, None))
        ]
        clients = []
        for number in range(CLIENTS):
            client = stack.enter_context(socket.socket(sides[0].sock.family, socket.SOCK_DGRAM))
            client.setblocking(False)
            if client.family == socket.AF_UNIX:
                if number:
                    client.bind(f"{place}/{number}" if number > 1 else b"\0" + os.urandom(8))
            elif client.family == socket.AF_INET:
                client.bind((f"127.0.0.{number + 1}", 0))
            clients.append(client)
        for side in sides:
            stack.callback(side.sock.close)
        yield sides, clients


@pytest.mark.parametrize(
    "address", ["udp://127.0.0.1:0", "udp://0.0.0.0:0", "udp://[::1]:0", "unixgram://{place}/{side}.sock"]
)
@given(
    events=EVENTS,
    steps=st.integers(1, 64),
    rates=RATES,
    access=ACCESS,
    few=st.sampled_from([0, 10]),
    quiet=st.sampled_from([1, 2, 100]),
    plain=st.integers(1, 6),
    alike=st.sampled_from([1, 2, 8]),
)
def test_as_one_by_one(
    address: str,
    events: list[list[tuple[int, bytes]]],
    steps: int,
    rates: Any,
    access: Any,
    few: int,
    quiet: int,
    plain: int,
    alike: int,
) -> None:
    """Whatever comes, from whomever, however much at a time, however often the way of reading changes."""
    with pytest.MonkeyPatch.context() as patch, world(address, steps, rates) as (sides, clients):
        patch.setattr("sockd.transports.datagrams.port.SINGLE_SENDS", few)
        patch.setattr("sockd.transports.datagrams.receive.QUIET_READS", quiet)
        patch.setattr("sockd.transports.datagrams.receive.SINGLE_READS", plain)
        patch.setattr("sockd.transports.datagrams.mmsg.ALIKE", alike)
        for side in sides:
            side.port.admit(access)
        answers: list[list[tuple[int, bytes]]] = [[], []]
        for event in events:
            # A Unix socket's queue is short (net.unix.max_dgram_qlen).
            local = sides[0].sock.family == socket.AF_UNIX
            for side, got in zip(sides, answers, strict=True):
                for number, data in event[:8] if local else event:
                    clients[number].sendto(data, side.name)
                side.read()
                for number, client in enumerate(clients):
                    got += [(number, data) for data in waiting(client, side)]
        batched, simple = sides
        assert batched.answers.got == simple.answers.got
        assert batched.port.counters.freeze() == simple.port.counters.freeze()
        assert answers[0] == answers[1]


def waiting(client: socket.socket, side: Side) -> Iterator[bytes]:
    """What this side answered."""
    with contextlib.suppress(BlockingIOError):
        while True:
            data, source = client.recvfrom(1 << 16)
            assert source == side.name or client.family == socket.AF_INET6
            yield data


# -- in


def an_inbox(longest: int = 2000) -> Inbox:
    found = calls()
    assert found is not None
    return Inbox(found[0], 8, longest, 0, 16)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A bound UDP socket, and one that is connected to it."""
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as theirs:
        ours.setblocking(False)
        ours.bind(("127.0.0.1", 0))
        theirs.connect(ours.getsockname())
        yield ours, theirs


def test_cut_datagrams_are_left_out(pair: tuple[socket.socket, socket.socket]) -> None:
    """Those beside them are whole, with their senders."""
    ours, theirs = pair
    for size in (10, 11, 3, 50):
        theirs.send(bytes(size))
    datagrams, keys, lengths, truncated = an_inbox(10).receive(ours.fileno(), 8)
    assert [len(data) for data in datagrams] == [10, 3]
    assert len(keys) == len(truncated) == 2
    assert len(lengths) == 4


@pytest.mark.parametrize("size", [0, 1, 10])
def test_datagrams_of_one_length(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    """Each has its own bytes, also where there were longer ones before."""
    ours, theirs = pair
    inbox = an_inbox(10)
    for length in (10, size):
        sent = [bytes([number]) * length for number in range(8)]
        for data in sent:
            theirs.send(data)
        datagrams, keys, lengths, _ = inbox.receive(ours.fileno(), 8)
        assert datagrams == sent
        assert len(set(keys)) == 1
        assert lengths == (length,) * 8


def test_datagrams_that_are_all_too_long(pair: tuple[socket.socket, socket.socket]) -> None:
    """They are cut to one length, and none is left."""
    ours, theirs = pair
    for _ in range(8):
        theirs.send(bytes(11))
    datagrams, keys, lengths, truncated = an_inbox(10).receive(ours.fileno(), 8)
    assert not datagrams
    assert not keys
    assert len(truncated) == 8
    assert lengths == (10,) * 8


def test_nothing_there(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is an error, as `recvfrom` has it."""
    ours, _ = pair
    with pytest.raises(BlockingIOError):
        an_inbox().receive(ours.fileno(), 8)
    with pytest.raises(OSError) as caught:
        an_inbox().receive(-1, 8)
    assert caught.value.errno == errno.EBADF


def test_memory_is_given_back(pair: tuple[socket.socket, socket.socket]) -> None:
    """What datagrams had filled is gone; the next ones come all the same."""
    ours, theirs = pair
    inbox = an_inbox()
    for data in (b"one", b"two"):
        theirs.send(data)
        assert inbox.receive(ours.fileno(), 8)[0] == [data]
        assert inbox.payload[:3] == data
        inbox.give_back()
        assert inbox.payload[:3] == bytes(3)


# -- out


def test_an_outbox_that_was_used_keeps_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """The bytes that were sent are let go of."""
    found = calls()
    assert found is not None
    ours, theirs = pair
    theirs.setblocking(False)
    outbox = Outbox(found[1], 4)
    peer = Peer.inet(theirs.getsockname())
    assert outbox.send(ours.fileno(), [(b"one", peer), (b"two", peer)]) == (6, [])
    assert [theirs.recv(10) for _ in range(2)] == [b"one", b"two"]
    large = bytes(60_000)
    tracemalloc.start()
    try:
        assert outbox.send(ours.fileno(), [(large, peer), (large, peer)]) == (2 * len(large), [])
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < len(large) < most


def test_nothing_is_sent_to_what_is_no_address(pair: tuple[socket.socket, socket.socket]) -> None:
    """Nor to those before it: who sent them decides."""
    found = calls()
    assert found is not None
    ours, theirs = pair
    theirs.setblocking(False)
    with pytest.raises(NoAddressError):
        Outbox(found[1], 4).send(ours.fileno(), [(b"x", Peer.inet(theirs.getsockname())), (b"y", Peer(None))])
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


# -- whether there are such calls


@pytest.fixture
def unknown() -> Iterator[None]:
    """Nobody asked yet whether there are such calls."""
    for each in (calls, mmsg.inbox, mmsg.outbox):
        each.cache_clear()
    yield
    for each in (calls, mmsg.inbox, mmsg.outbox):
        each.cache_clear()


@pytest.mark.usefixtures("unknown")
class TestCalls:
    """They are used where they are as this module expects them."""

    def test_here(self) -> None:
        """glibc on 64 bits."""
        assert calls() is not None

    def test_another_c_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its structures may be laid out otherwise."""
        monkeypatch.setattr(os, "confstr_names", {})
        assert calls() is None
        assert mmsg.inbox(4, 10, 0, 16) is None
        assert mmsg.outbox(4) is None

    @pytest.mark.parametrize("missing", ["recvmmsg", "sendmmsg"])
    def test_none_in_the_library(self, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of another system."""
        library = ctypes.PyDLL(None, use_errno=True)

        class Without:
            def __getattr__(self, name: str) -> Any:
                if name == missing:
                    raise AttributeError(name)
                return getattr(library, name)

        monkeypatch.setattr(ctypes, "PyDLL", lambda *_, **__: Without())
        assert calls() is None

    def test_forbidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a sandbox, or unknown to the kernel."""
        monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EPERM)
        assert calls() is None
