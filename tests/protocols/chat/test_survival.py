"""A chat whose program is replaced: every member goes on where it was, and is told nothing."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger

from sockd.base.peers import Peer
from sockd.protocols.chat.options import ChatOptions
from sockd.protocols.chat.service import SETTLE_SWEEPS, SWEEP_INTERVAL, ChatService
from sockd.protocols.contract import Host
from tests.protocols.chat.net import DAVE, ERIN, UNIX, Net
from tests.protocols.chat.session import Session, heard
from tests.protocols.reactors import ClockReactor


def test_members_go_on() -> None:
    """Names, rooms, what was said, who is where in which order, and the number of the next guest."""
    old = Session()
    alice, to_alice = old.connect("alice")
    bob, to_bob = old.connect("bob")
    carol, to_carol = old.connect("carol")
    alice.dataReceived(b"good morning\n")
    bob.dataReceived(b"/join Ops\n")
    alice.dataReceived(b"/join ops\n")
    bob.dataReceived(b"/leave\n")
    for transport in (to_alice, to_bob, to_carol):
        transport.clear()
    new = old.succeed((carol, to_carol), (bob, to_bob), (alice, to_alice))
    carol, bob, alice = new.came_back
    assert not heard(to_alice) + heard(to_bob) + heard(to_carol)
    alice.dataReceived(b"hello\n/who\n/rooms\n")
    assert heard(to_alice) == ["-- in Ops: alice", "-- rooms: lobby (1), Ops (1)"]
    bob.dataReceived(b"/leave\n/join OPS\n")
    assert heard(to_bob) == [
        "-- you are in no room",
        "-- said in Ops before:",
        "<alice> hello",
        "-- you are in Ops, with alice",
    ]
    new.connect()
    assert heard(to_carol) == ["-- guest4 joined"]
    carol.dataReceived(b"/who\n")
    assert heard(to_carol) == ["-- in lobby: carol, guest4"]
    assert [bytes(line) for line in new.service.chat.lobby.history] == [b"<alice> good morning\n"]


def test_freezing_changes_nothing() -> None:
    """It may be done any number of times, in the middle of a line, and the old program goes on."""
    session = Session()
    alice, to_alice = session.connect("alice")
    _, to_bob = session.connect("bob")
    alice.dataReceived(b"hel")
    assert alice.freeze() == alice.freeze()
    assert session.service.freeze() == session.service.freeze()
    session.succeed((alice, to_alice))
    alice.dataReceived(b"lo\n")
    assert heard(to_bob) == ["<alice> hello"]


def test_a_member_that_did_not_come_over_leaves() -> None:
    """Its connection broke on the way: the others hear of it, and a room that was its alone is forgotten."""
    old = Session()
    alice, to_alice = old.connect("alice")
    old.connect("bob")
    carol, _ = old.connect("carol")
    carol.dataReceived(b"/join ops\n")
    heard(to_alice)
    new = old.succeed((alice, to_alice))
    new.service.startService()
    (alice,) = new.came_back
    alice.dataReceived(b"/who\nhello?\n/rooms\n")
    assert heard(to_alice) == ["-- in lobby: alice, bob", "-- rooms: lobby (2), ops (1)"]
    for _ in range(SETTLE_SWEEPS):
        new.clock.advance(SWEEP_INTERVAL)
    assert heard(to_alice) == ["-- bob left: lost the connection"]
    alice.dataReceived(b"/rooms\n")
    assert heard(to_alice) == ["-- rooms: lobby (1)"]
    new.service.stopService()


def test_a_member_that_came_between_two_freezes() -> None:
    """A rehearsal may see a member whom the service's state doesn't hold yet, or elsewhere."""
    old = Session()
    state = old.service.freeze()
    alice, to_alice = old.connect("alice")
    bob, to_bob = old.connect("bob")
    alice.dataReceived(b"/join ops\n")
    bob.dataReceived(b"/leave\n")
    old.service.freeze = lambda: state  # type: ignore[method-assign]
    new = old.succeed((alice, to_alice), (bob, to_bob))
    chat = new.service.chat
    assert {key: [member.name for member in room.members] for key, room in chat.rooms.items()} == {
        "lobby": [],
        "ops": ["alice"],
    }
    assert list(chat.members) == ["alice", "bob"]
    with pytest.raises(ValueError, match="Alice is there twice"):
        chat.resume("Alice", None, print, print)


def test_a_flooding_member_goes_on_waiting() -> None:
    """The lines that it sent are said at its rate, in the new program too; then it is read from again."""
    old = Session()
    alice, to_alice = old.connect("alice")
    bob, to_bob = old.connect("bob")
    alice.dataReceived(b"".join(b"%d\n" % number for number in range(8)) + b"x" * 1025 + b"\nunfin")
    assert heard(to_bob) == [f"<alice> {number}" for number in range(4)]
    new = old.succeed((alice, to_alice), (bob, to_bob))
    alice, _ = new.came_back
    new.clock.advance(0)
    assert to_alice.paused
    assert not heard(to_bob)
    new.clock.pump([0.2] * 6)
    assert heard(to_bob) == [f"<alice> {number}" for number in range(4, 8)]
    assert heard(to_alice)[-1:] == ["-- that line was over 1024 bytes, so nobody was shown it"]
    assert not to_alice.paused
    alice.dataReceived(b"x\n" * 50)
    alice.connectionLost()
    assert not new.clock.getDelayedCalls()


def test_a_member_keeps_what_it_came_with() -> None:
    """Its own bounds, whatever the file says by now."""
    old = Session(queue=10_000)
    alice, to_alice = old.connect("alice")
    to_alice.limit = 0
    new = old.succeed((alice, to_alice), queue=65536, members=1)
    assert to_alice.limit == 10_000
    (alice,) = new.came_back
    for _ in range(12):
        alice.dataReceived(b"x" * 600 + b"\n")
        new.clock.advance(1)
    alice.dataReceived(b"/leave\n/join lobby\n")
    assert sum(len(line) > 600 for line in heard(to_alice)) == 8  # half of 10,000 bytes


def test_a_member_that_has_quit_stays_away() -> None:
    """A connection that only waits for its end has no member."""
    old = Session()
    alice, to_alice = old.connect("alice")
    alice.dataReceived(b"/quit\n")
    new = old.succeed((alice, to_alice))
    assert not new.service.chat.members
    new.came_back[0].dataReceived(b"hello\n")
    new.came_back[0].connectionLost()
    assert heard(to_alice) == ["-- goodbye"]


def test_another_first_room() -> None:
    """The file may name another one by now; the old one lives on while somebody is in it."""
    old = Session()
    alice, to_alice = old.connect("alice")
    new = old.succeed((alice, to_alice), room="hall")
    assert new.service.chat.lobby.name == "hall"
    new.came_back[0].dataReceived(b"/rooms\n")
    assert heard(to_alice) == ["-- rooms: lobby (1), hall (0)"]


def succeeded(net: Net) -> Net:
    """The same endpoint in the next program."""
    new = Net(net.clock)
    new.service.thaw(net.service.freeze())
    new.listener.thaw(net.listener.freeze())
    net.service.stopService()
    return new


def test_members_by_datagrams_go_on() -> None:
    """They are the same peers, by UDP with the address that they asked; who asked to join still can."""
    asked = Peer.inet(("192.0.2.9", 4009), ((0, 8, b"\x01\x00"),))
    old = Net()
    old.join(DAVE, "dave")
    old.join(asked, "ann")
    old.join(UNIX, "una")
    old.receive(b"/leave\n", UNIX)
    (challenge,) = old.receive(b"hello\n", ERIN)
    new = succeeded(old)
    assert not new.sent
    assert new.receive(b"/who\nhello\n", DAVE) == ["-- in lobby: dave, ann"]
    assert new.heard(asked) == ["<dave> hello"]
    assert new.receive(b"hello\n", UNIX) == [
        "-- you are in no room, so nobody hears that; /join ROOM enters one"
    ]
    code = challenge.split("/prove ")[1].split()[0].replace("-", "")
    assert new.receive(f"/prove {code}\n".encode(), ERIN)[0].startswith("-- welcome, you are guest4")
    assert new.listener.freeze() == succeeded(new).listener.freeze()


def test_silence_and_floods_are_counted_on() -> None:
    """A member that was asked leaves in time; one that heard that it is too fast doesn't hear it again."""
    old = Net()
    old.join(DAVE, "dave")
    old.join(UNIX, "una")
    old.receive(b"x\n" * 10, DAVE)
    new = succeeded(old)
    assert new.receive(b"x\n" * 10, DAVE) == []
    assert new.counters.refused == {"too fast": 1}
    new.clock.pump([SWEEP_INTERVAL] * 24)
    assert new.heard(DAVE)[-1].startswith("-- still there?")
    newest = succeeded(new)
    newest.clock.pump([SWEEP_INTERVAL] * 6)
    assert newest.heard(DAVE)[-1:] == ["-- you were silent for 5 minutes: goodbye"]


def test_a_reader_that_is_gone_is_remembered() -> None:
    """The ten seconds in which a Unix peer took nothing go on."""
    old = Net()
    old.join(DAVE, "dave")
    old.join(UNIX, "una")
    old.deaf.add(UNIX)
    old.receive(b"one", DAVE)
    new = succeeded(old)
    new.deaf.add(UNIX)
    new.clock.advance(10)
    assert new.receive(b"two", DAVE) == ["-- una left: does not read"]


LINE = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"/who", b"/rooms", b"/join ops", b"/leave", b"/nick al", b"x" * 1100, b"\r"]),
)


@given(st.lists(LINE, max_size=20).map(b"\n".join), st.data())
def test_any_moment(sent: bytes, data: st.DataObject) -> None:
    """Whenever the program is replaced, and however often, all members hear the same."""
    chunks = data.draw(st.lists(st.integers(0, len(sent)), max_size=8))
    steps = [
        (sent[start:end], data.draw(st.sampled_from([0.0, 0.1, 1.0])), data.draw(st.booleans()))
        for start, end in pairwise([0, *sorted(chunks), len(sent)])
    ]
    results: list[Any] = []
    for replacing in (False, True):
        session = Session()
        alice, to_alice = session.connect("alice")
        bob, to_bob = session.connect("bob")
        heard(to_alice)
        for chunk, seconds, replaced in steps:
            if not to_alice.paused:
                alice.dataReceived(chunk)
            if replaced and replacing:
                session = session.succeed((bob, to_bob), (alice, to_alice))
                bob, alice = session.came_back
            session.clock.advance(0)
            session.clock.advance(seconds)
        session.clock.pump([0.2] * 60)
        results.append((heard(to_alice), heard(to_bob), to_alice.paused))
    assert results[0] == results[1]


def test_guests_after_a_restart() -> None:
    """Their numbers don't begin where they began before: a name that is known isn't soon somebody else's."""
    host: Host[ChatOptions] = Host("lobby", ChatOptions(), ClockReactor(), Logger(), fail=lambda _error: None)
    starts = [ChatService(host).chat.guests for _ in range(20)]
    assert len(set(starts)) > 15
    assert all(10_000 <= start < 100_000 for start in starts)


def test_states_of_the_version_before() -> None:
    """A member whose state has no word of telnet, of its first line, or of when it came, goes on."""
    old = Session()
    alice, to_alice = old.connect("alice")
    bob, to_bob = old.connect("bob")
    frozen = alice.freeze()
    for name in ("telnet", "greeted", "known"):
        del frozen[name]
    alice.freeze = lambda: frozen  # type: ignore[method-assign]
    new = old.succeed((alice, to_alice), (bob, to_bob))
    heard(to_bob)
    new.came_back[0].dataReceived(b"GET / HTTP/1.1\n")
    assert heard(to_bob) == ["<alice> GET / HTTP/1.1"]
    net = Net()
    net.join(DAVE, "dave")
    state = net.listener.freeze()
    for session in state["sessions"]:
        del session["since"], session["known"]
    net.listener.freeze = lambda: state  # type: ignore[method-assign]
    (member,) = succeeded(net).listener.members()
    assert member.name == "dave"
