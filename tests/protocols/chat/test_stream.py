"""Members who come by a stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from sockd.base.metrics import End
from sockd.base.units import Rate
from sockd.protocols.chat.stream import GREETING_DELAY
from tests.protocols.chat.session import Session, Transport, heard


@pytest.fixture(name="session")
def _session() -> Session:
    return Session()


def test_a_conversation(session: Session) -> None:
    """Two people meet, talk and part."""
    alice, to_alice = session.connect("alice")
    bob, to_bob = session.connect("bob")
    assert heard(to_alice) == ["-- guest2 joined", "-- guest2 is now bob"]
    alice.dataReceived(b"hel")
    alice.dataReceived(b"lo\r\n")
    assert heard(to_bob) == ["<alice> hello"]
    bob.dataReceived(b"/quit bye\nunheard\n")
    assert heard(to_alice) == ["-- bob left: quit: bye"]
    assert heard(to_bob) == ["-- goodbye"]
    assert to_bob.disconnecting
    bob.connectionLost()
    assert not heard(to_alice)


def test_bound_of_the_queue() -> None:
    """The transport is told how much may wait for a member."""
    _, transport = Session(queue=10_000).connect()
    assert transport.limit == 10_000


def test_full() -> None:
    """A member for whom there is no place is told so and let go; its lines are ignored."""
    session = Session(members=1)
    session.connect()
    late = session.factory.buildProtocol(None)
    transport = Transport()
    late.makeConnection(transport)
    session.clock.advance(GREETING_DELAY)
    assert heard(transport) == ["-- the chat is full, with 1 member; try again later"]
    assert transport.disconnecting
    late.dataReceived(b"hello\n")
    late.connectionLost()
    assert len(session.service.chat.members) == 1


@pytest.mark.parametrize(
    ("end", "error", "reason"),
    [
        (End.PEER, ConnectionDone(), "closed the connection"),
        (End.RESET, ConnectionLost(), "lost the connection"),
        (End.SLOW, ConnectionLost(), "too slow a reader"),
        (End.IDLE, ConnectionDone(), "idle"),
        (None, ConnectionDone(), "closed the connection"),
        (None, ConnectionLost(), "lost the connection"),
    ],
)
def test_the_room_hears_why(session: Session, end: End | None, error: Exception, reason: str) -> None:
    """The room hears the transport's reason for a connection's end."""
    _, to_alice = session.connect("alice")
    bob, to_bob = session.connect("bob")
    heard(to_alice)
    to_bob.end = end
    bob.connectionLost(Failure(error))
    assert heard(to_alice) == [f"-- bob left: {reason}"]


def test_flood_is_slowed(session: Session) -> None:
    """Beyond its rate a member is not read from; what it has sent is said at that rate, all of it."""
    alice, to_alice = session.connect("alice")
    _, to_bob = session.connect("bob")
    alice.dataReceived(b"".join(b"%d\n" % number for number in range(8)) + b"unfin")
    assert heard(to_bob) == [f"<alice> {number}" for number in range(5)]
    assert to_alice.paused
    session.clock.advance(0.2)
    assert heard(to_bob) == ["<alice> 5"]
    assert to_alice.paused
    alice.dataReceived(b"ished\n")
    assert not heard(to_bob)
    session.clock.pump([0.2] * 3)
    assert heard(to_bob) == ["<alice> 6", "<alice> 7", "<alice> unfinished"]
    assert not to_alice.paused


def test_no_pause_without_need(session: Session) -> None:
    """A member that used up its rate and sends no more is still read from."""
    alice, to_alice = session.connect("alice")
    alice.dataReceived(b"x\n" * 5)
    assert not to_alice.paused


def test_flood_of_nothing_is_slowed(session: Session) -> None:
    """Blank lines and a line without end count by their size."""
    alice, to_alice = session.connect("alice")
    alice.dataReceived(b"\n" * 3000)
    assert not to_alice.paused
    alice.dataReceived(b"\n" * 65536)
    assert to_alice.paused
    session.clock.advance(1.3)
    assert not to_alice.paused
    for _ in range(20):
        alice.dataReceived(b"x" * 1000)
    assert to_alice.paused
    session.clock.advance(1.3)
    assert not to_alice.paused
    assert heard(to_alice)[-1] == "-- that line was over 1024 bytes, so nobody was shown it"


def test_what_is_allowed_is_not_all_said_at_once() -> None:
    """Where the rate is high, a read of many lines to many members lets others have their turn in between."""
    session = Session(rate=Rate(10_000, 1.0), members=1000)
    _, to_bob = session.connect("bob")
    for _ in range(498):
        session.connect()
    alice, to_alice = session.connect("alice")
    for _ in range(2):
        to_bob.clear()
        alice.dataReceived(b"".join(b"%d\n" % number for number in range(30)))
        assert to_alice.paused
        assert heard(to_bob) == [f"<alice> {number}" for number in range(3)]
        session.clock.advance(0)
        assert heard(to_bob) == [f"<alice> {number}" for number in range(3, 30)]
        assert not to_alice.paused


def test_answers_wait_for_their_reader() -> None:
    """A member that asks for more than it reads waits, instead of being closed as too slow a reader."""
    session = Session(rate=Rate(100, 1.0))
    alice, to_alice = session.connect("alice")
    to_alice.unsent = 20_000
    alice.dataReceived(b"/who\n")
    assert to_alice.paused
    session.clock.advance(0.05)
    assert not heard(to_alice)
    to_alice.unsent = 0
    session.clock.advance(0.05)
    assert heard(to_alice) == ["-- in lobby: alice"]
    assert not to_alice.paused


def test_lost_while_it_waits(session: Session) -> None:
    """A flooding member's end leaves no timer behind."""
    alice, _ = session.connect("alice")
    alice.dataReceived(b"x\n" * 50)
    alice.connectionLost()
    assert not session.clock.getDelayedCalls()
    assert not session.service.chat.members


def test_drain(session: Session) -> None:
    """When the daemon stops each member is told so, and not of all the others who leave."""
    members = [session.connect(name) for name in ("alice", "bob")]
    members[0][0].dataReceived(b"x\n" * 50)
    for protocol, transport in members:
        transport.clear()
        protocol.drain()
        assert heard(transport) == ["-- the server closes this connection"]
        assert transport.disconnecting
        protocol.connectionLost()
    assert not session.clock.getDelayedCalls()
    protocol, transport = session.connect()
    protocol.dataReceived(b"/quit\n")
    transport.clear()
    protocol.drain()
    assert not heard(transport)


@pytest.mark.parametrize("reason", [each.value for each in End])
def test_the_last_word(session: Session, reason: str) -> None:
    """Before sockd closes a connection the member is told why, and nobody else hears of it yet."""
    _, to_alice = session.connect("alice")
    bob, to_bob = session.connect("bob")
    heard(to_alice)
    bob.last_word(reason)
    assert heard(to_bob) == [f"-- this connection is closed: {reason}"]
    assert heard(to_alice) == []
    bob.dataReceived(b"/quit\n")
    heard(to_bob)
    bob.last_word(reason)
    assert heard(to_bob) == []


def test_the_name_of_the_transport(session: Session) -> None:
    """Sockd knows a member by its name, the first and each later one, but not one that was taken."""
    alice, to_alice = session.connect()
    assert to_alice.name == "guest1"
    alice.dataReceived(b"/nick alice\n")
    assert to_alice.name == "alice"
    bob, to_bob = session.connect("bob")
    bob.dataReceived(b"/nick alice\n")
    assert to_bob.name == "bob"


def test_greeting(session: Session) -> None:
    """A newcomer is greeted after a moment, or as soon as its first line is there; then the room hears."""
    _, to_alice = session.connect("alice")
    carol, to_carol = session.factory.buildProtocol(None), Transport()
    carol.makeConnection(to_carol)
    carol.dataReceived(b"\r\n")
    assert not heard(to_carol) + heard(to_alice)
    session.clock.advance(GREETING_DELAY)
    assert heard(to_carol)[0].startswith("-- welcome, you are guest2")
    assert heard(to_alice) == ["-- guest2 joined"]
    carol.dataReceived(b"hel")
    carol.dataReceived(b"lo\n")
    assert heard(to_alice) == ["<guest2> hello"]
    dave, to_dave = session.factory.buildProtocol(None), Transport()
    dave.makeConnection(to_dave)
    dave.dataReceived(b"hi\n")
    assert heard(to_dave)[0].startswith("-- welcome, you are guest3")
    assert heard(to_alice) == ["-- guest3 joined", "<guest3> hi"]
    gone, _ = session.factory.buildProtocol(None), Transport()
    gone.makeConnection(Transport())
    gone.connectionLost()
    assert not session.clock.getDelayedCalls()
    assert not heard(to_alice)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_client_of_another_protocol(session: Session, size: int, late: bool) -> None:
    """No line of it is said or run; the room hears nothing if it begins soon, however slowly it goes on."""
    _, to_alice = session.connect("alice")
    browser, to_browser = session.factory.buildProtocol(None), Transport()
    browser.makeConnection(to_browser)
    if late:
        session.clock.advance(GREETING_DELAY)
    sent = b"POST / HTTP/1.1\r\nCookie: session=SECRET\r\n\r\n/nick boss\nhello\n"
    for start in range(0, len(sent), size):
        if not to_browser.disconnecting:  # then a transport delivers nothing more
            browser.dataReceived(sent[start : start + size])
            session.clock.advance(GREETING_DELAY)
    session.clock.pump([1.0] * 10)
    assert to_browser.end is End.REFUSED
    answer = heard(to_browser)
    assert "HTTP/1.1 400 Bad Request" in answer
    assert answer[-1].startswith("This is a chat")
    browser.connectionLost()
    assert heard(to_alice) == (["-- guest2 joined", "-- guest2 left: spoke HTTP"] if late else [])
    assert not session.service.chat.lobby.history
    assert to_browser.refused == "not a chat: it speaks HTTP"
    assert list(session.service.chat.members) == ["alice"]


@pytest.mark.parametrize(
    ("sent", "protocol"),
    [
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01user\x00", "SOCKS"),  # whose 4 is Ctrl-D as well
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xff\xfd\x01\xff\xfa\x0a", "TLS"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01", "the PROXY protocol"),
        (b"\xff\xfd\x03\xff\xfb\x18PASS SECRET\r\x00", "IRC"),  # by a telnet
    ],
)
def test_clients_whose_bytes_mean_something_to_telnet(session: Session, sent: bytes, protocol: str) -> None:
    """They are known by their beginning all the same, and get no answer of telnet's."""
    _, to_alice = session.connect("alice")
    client, transport = session.factory.buildProtocol(None), Transport()
    client.makeConnection(transport)
    client.dataReceived(sent)
    assert transport.refused == f"not a chat: it speaks {protocol}"
    assert b"\xff" not in transport.value()
    assert not heard(to_alice)


def test_a_flood_of_blank_lines_before_the_first(session: Session) -> None:
    """Blank lines are no way to stay unknown and be read without a bound, nor do they fill memory."""
    protocol, transport = session.factory.buildProtocol(None), Transport()
    protocol.makeConnection(transport)
    for _ in range(2):
        assert not transport.paused
        protocol.dataReceived(b"\n" * 4096)
        assert protocol.freeze()["lines"]["rest"] == b""
    assert transport.paused


@given(st.lists(st.binary(max_size=30) | st.just(b"\n"), max_size=30).map(b"".join), st.data())
def test_any_chunking(sent: bytes, data: st.DataObject) -> None:
    """The others hear the same, however a member's bytes are cut into chunks and however long it waits."""
    results = []
    for cuts in ([], data.draw(st.lists(st.integers(0, len(sent)), max_size=10))):
        session = Session()
        alice, to_alice = session.connect("alice")
        _, to_bob = session.connect("bob")
        places = [0, *sorted(cuts), len(sent)]
        for start, end in pairwise(places):
            alice.dataReceived(sent[start:end])
            if data.draw(st.booleans()):
                session.clock.advance(1)
        session.clock.pump([0.2] * 40)
        results.append(heard(to_bob))
        assert to_alice.disconnecting or not to_alice.paused
    assert results[0] == results[1]


def test_the_name_in_a_certificate() -> None:
    """It stands behind the name in /who, and in no other place; it doesn't get longer than a line."""
    session = Session()
    known = {"anna": "anna.example", "berta": "x" * 300}
    for name, identity in known.items():
        protocol, transport = session.factory.buildProtocol(None), Transport()
        transport.identity = identity
        protocol.makeConnection(transport)
        protocol.dataReceived(f"/nick {name}\n".encode())
        session.clock.advance(10)
    other, transport = session.connect("carla")
    other.dataReceived(b"/who\n")
    assert transport.value() == f"-- in lobby: anna (anna.example), berta ({'x' * 99}…), carla\n".encode()
