"""Datagram sockets: whole datagrams in bounded batches, replies from the address that was asked."""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.failure import Failure

from sockd.base.addresses import Address, parse
from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.access import Access
from sockd.plan.plan import AccessPlan
from sockd.transports.datagrams.port import DATAGRAMS_PER_EVENT, DatagramPort
from sockd.transports.flush import Flusher
from sockd.transports.sockets.inet import open_inet
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import open_unix
from tests.transports.datagrams.book import Book
from tests.transports.datagrams.receivers import receivers
from tests.transports.loop import Loop

MOST_OVER_IPV4 = 65_507
MOST_OVER_IPV6 = 65_527


@pytest.fixture(autouse=True, scope="module", params=["many in a call", "one by one"])
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of this holds with the kernel's calls for many datagrams, and where there are none."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "one by one":
            patch.setattr("sockd.transports.datagrams.receive.inbox", lambda *_: None)
            patch.setattr("sockd.transports.datagrams.port.outbox", lambda *_: None)
        yield


# A sender as recvfrom has it, with its ancillary data.
LONG = (("127.0.0.1", 40000), ())


def proved(peer: Peer) -> Peer:
    """A peer that may be sent anything, asked or not."""
    peer.proved = True
    return peer


class Echo:
    """Answers each datagram and keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[bytes, Peer]]] = []
        self.port: Any = None
        self.fail = False

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        self.batches.append(list(batch))
        if self.fail:
            raise ZeroDivisionError("a bug of a protocol")
        for data, peer in batch:
            self.port.send(data, peer)

    @property
    def peers(self) -> list[Peer]:
        return [peer for batch in self.batches for _, peer in batch]

    @property
    def data(self) -> list[bytes]:
        return [data for batch in self.batches for data, _ in batch]


class Open:
    """A datagram port that echoes, its loop and its clients."""

    def __init__(self, address: Address, **rates: Any) -> None:
        self.loop = Loop()
        self.echo = Echo()
        self.failures: list[str] = []
        self.clients: list[socket.socket] = []
        self.losses: list[tuple[BaseException, object]] = []
        sock = (
            open_unix(address, SocketOptions())[0]
            if address.kind.local
            else open_inet(address, SocketOptions())
        )
        self.book = book = Book()
        with receivers() as made:
            self.port = DatagramPort(
                sock,
                Flusher(self.loop),
                book.counters,
                book.refuse,
                book.enter,
                self.failures.append,
                self.lost,
                **rates,
            )
        (self.receiver,) = made
        self.port.protocol = self.echo
        self.echo.port = self.port
        self.port.read(True)

    def lost(self, error: BaseException, what: object) -> None:
        self.losses.append((error, what))

    @property
    def number(self) -> int:
        return int(self.port.sock.getsockname()[1])

    def client(self, bound: str | None = None, family: int = socket.AF_INET) -> socket.socket:
        """A client; Unix and IPv4 ones may be bound to a path or a host."""
        client = socket.socket(family, socket.SOCK_DGRAM)
        self.clients.append(client)
        client.setblocking(False)
        if bound is not None:
            client.bind(bound if family == socket.AF_UNIX else (bound, 0))
        return client

    def until_received(self, count: int) -> None:
        self.loop.until(lambda: self.port.counters.datagrams_in >= count)

    def answer(self, client: socket.socket) -> tuple[bytes, Any]:
        got: list[tuple[bytes, Any]] = []

        def come() -> bool:
            try:
                got.append(client.recvfrom(1 << 20))
            except BlockingIOError:
                return False
            return True

        self.loop.until(come, client)
        return got[0]

    def close(self) -> None:
        if self.port.sock.fileno() != -1:
            self.port.leave()
            self.port.sock.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def opened() -> Iterator[Any]:
    """Opens ports that are closed when the test ends."""
    made = []

    def make(address: str | Address, **rates: Any) -> Open:
        made.append(Open(parse(address) if isinstance(address, str) else address, **rates))
        return made[-1]

    yield make
    for one in made:
        one.close()


# -- in


@pytest.mark.parametrize(("host", "most"), [("127.0.0.1", MOST_OVER_IPV4), ("::1", MOST_OVER_IPV6)])
def test_whole_datagrams(host: str, most: int, opened: Any) -> None:
    """Datagrams come and go whole up to what the network carries; empty ones are counted."""
    port = opened(Address(parse("udp://*:1").kind, host))
    client = port.client(host, socket.AF_INET6 if ":" in host else socket.AF_INET)
    for data in (b"", b"x", bytes(range(256)) * 8, b"y" * most):
        client.sendto(data, (host, port.number))
        assert port.answer(client)[0] == data
    counters = port.port.counters
    assert port.echo.data == [b"", b"x", bytes(range(256)) * 8, b"y" * most]
    assert counters.empty == 1
    assert counters.datagrams_in == counters.datagrams_out == 4
    assert counters.bytes_in == counters.bytes_out == 1 + 2048 + most


def test_long_datagrams_leave_others_their_turn(opened: Any, tmp_path: Path) -> None:
    """One event takes no more than BYTES_PER_EVENT; what waits is taken in all the same before closing."""
    port = opened(f"unixgram://{tmp_path}/a.sock")
    for _ in range(8):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:  # each has a buffer of its own
            client.sendto(bytes(60_000), f"{tmp_path}/a.sock")
    port.port.doRead()
    assert [len(batch) for batch in port.echo.batches] == [5]
    port.port.take_queued()
    assert len(port.echo.data) == 8


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_flood_leaves_others_their_turn(size: int, opened: Any) -> None:
    """One event takes DATAGRAMS_PER_EVENT datagrams, whatever their size; the rest waits for the next."""
    port = opened("udp://127.0.0.1:0")
    client = port.client()
    client.connect(("127.0.0.1", port.number))
    for _ in range(DATAGRAMS_PER_EVENT + 10):
        client.send(bytes(size))
    port.port.doRead()
    assert [len(batch) for batch in port.echo.batches] == [DATAGRAMS_PER_EVENT]
    port.until_received(DATAGRAMS_PER_EVENT + 10)
    assert len(port.echo.data) == DATAGRAMS_PER_EVENT + 10


def test_not_reading(opened: Any) -> None:
    """A held port reads nothing; what waits in the kernel is read afterwards."""
    port = opened("udp://127.0.0.1:0")
    port.port.read(False)
    port.client().sendto(b"early", ("127.0.0.1", port.number))
    port.loop.settle()
    assert not port.echo.batches
    port.port.read(True)
    port.port.read(True)
    port.until_received(1)
    assert port.echo.data == [b"early"]


def test_spurious_wake_up(opened: Any) -> None:
    """An event without a datagram calls nobody."""
    port = opened("udp://127.0.0.1:0")
    port.port.doRead()
    assert not port.echo.batches


def test_kernels_errors_are_survived(opened: Any) -> None:
    """An answer that nobody took comes back as an error; the datagram after it is read all the same."""
    port = opened("udp://127.0.0.1:0")
    # An unconnected socket is told only where IP_RECVERR asks for it (ip(7)), so it is said in its stead.
    receive = port.receiver.receive
    errors: list[OSError] = [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError("no number")]

    def faulty(most: int) -> Any:
        if errors:
            raise errors.pop()
        return receive(most)

    port.receiver.receive = faulty
    port.client().sendto(b"two", ("127.0.0.1", port.number))
    port.until_received(1)
    assert port.echo.data == [b"two"]
    assert port.port.counters.refused["kernel: ECONNREFUSED"] == 1
    assert port.port.counters.refused["kernel: error"] == 1


def test_few_are_read_one_by_one(opened: Any) -> None:
    """Errors, long ones, empty ones and refusals are counted as in batches; an event takes one."""
    port = opened("udp://127.0.0.1:0", rate=Rate(3, 1.0))
    port.receiver.plain = True
    receive = port.receiver.receive_one
    results: list[Any] = [BlockingIOError(), ConnectionRefusedError(errno.ECONNREFUSED, ""), (None, LONG)]

    def faulty() -> Any:
        if not results:
            return receive()
        if isinstance(results[0], OSError):
            raise results.pop(0)
        return results.pop(0)

    port.receiver.receive_one = faulty
    client = port.client()
    for data in (b"", b"a", b"bc", b"def"):
        client.sendto(data, ("127.0.0.1", port.number))
    for _ in range(7):
        port.port.doRead()
    assert port.echo.data == [b"", b"a", b"bc"]
    assert len(port.echo.batches) == 3
    counters = port.port.counters
    assert (counters.datagrams_in, counters.bytes_in, counters.empty) == (4, 3, 1)
    assert counters.refused == {
        "kernel: ECONNREFUSED": 1, "longer than the kernel's limit": 1, "datagrams": 1
    }  # fmt: skip


def test_fault_of_the_protocol(opened: Any) -> None:
    """An exception is reported and costs its batch; the port goes on."""
    port = opened("udp://127.0.0.1:0")
    client = port.client("127.0.0.1")
    port.echo.fail = True
    client.sendto(b"one", ("127.0.0.1", port.number))
    port.until_received(1)
    assert port.failures == ["datagrams"]
    port.echo.fail = False
    client.sendto(b"two", ("127.0.0.1", port.number))
    assert port.answer(client)[0] == b"two"


def test_rate_of_all(opened: Any) -> None:
    """Above the rate datagrams are dropped and counted; it recovers by itself."""
    port = opened("udp://127.0.0.1:0", rate=Rate(3, 1.0))
    client = port.client()
    for _ in range(5):
        client.sendto(b"x", ("127.0.0.1", port.number))
    port.until_received(5)
    assert len(port.echo.data) == 3
    assert port.port.counters.refused == {"datagrams": 2}
    port.loop.advance(1)
    client.sendto(b"x", ("127.0.0.1", port.number))
    port.until_received(6)
    assert len(port.echo.data) == 4


def test_rate_of_one_source(opened: Any) -> None:
    """One source that floods leaves the others theirs."""
    port = opened("udp://127.0.0.1:0", rate_per_source=Rate(2, 1.0))
    flooding, quiet = port.client("127.0.0.2"), port.client("127.0.0.3")
    for _ in range(5):
        flooding.sendto(b"x", ("127.0.0.1", port.number))
    quiet.sendto(b"y", ("127.0.0.1", port.number))
    port.until_received(6)
    assert port.echo.data == [b"x", b"x", b"y"]
    assert port.port.counters.refused == {"datagrams_per_source": 3}


# -- out


@pytest.mark.parametrize("listening", ["udp://0.0.0.0:0", "udp://*:0"])
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "127.1.2.3"])
def test_wildcard_answers_from_the_address_that_was_asked(listening: str, asked: str, opened: Any) -> None:
    """A client that asked one of the machine's addresses is answered by no other."""
    port = opened(listening)
    client = port.client("127.0.0.1")
    client.sendto(b"who", (asked, port.number))
    data, source = port.answer(client)
    assert (data, source) == (b"who", (asked, port.number))
    (peer,) = port.echo.peers
    assert peer.host == "127.0.0.1"
    assert peer.text == f"127.0.0.1:{client.getsockname()[1]}"


@pytest.mark.parametrize("listening", ["udp://[::]:0", "udp://*:0", "udp://[::1]:0"])
def test_ipv6_answers(listening: str, opened: Any) -> None:
    """The same on IPv6."""
    port = opened(listening)
    client = port.client("::1", socket.AF_INET6)
    client.sendto(b"who", ("::1", port.number))
    data, source = port.answer(client)
    assert (data, source[:2]) == (b"who", ("::1", port.number))


@pytest.mark.parametrize("listening", ["udp://0.0.0.0:0", "udp://*:0"])
@pytest.mark.parametrize("asked", ["127.255.255.255", "224.0.0.1"])
def test_what_asked_a_whole_network_is_not_answered(listening: str, asked: str, opened: Any) -> None:
    """Answers to broadcast and multicast would make us an amplifier."""
    port = opened(listening)
    client = port.client("127.0.0.1")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    if asked == "224.0.0.1":
        # Groups are joined by whoever runs beside us, too: an IPv4 socket hears all of the machine's.
        port.port.sock.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            socket.inet_aton(asked) + socket.inet_aton("127.0.0.1"),
        )
    client.sendto(b"all", (asked, port.number))
    port.until_received(1)
    assert port.port.counters.datagrams_out == 0
    assert sum(port.port.counters.refused.values()) == 1


def test_refusal_by_the_kernel_is_counted(opened: Any) -> None:
    """A datagram too long for its network isn't sent, and nothing else happens."""
    port = opened("udp://127.0.0.1:0")
    for data, number in ((bytes(70_000), 9999), (b"x", 0)):
        assert not port.port.send(data, proved(Peer.inet(("127.0.0.1", number))))
    assert port.port.counters.refused == {"kernel: EMSGSIZE": 1, "kernel: EINVAL": 1}
    assert port.port.counters.datagrams_out == port.port.counters.bytes_out == 0


# -- Unix


@pytest.fixture
def unix(tmp_path: Path, opened: Any) -> tuple[Open, str]:
    """An open Unix datagram port and its path."""
    path = str(tmp_path / "a.sock")
    return opened(parse(f"unixgram://{path}")), path


def test_unix_peers_are_vouched_for(unix: tuple[Open, str], tmp_path: Path) -> None:
    """The kernel says who sent; a bound sender is answered."""
    port, path = unix
    client = port.client(str(tmp_path / "me.sock"), socket.AF_UNIX)
    client.sendto(b"hello", path)
    assert port.answer(client)[0] == b"hello"
    (peer,) = port.echo.peers
    assert peer.text == f"uid={os.getuid()},pid={os.getpid()}"
    assert peer.local


def test_unix_sender_without_an_address(unix: tuple[Open, str]) -> None:
    """One that isn't bound can't be answered: that is counted, and the next one is."""
    port, path = unix
    port.client(None, socket.AF_UNIX).sendto(b"hello", path)
    port.until_received(1)
    assert port.port.counters.refused == {"no return address": 1}
    assert port.port.counters.datagrams_out == 0


def test_gone(unix: tuple[Open, str], tmp_path: Path) -> None:
    """Whether a Unix peer's socket is there is known without sending it anything, connected or not."""
    port, path = unix
    peer, connected = port.client(f"{tmp_path}/peer", socket.AF_UNIX), port.client("", socket.AF_UNIX)
    for client in (peer, connected):
        client.connect(path)
        client.send(b"x")
        port.answer(client)
    gone = [port.port.gone(each) for each in port.echo.peers]
    assert gone == [False, False]
    for client in (peer, connected):
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.close()
    assert [port.port.gone(each) for each in port.echo.peers] == [True, True]
    os.unlink(f"{tmp_path}/peer")
    assert port.port.gone(port.echo.peers[0])
    assert not port.port.gone(Peer.inet(("192.0.2.1", 1)))


def test_unix_sender_that_left(unix: tuple[Open, str], tmp_path: Path) -> None:
    """An answer to a socket that is gone is counted."""
    port, path = unix
    client = port.client(str(tmp_path / "me.sock"), socket.AF_UNIX)
    client.sendto(b"hello", path)
    client.close()
    port.until_received(1)
    assert port.port.counters.refused == {"kernel: ECONNREFUSED": 1}


def test_unix_datagrams_are_large(unix: tuple[Open, str], tmp_path: Path) -> None:
    """Whole up to the kernel's limit for a sender, which is far above UDP's."""
    port, path = unix
    client = port.client(str(tmp_path / "me.sock"), socket.AF_UNIX)
    data = os.urandom(150_000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**30)
    client.sendto(data, path)
    assert port.answer(client)[0] == data


def test_longer_than_the_buffer(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram that was cut is not passed on: it is counted, and the next one is read."""
    monkeypatch.setattr("sockd.transports.datagrams.receive.largest", lambda family: 10)
    monkeypatch.setattr(Flusher, "room", lambda self, size: memoryview(bytearray(size)))
    path = f"{tmp_path}/a.sock"
    port = opened(f"unixgram://{path}")
    client = port.client(None, socket.AF_UNIX)
    client.sendto(b"longer than ten", path)
    client.sendto(b"ten bytes.", path)
    port.until_received(1)
    assert port.echo.data == [b"ten bytes."]
    assert port.port.counters.refused["longer than the kernel's limit"] == 1


def test_descriptors_that_are_sent_along_stay_out(unix: tuple[Open, str]) -> None:
    """A sender can't plant its file descriptors in our process until it has none left."""
    port, path = unix
    client = port.client(None, socket.AF_UNIX)
    client.connect(path)
    before = os.listdir("/proc/self/fd")
    for _ in range(10):
        socket.send_fds(client, [b"take these"], [0] * 8)
    port.until_received(10)
    assert os.listdir("/proc/self/fd") == before
    assert {peer.uid for peer in port.echo.peers} == {os.getuid()}


# -- endings


def test_closing(opened: Any) -> None:
    """It leaves the reactor; the socket is whoever's it was."""
    port = opened("udp://127.0.0.1:0")
    assert port.port.logPrefix() == "sockd"
    port.port.leave()
    assert not port.loop.readers
    assert port.port.sock.fileno() != -1


def test_the_queue_is_taken_in(opened: Any) -> None:
    """Before closing, what has arrived is delivered."""
    port = opened("udp://127.0.0.1:0")
    client = port.client()
    client.connect(("127.0.0.1", port.number))
    for _ in range(3 * DATAGRAMS_PER_EVENT):
        client.send(b"x")
    port.port.take_queued()
    assert len(port.echo.data) == 3 * DATAGRAMS_PER_EVENT
    port.port.take_queued()
    assert len(port.echo.data) == 3 * DATAGRAMS_PER_EVENT


def test_the_queue_is_taken_in_within_bounds(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends on and on doesn't keep us from closing."""
    monkeypatch.setattr("sockd.transports.datagrams.port.QUEUED_LIMIT", 4 * DATAGRAMS_PER_EVENT)
    port = opened("udp://127.0.0.1:0")
    client = port.client()
    client.connect(("127.0.0.1", port.number))

    class Endless(Echo):
        def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
            self.batches.append(list(batch))
            for _ in batch:
                client.send(b"and another one")

    port.port.protocol = endless = Endless()
    for _ in range(DATAGRAMS_PER_EVENT):
        client.send(b"x")
    port.port.take_queued()
    assert [len(batch) for batch in endless.batches] == [DATAGRAMS_PER_EVENT] * 4


def test_the_queue_is_left_when_a_batch_ends_the_reading(opened: Any) -> None:
    """A service that goes down meanwhile can't take the rest either."""
    port = opened("udp://127.0.0.1:0")

    class Failing(Echo):
        def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
            self.batches.append(list(batch))
            port.port.read(False)

    port.port.protocol = failing = Failing()
    client = port.client()
    client.connect(("127.0.0.1", port.number))
    for _ in range(DATAGRAMS_PER_EVENT + 1):
        client.send(b"x")
    port.port.take_queued()
    assert len(failing.data) == DATAGRAMS_PER_EVENT


def test_end_of_the_reactors_doing(opened: Any) -> None:
    """When the reactor let go of it, its owner is told why; it reads no more, and can still be closed."""
    port = opened("udp://127.0.0.1:0")
    port.client().sendto(b"x", ("127.0.0.1", port.number))
    error = ZeroDivisionError("a bug of ours")
    port.loop.removeReader(port.port)
    port.port.connectionLost(Failure(error))
    assert port.losses == [(error, port.port)]
    port.port.take_queued()
    assert not port.echo.batches


# All of them wait in the kernel: no more than its usual buffer holds (each costs it some KiB of memory).
@given(sizes=st.lists(st.integers(0, 1000), max_size=DATAGRAMS_PER_EVENT))
def test_order_and_borders(sizes: list[int]) -> None:
    """Any sequence of datagrams comes as it was sent: in order, each by itself."""
    port = Open(parse("udp://127.0.0.1:0"))
    client = port.client()
    sent = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    try:
        for data in sent:
            client.sendto(data, ("127.0.0.1", port.number))
        port.until_received(len(sent))
    finally:
        port.close()
    assert port.echo.data == sent


def test_whom_access_bars_is_not_sent_anything(opened: Any) -> None:
    """Nor who was heard while it was allowed: a protocol may know it yet."""
    port = opened("udp://127.0.0.1:0")
    client = port.client()
    client.sendto(b"?", ("127.0.0.1", port.number))
    assert port.answer(client)[0] == b"?"
    (peer,) = port.echo.peers
    port.port.admit(Access(AccessPlan((), (ip_network("127.0.0.0/8"),), frozenset(), frozenset())))
    assert not port.port.send(b"!", peer)
    assert port.port.counters.refused == {"access": 1}
    port.port.admit(None)
    assert port.port.send(b"!", proved(peer))


# -- amplification


class Late:
    """Answers what the test says, at once or when the test calls."""

    def __init__(self, port: DatagramPort, answers: Any, *, together: bool = False) -> None:
        self.port = port
        self.answers = answers
        self.together = together
        self.peers: list[Peer] = []

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        replies = []
        for data, peer in batch:
            self.peers.append(peer)
            replies += [(answer, peer) for answer in self.answers(data)]
        if self.together:
            self.port.send_many(replies)
        else:
            for each in replies:
                self.port.send(*each)


def ask(port: Open, *questions: bytes) -> None:
    client = port.client()
    for question in questions:
        client.sendto(question, ("127.0.0.1", port.number))
    port.until_received(len(questions))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize(
    "answers",
    [
        lambda data: [data + b"!"],
        lambda data: [bytes(1000)],
        lambda data: [data, b"!"],
        lambda data: [data, data],
    ],
)
def test_no_answer_over_udp_is_longer_than_what_was_asked(
    together: bool, count: int, answers: Any, opened: Any
) -> None:
    """Its source may be forged: whatever the protocol does, sockd amplifies nothing."""
    port = opened("udp://127.0.0.1:0")
    port.port.protocol = Late(port.port, answers, together=together)
    ask(port, *[b"question"] * count)
    counters = port.port.counters
    assert counters.bytes_out <= counters.bytes_in
    assert counters.refused["longer than what was asked"] >= count * (len(answers(b"")) - 1) or 1
    assert sum(counters.refused.values()) + counters.datagrams_out == count * len(answers(b""))
    assert port.book.whys


def test_an_answer_may_be_longer_where_the_protocol_says_so(opened: Any) -> None:
    """By so many bytes for each peer and event, and no more."""
    port = opened("udp://127.0.0.1:0", answer_beyond=10)
    port.port.protocol = Late(port.port, lambda data: [bytes(len(data) + 10)])
    ask(port, b"", b"a")
    assert not port.port.counters.refused
    port.port.protocol = Late(port.port, lambda data: [bytes(len(data) + 11)])
    ask(port, b"", b"a")
    port.until_received(4)
    counters = port.port.counters  # those that come together have what both of them may be answered
    assert counters.refused["longer than what was asked"] in (1, 2)
    assert counters.bytes_out <= counters.bytes_in + 10 * counters.datagrams_in


def test_peers_that_are_known_may_be_sent_anything(opened: Any, tmp_path: Path) -> None:
    """Those that have proved their address, and those that the kernel vouches for."""
    port = opened("udp://127.0.0.1:0")
    port.port.protocol = late = Late(port.port, lambda data: [])
    ask(port, b"x")
    assert port.port.send(bytes(1000), proved(late.peers[0]))
    local = opened(parse(f"unixgram://{tmp_path}/a.sock"))
    local.port.protocol = Late(local.port, lambda data: [bytes(1000)])
    client = local.client(str(tmp_path / "me.sock"), socket.AF_UNIX)
    client.sendto(b"x", f"{tmp_path}/a.sock")
    assert len(local.answer(client)[0]) == 1000


def test_what_was_not_answered_may_be_answered_later(opened: Any) -> None:
    """All together no more bytes than came; so a protocol may ask somebody else first."""
    port = opened("udp://127.0.0.1:0")
    port.port.protocol = late = Late(port.port, lambda data: [])
    ask(port, b"12345", b"67890")
    peer = late.peers[0]
    assert port.port.send(bytes(7), peer)
    assert not port.port.send(bytes(4), peer)
    port.port.send_many([(b"123", peer), (b"4", peer)])
    assert port.port.counters.bytes_out == 10
    assert port.port.counters.refused == {"longer than what was asked": 2}


@pytest.mark.parametrize("size", [4, 10, 11])
def test_later_answers_may_be_longer_once_for_each_datagram(size: int, opened: Any) -> None:
    """What the protocol asks for on top belongs to what came: it is no gift with each datagram sent."""
    port = opened("udp://127.0.0.1:0", answer_beyond=10)
    port.port.protocol = late = Late(port.port, lambda data: [])
    ask(port, b"", b"a")
    for _ in range(10):
        port.port.send(bytes(size), late.peers[0])
    counters = port.port.counters
    assert counters.datagrams_out == 21 // size
    assert counters.refused == {"longer than what was asked": 10 - 21 // size}


def test_an_answer_leaves_what_it_may_be_longer_to_nobody(opened: Any) -> None:
    """A datagram that was answered in time has had its share."""
    port = opened("udp://127.0.0.1:0", answer_beyond=10)
    port.port.protocol = late = Late(port.port, lambda data: [data])
    ask(port, b"abc")
    assert not port.port.send(b"x", late.peers[0])


# -- many at once


def test_send_many(opened: Any) -> None:
    """In order, each to its own; what the kernel refuses is counted, and the ones after it leave."""
    port = opened("udp://127.0.0.1:0")
    clients = [port.client("127.0.0.1") for _ in range(2)]
    one, other = (proved(Peer.inet(client.getsockname())) for client in clients)
    nowhere, nobody = proved(Peer.inet(("127.0.0.1", 0))), Peer(None, host="127.0.0.1", port=9)
    replies = [(b"%d" % number, (one, other)[number % 2]) for number in range(2 * DATAGRAMS_PER_EVENT)]
    replies[3] = bytes(70_000), one
    replies[5] = b"5", nowhere
    replies[DATAGRAMS_PER_EVENT] = b"", one
    replies[-1] = b"last", nobody
    port.port.send_many(replies)
    numbers = [n for n in range(2 * DATAGRAMS_PER_EVENT) if n not in (3, 5, 2 * DATAGRAMS_PER_EVENT - 1)]
    for which, client in enumerate(clients):
        sent = [b"" if n == DATAGRAMS_PER_EVENT else b"%d" % n for n in numbers if n % 2 == which]
        assert [port.answer(client)[0] for _ in sent] == sent
    counters = port.port.counters
    assert counters.refused == {"kernel: EMSGSIZE": 1, "kernel: EINVAL": 1, "no return address": 1}
    assert counters.datagrams_out == len(numbers)
    assert counters.bytes_out == sum(len(b"%d" % n) for n in numbers if n != DATAGRAMS_PER_EVENT)


def test_send_many_to_some_whom_access_bars(opened: Any) -> None:
    """They get nothing; the others get theirs."""
    port = opened("udp://127.0.0.1:0")
    rules = AccessPlan((), (ip_network("127.0.0.2/32"),), frozenset(), frozenset())
    port.port.admit(Access(rules))
    friend, foe = port.client("127.0.0.1"), port.client("127.0.0.2")
    peers = [proved(Peer.inet(client.getsockname())) for client in (friend, foe)]
    port.port.send_many([(b"x", peers[number % 2]) for number in range(DATAGRAMS_PER_EVENT)])
    assert port.port.counters.refused == {"access": DATAGRAMS_PER_EVENT // 2}
    assert port.answer(friend)[0] == b"x"
    with pytest.raises(BlockingIOError):
        foe.recv(1)


def test_whom_access_bars_is_not_heard(opened: Any) -> None:
    """Of those who came together only the others are."""
    port = opened("udp://127.0.0.1:0")
    rules = AccessPlan((), (ip_network("127.0.0.2/32"),), frozenset(), frozenset())
    port.port.admit(Access(rules))
    friend, foe = port.client("127.0.0.1"), port.client("127.0.0.2")
    for client in (friend, foe, friend, foe):
        client.sendto(b"two", ("127.0.0.1", port.number))
    port.until_received(4)
    assert port.echo.data == [b"two", b"two"]
    assert port.port.counters.refused == {"access": 2}
    assert port.port.counters.bytes_in == 6
