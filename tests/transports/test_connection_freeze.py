"""A connection that goes on in another program: the peer gets the same bytes, and sees no difference."""

import json
import socket
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.transports.connection import Connection
from sockd.transports.fields import HIGH_WATER
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from tests.transports.loop import Connect, Exchange, HalfProbe, Loop, Probe, small_buffers, tcp_pair

LONG = bytes(range(256)) * 1024  # more than small buffers and HIGH_WATER take


class Lines(Probe):
    """Answers each line with itself, the other way round; what it is frozen to is the line's beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = b""
        self.thawed: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        *lines, self.begun = (self.begun + data).split(b"\n")
        for line in lines:
            self.transport.write(line[::-1] + b"\n")

    def freeze(self) -> Any:
        return {"begun": self.begun}

    def thaw(self, state: Any) -> None:
        self.thawed.append(state)
        self.begun = state["begun"]


@implementer(IHalfCloseableProtocol)
class HalfLines(Lines):
    """After the peer's FIN it says how the last line began, then closes."""

    def readConnectionLost(self) -> None:
        self.transport.write(b"rest: " + self.begun)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Its own end is no news."""


class Ends(HalfProbe):
    """Keeps the ends that it was told of, and has no state."""

    def freeze(self) -> None:
        """Nothing goes over."""

    def thaw(self, state: Any) -> None:
        assert state is None


class Pieces:
    """A push producer that writes numbered pieces while it may."""

    def __init__(self, transport: Any, at: int, end: int) -> None:
        self.transport = transport
        self.at = at
        self.end = end
        self.paused = False

    def resumeProducing(self) -> None:
        self.paused = False
        while not self.paused and self.at < self.end:
            self.at += 1
            self.transport.write(b"%8d" % self.at * 4096)
        if self.at == self.end:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True


class Producing(Probe):
    """Sends pieces, as many as its state says are left."""

    def produce(self, at: int) -> None:
        self.pieces = Pieces(self.transport, at, 40)
        self.transport.registerProducer(self.pieces, True)
        self.pieces.resumeProducing()

    def freeze(self) -> Any:
        return self.pieces.at

    def thaw(self, state: Any) -> None:
        self.produce(state)


class Patient(Producing):
    """Waits until its transport asks for the first piece."""

    def thaw(self, state: Any) -> None:
        self.pieces = Pieces(self.transport, state, 40)
        self.transport.registerProducer(self.pieces, True)


def exec_into(old: Exchange, protocol: Any, *, held: bool = False, **others: Any) -> None:
    """Have a protocol of a new program go on with the connection; nothing of the old one runs any more.

    `others` are what the old one might have said of it at another moment.
    """
    connection = old.connection
    assert connection.freezable
    state = json.loads(json.dumps(connection.hand_over(), default=lambda data: {"hex": data.hex()}))
    for what in ("unsent", "rest"):
        state[what] = bytes.fromhex(state[what]["hex"])
    assert state.keys() >= others.keys()
    state |= others
    protocol_state = old.protocol.freeze()  # type: ignore[attr-defined]
    sock = socket.socket(fileno=connection.sock.detach())
    sock.setblocking(False)
    clock = old.loop.seconds()
    old.loop = old.owner.selector = Loop()
    old.loop.advance(clock)
    old.turn = Flusher(old.loop)
    old.connection = Connection.take_over(state, sock, old.turn, old.owner, connection.listener)
    old.protocol = protocol
    if held:
        old.connection.hold(True)
    old.connection.resume(protocol, protocol_state)


def test_freezing_changes_nothing(connect: Connect) -> None:
    """A rehearsal takes a snapshot, and the connection serves on."""
    exchange = connect(Lines())
    exchange.client.send(b"abc\nde")
    exchange.loop.settle()
    assert exchange.connection.hand_over() == exchange.connection.hand_over()
    exchange.client.send(b"f\n")
    assert exchange.received() == b"cba\nfed\n"


def test_what_is_known_of_a_connection_is_kept(connect: Connect) -> None:
    """The log and the status tell of one connection, not of two."""
    exchange = connect(Lines(), tcp_pair())
    exchange.loop.advance(5)
    exchange.client.send(b"abc\nde")
    exchange.loop.until(lambda: exchange.connection.received)
    exchange.connection.number = 17
    exchange.connection.name = "ann"
    exchange.connection.mark_received = 3
    exchange.connection.limit_unsent(9000)
    before = exchange.connection.hand_over()
    old_peer = exchange.connection.peer
    exec_into(exchange, Lines())
    connection = exchange.connection
    assert connection.hand_over() == before
    assert (connection.number, connection.received, connection.sent, connection.opened) == (17, 6, 4, 0.0)
    assert connection.name == "ann"
    assert (connection.peer, connection.peer.text, repr(connection)) == (
        old_peer,
        old_peer.text,
        f"<connection of {old_peer.text} to test://here>",
    )


def test_a_thawed_protocol_goes_on_where_the_frozen_one_stopped(connect: Connect) -> None:
    """It has its transport in `thaw`, and no connectionMade."""
    exchange = connect(Lines())
    exchange.client.send(b"ab")
    exchange.loop.settle()
    protocol = Lines()
    exec_into(exchange, protocol)
    assert (protocol.thawed, protocol.made, protocol.connected) == ([{"begun": b"ab"}], 0, 1)
    exchange.client.send(b"c\n")
    assert exchange.received() == b"cba\n"


@pytest.mark.parametrize("pair", [small_buffers, tcp_pair])
def test_unsent_bytes_arrive_before_newer_ones(connect: Connect, pair: Any) -> None:
    """Whether the kernel was full or the event's end had not come."""
    exchange = connect(Lines(), pair())
    for _ in range(4):
        exchange.connection.write(LONG)
    exchange.loop.turn()
    exchange.connection.write(b"not flushed")
    exec_into(exchange, Lines())
    exchange.connection.write(b", new")
    got = bytearray()
    while not got.endswith(b"new"):
        exchange.loop.until(lambda: _readable(exchange.client), exchange.client)
        got += exchange.client.recv(1 << 20)
    assert got == 4 * LONG + b"not flushed, new"
    assert exchange.connection.sent == len(got)


def _readable(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def test_a_peer_that_does_not_read_is_not_read_from(connect: Connect) -> None:
    """Back-pressure is found anew from what is unsent."""
    exchange = connect(Lines(), small_buffers())
    exchange.connection.write(LONG)
    exchange.loop.settle()
    exec_into(exchange, Lines())
    assert exchange.connection.unsent > HIGH_WATER
    assert exchange.connection.paused
    assert exchange.received() == LONG
    assert not exchange.connection.paused


def test_nothing_is_read_while_it_is_held(connect: Connect) -> None:
    """The endpoint's service may be down in the new program."""
    exchange = connect(Lines())
    exec_into(exchange, Lines(), held=True)
    exchange.client.send(b"abc\n")
    assert exchange.received() == b""
    exchange.connection.hold(False)
    assert exchange.received() == b"cba\n"


def test_a_pause_is_the_new_protocols_own(connect: Connect) -> None:
    """Whom the old one waited for is gone; a protocol that must wait says so in thaw."""

    class Waiting(Lines):
        def thaw(self, state: Any) -> None:
            self.transport.pauseProducing()

    exchange = connect(Lines())
    exchange.connection.pauseProducing()
    exec_into(exchange, Waiting())
    assert exchange.connection.paused
    exec_into(exchange, Lines())
    assert not exchange.connection.paused


def test_what_nobody_wanted_yet(connect: Connect) -> None:
    """What came with a PROXY header, and the protocol was paused: the next one gets it first."""

    class Waiting(Lines):
        def thaw(self, state: Any) -> None:
            super().thaw(state)
            self.transport.pauseProducing()

    exchange = connect(Lines())
    exchange.connection.pauseProducing()
    exchange.connection.give(b"abc\n")
    exec_into(exchange, Waiting())
    exchange.client.send(b"de\n")
    exchange.loop.settle()
    exec_into(exchange, Lines())
    assert exchange.received() == b"cba\ned\n"


def test_a_fin_that_was_wanted_follows_what_is_unsent(connect: Connect) -> None:
    """The peer may still send, and is heard."""
    exchange = connect(Ends(), small_buffers())
    exchange.connection.write(LONG)
    exchange.connection.loseWriteConnection()
    exchange.loop.settle()
    before_fin = Ends()
    exec_into(exchange, before_fin)
    assert exchange.received() == LONG
    assert before_fin.events == ["write"]
    after_fin = Ends()
    exec_into(exchange, after_fin)
    exchange.client.send(b"still here")
    exchange.loop.settle()
    assert after_fin.data == b"still here"
    exchange.client.close()
    exchange.loop.until(lambda: exchange.owner.ends)
    assert exchange.owner.ends == [End.DONE]
    assert after_fin.events == ["read"]


def test_an_end_goes_on(connect: Connect) -> None:
    """A connection that was closing sends its rest, a FIN, and waits for the peer's."""
    exchange = connect(Lines(), small_buffers())
    exchange.connection.write(LONG)
    exchange.connection.loseConnection()
    exchange.loop.settle()
    exec_into(exchange, Lines())
    assert exchange.received() == LONG
    assert exchange.connection.lingering
    protocol = Lines()
    exec_into(exchange, protocol)
    exchange.client.send(b"ignored\n")
    exchange.loop.settle()
    assert exchange.owner.ends == []
    exchange.client.close()
    exchange.loop.until(lambda: exchange.owner.ends)
    assert exchange.owner.ends == [End.DONE]
    assert len(protocol.lost) == 1
    assert not protocol.data


def test_who_has_left_gets_the_rest(connect: Connect) -> None:
    """The peer's FIN was read by the old program: what it is owed goes out, then the connection ends."""
    exchange = connect(Lines(), small_buffers())
    exchange.connection.write(LONG)
    exchange.client.shutdown(socket.SHUT_WR)
    exchange.loop.settle()
    exec_into(exchange, Lines())
    assert exchange.received() == LONG
    assert exchange.owner.ends == [End.PEER]


def test_a_producer_that_waited_is_asked_for_more(connect: Connect) -> None:
    """Though the end of the connection was wanted already, and nothing is unsent at the moment."""
    protocol = Producing()
    exchange = connect(protocol, small_buffers())
    protocol.produce(0)
    exchange.connection.loseConnection()
    exchange.loop.settle()
    got = bytearray()
    while len(got) < 40 * 8 * 4096:
        exec_into(exchange, Producing())
        exchange.loop.turn()
        got += exchange.client.recv(100_000)
    assert got == b"".join(b"%8d" % number * 4096 for number in range(1, 41))
    assert exchange.received() == b""
    assert exchange.connection.lingering


def test_a_producer_that_waited_for_nothing_unsent_is_asked_for_more(connect: Connect) -> None:
    """Between the last byte's way out and the producer's turn."""
    frozen = Patient()
    exchange = connect(frozen)
    frozen.thaw(39)
    exchange.connection.loseConnection()
    exec_into(exchange, Patient(), producer_paused=True)
    assert exchange.received() == b"%8d" % 40 * 4096


def test_a_protocol_that_can_not_thaw_loses_its_connection(connect: Connect) -> None:
    """Others are not to blame."""
    exchange = connect(Lines())

    class Broken(Lines):
        def thaw(self, state: Any) -> None:
            raise ZeroDivisionError("a bug of a protocol")

    exec_into(exchange, Broken())
    exchange.loop.settle()
    assert exchange.owner.failures == ["thaw"]
    assert exchange.owner.ends == [End.FAILED]


def test_an_aborted_connection_stays_where_it_is(connect: Connect) -> None:
    """Its end is a matter of one turn of the reactor."""
    exchange = connect(Lines())
    exchange.connection.abortConnection()
    assert not exchange.connection.freezable
    exchange.loop.settle()
    assert not exchange.connection.freezable


@pytest.mark.parametrize(
    "wrong", [{}, {"peer": None}, {"end": "no such word"}, {"unsent_limit": None}, {"unsent": 3}]
)
def test_a_state_that_is_wrong_is_refused(connect: Connect, wrong: dict[str, Any]) -> None:
    """Another version may have written it: the rehearsal is to find that out."""
    exchange = connect(Lines())
    state = {**exchange.connection.hand_over(), **wrong} if wrong else {}
    with pytest.raises((KeyError, TypeError, ValueError)):
        Connection.take_over(
            state, exchange.connection.sock, exchange.turn, exchange.owner, Listening("here")
        )


@pytest.mark.parametrize(
    "peer",
    [
        Peer.inet(("192.0.2.1", 4000)),
        Peer.inet(("::ffff:192.0.2.1", 4000, 0, 0)),
        Peer.inet(("2001:db8::1", 4000, 0, 2), ((41, 50, b"\x01"),)),
        Peer.unix(0, 12, "/run/x\udcff.sock"),
        Peer.unix(0, 12, b"\x00abstract"),
        Peer.unix(None, None),
    ],
)
def test_a_peer_is_the_same_afterwards(peer: Peer) -> None:
    """Equal, so that it gets its replies, and shown alike."""
    thawed = Peer.thaw(peer.freeze())
    assert (thawed, thawed.text, thawed.control) == (peer, peer.text, peer.control)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.binary(max_size=20) | st.just(b"x\n") | st.just(LONG[:50_000])),
        st.tuples(st.just("say"), st.just(b"news\n") | st.just(LONG[:70_000])),
        st.tuples(st.just("read"), st.integers(1, 100_000)),
        st.tuples(st.sampled_from(["turn", "settle", "exec"]), st.none()),
    ),
    max_size=30,
)


@given(steps=STEPS, half=st.booleans(), finish_at=st.integers(0, 30), small=st.booleans())
def test_the_same_bytes_arrive_with_and_without(
    steps: list[tuple[str, Any]], half: bool, finish_at: int, small: bool
) -> None:
    """Whenever programs change: the reference is what one protocol would have said to one stream of bytes."""
    made = HalfLines if half else Lines
    exchange = Exchange(made(), small_buffers() if small else None)
    sent, got = bytearray(), bytearray()
    said: list[bytes] = []
    write = Connection.write

    def tell(connection: Connection, data: bytes) -> None:
        said.append(data)
        write(connection, data)

    finished = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "write", tell)
        for number, (step, what) in enumerate(steps):
            match step:
                case "send" if not finished:
                    with suppress(BlockingIOError):
                        sent += what[: exchange.client.send(what)]
                case "say" if not finished:
                    exchange.connection.write(what)
                case "read":
                    with suppress(BlockingIOError):
                        got += exchange.client.recv(what)
                case "turn":
                    exchange.loop.turn()
                case "settle":
                    exchange.loop.settle()
                case "exec" if exchange.connection.freezable:
                    exec_into(exchange, made())
            if number == finish_at:
                exchange.client.shutdown(socket.SHUT_WR)
                finished = True
        if not finished:
            exchange.client.shutdown(socket.SHUT_WR)
        if exchange.connection.freezable:
            exec_into(exchange, made())
        got += exchange.received()
        got += exchange.received()
    *lines, begun = bytes(sent).split(b"\n")
    answers = b"".join(line[::-1] + b"\n" for line in lines) + (b"rest: " + begun if half else b"")
    assert got == b"".join(said)
    assert b"".join(data for data in said if data not in (b"news\n", LONG[:70_000])) == answers
    assert exchange.counters.bytes_in == len(sent)
    assert exchange.counters.bytes_out == len(got)
    assert exchange.owner.ends == [End.DONE if half else End.PEER]
    exchange.close()
