"""New options for a chat that people are in."""

from typing import Any

from sockd.base.units import Rate
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.service import SETTLE_SWEEPS, SWEEP_INTERVAL
from tests.protocols.chat.net import DAVE, UNIX, Net
from tests.protocols.chat.session import Session, heard


def said(session: Session, name: str = "lobby") -> list[str]:
    """The history that a member who joins now is shown."""
    visitor, transport = session.connect("visitor")
    visitor.dataReceived(b"/leave\n")
    transport.clear()
    visitor.dataReceived(f"/join {name}\n".encode())
    lines = heard(transport)
    visitor.dataReceived(b"/quit\n")
    return lines[1:-1]


def settle(session: Session) -> None:
    session.service.startService()
    for _ in range(SETTLE_SWEEPS):
        session.clock.advance(SWEEP_INTERVAL)
    session.service.stopService()


def test_nobody_is_thrown_out() -> None:
    """Lower bounds are for who comes, and for rooms that are made, from now on."""
    session = Session()
    alice, to_alice = session.connect("alice")
    bob, to_bob = session.connect("bob")
    bob.dataReceived(b"/join ops\n")
    session.service.reload(ChatOptions(members=1, rooms=1))
    _, to_carol = session.connect()
    assert to_carol.disconnecting
    heard(to_alice)
    alice.dataReceived(b"/join dev\n")
    assert heard(to_alice) == ["-- there may be no more than 2 rooms; /rooms lists them"]
    heard(to_bob)
    alice.dataReceived(b"/join ops\n")
    assert heard(to_bob) == ["-- alice joined"]


def test_a_shorter_history() -> None:
    """It holds immediately; lines beyond it are forgotten when the reload can't be undone any more."""
    session = Session()
    alice, _ = session.connect("alice")
    for number in range(4):
        alice.dataReceived(b"%d\n" % number)
        session.clock.advance(1)
    session.service.reload(ChatOptions(history=2))
    assert said(session) == ["<alice> 2", "<alice> 3"]
    alice.dataReceived(b"4\n")
    assert said(session) == ["<alice> 3", "<alice> 4"]
    session.service.reload(ChatOptions())
    assert said(session) == [f"<alice> {number}" for number in range(5)]
    session.service.reload(ChatOptions(history=2))
    settle(session)
    session.service.reload(ChatOptions(history=10))
    assert said(session) == ["<alice> 3", "<alice> 4"]
    settle(session)
    for number in range(5, 20):
        alice.dataReceived(b"%d\n" % number)
        session.clock.advance(1)
    assert said(session) == [f"<alice> {number}" for number in range(10, 20)]


def test_a_member_is_shown_no_more_than_it_can_take() -> None:
    """The history that joining shows is bounded by the member's own queue, and by the one of today."""
    session = Session(queue=8192)
    alice, to_alice = session.connect("alice")
    session.service.reload(ChatOptions(queue=65536))
    bob, to_bob = session.connect("bob")
    for _ in range(12):
        bob.dataReceived(b"x" * 1000 + b"\n")
        session.clock.advance(2)
    for member, transport, shown in ((alice, to_alice, 4), (bob, to_bob, 12)):
        member.dataReceived(b"/join ops\n")
        session.clock.advance(2)
        transport.clear()
        member.dataReceived(b"/join lobby\n")
        assert sum(len(line) > 1000 for line in heard(transport)) == shown
        session.clock.advance(2)


def test_another_first_room() -> None:
    """New members enter the new one; the old one lives on while somebody is in it."""
    session = Session()
    alice, to_alice = session.connect("alice")
    alice.dataReceived(b"hello\n")
    session.service.reload(ChatOptions(room="hall"))
    bob, to_bob = session.connect("bob")
    settle(session)
    bob.dataReceived(b"/rooms\n")
    assert heard(to_bob) == ["-- rooms: lobby (1), hall (1)"]
    alice.dataReceived(b"/join hall\n/rooms\n")
    assert heard(to_alice)[-1] == "-- rooms: hall (2)"


def test_another_first_room_that_is_taken_back() -> None:
    """The lines of an empty first room are still there; the other room is forgotten."""
    session = Session()
    alice, _ = session.connect("alice")
    alice.dataReceived(b"hello\n/quit\n")
    session.service.reload(ChatOptions(room="hall"))
    session.service.reload(ChatOptions())
    settle(session)
    assert list(session.service.chat.rooms) == ["lobby"]
    assert said(session) == ["<alice> hello"]


def test_the_first_room_in_another_case() -> None:
    """It is the same room, under the name that the file has now."""
    session = Session()
    alice, to_alice = session.connect("alice")
    session.service.reload(ChatOptions(room="Lobby"))
    alice.dataReceived(b"/who\n")
    assert heard(to_alice) == ["-- in Lobby: alice"]


def test_a_rate_for_later_members_by_datagrams() -> None:
    """Members that are there keep theirs, and the listener is not made anew."""
    net = Net()
    net.join(DAVE, "dave")
    net.listener.reload(ChatOptions(rate=Rate(2, 1.0)))
    net.join(UNIX, "una")
    net.clock.advance(2)

    def dropped(peer: Any) -> list[str]:
        return [line for line in net.receive(b"x\n" * 10, peer) if line.startswith("-- faster")]

    assert dropped(DAVE) == ["-- faster than 5/s: what you send is dropped for a moment"]
    assert dropped(UNIX) == ["-- faster than 2/s: what you send is dropped for a moment"]
