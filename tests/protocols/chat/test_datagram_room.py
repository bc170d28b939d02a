"""A room of many datagram members: what one event says and sends is bounded, and nothing of it is lost."""

import pytest

from sockd.base.peers import Peer
from sockd.protocols.chat.datagram import DELIVERIES_PER_EVENT, SILENCE_LIMIT
from sockd.protocols.chat.outbox import CROWDED, LIMIT, OUTBOX_FULL, SENDS_PER_EVENT, Outbox
from sockd.protocols.chat.room import Member
from tests.protocols.chat.net import Net

MEMBERS = 300


def crowd(kind: str, net: Net) -> list[Peer]:
    """Members of a room, by UDP or by Unix datagrams; all but the first come from a program before."""

    def peer(number: int) -> Peer:
        if kind == "unix":
            return Peer.unix(1000, number, f"/run/{number}.sock")
        return Peer.inet((f"192.{number // 250}.{number % 250}.1", 4000))

    peers = [peer(number) for number in range(1, MEMBERS + 1)]
    if kind == "unix":
        net.receive(b"", peers[0])
    else:
        net.prove(peers[0])
    (first,) = net.listener.freeze()["sessions"]
    others = [
        {**first, "peer": each.freeze(), "name": f"guest{number}"}
        for number, each in enumerate(peers[1:], start=2)
    ]
    net.listener.thaw({"sessions": others})
    net.sent.clear()
    return peers


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_one_event_sends_some_and_the_rest_follows(kind: str) -> None:
    """A batch of 64 lines to 300 members is 19,200 datagrams: none of them is lost, and the order is kept."""
    net = Net(rate="1000/s")
    peers = crowd(kind, net)
    batch = [(b"line %d" % number, peers[number % 3]) for number in range(64)]
    net.listener.datagrams(batch)
    assert len(net.sent) <= SENDS_PER_EVENT
    assert len(net.listener.outbox) <= max(CROWDED, DELIVERIES_PER_EVENT) + MEMBERS
    assert net.paused
    net.clock.advance(0)
    assert not net.paused
    assert len(net.sent) == 64 * (MEMBERS - 1)
    heard = [data for data, to in net.sent if to == peers[-1]]
    assert heard == [b"<guest%d> line %d\n" % (number % 3 + 1, number) for number in range(64)]


def test_what_waits_goes_on_in_another_program() -> None:
    """An upgrade in the middle of it: what was read is said, and what was said is sent, once."""
    old = Net(rate="1000/s")
    peers = crowd("udp", old)
    old.listener.datagrams([(b"one\ntwo\nthree\nfour\nfive", peers[0]), (b"six", peers[1])])
    state, service = old.listener.freeze(), old.service.freeze()
    for call in tuple(old.clock.getDelayedCalls()):
        call.cancel()  # it is gone with its program
    new = Net(old.clock, rate="1000/s")
    new.service.thaw(service)
    new.listener.thaw(state)
    new.clock.advance(0)
    heard = [data for data, to in old.sent + new.sent if to == peers[-1]]
    assert heard == [b"<guest1> %s\n" % word for word in (b"one", b"two", b"three", b"four", b"five")] + [
        b"<guest2> six\n"
    ]


def test_members_by_a_stream_can_not_fill_memory() -> None:
    """What is said faster than a datagram socket sends it is dropped, and counted, beyond a bound."""
    net = Net()
    peers = crowd("udp", net)
    member = Member(lambda _: None, lambda: None)
    assert net.service.chat.admit(member)
    net.service.chat.welcome(member)
    for _ in range(LIMIT // len(peers) + 2):
        net.service.chat.say(member, "hello")
    assert len(net.listener.outbox) == LIMIT
    assert net.counters.refused[OUTBOX_FULL] > 0


def test_what_is_to_be_sent_leaves_before_the_socket_closes() -> None:
    """Each member is sent its goodbye, however many there are."""
    net = Net()
    peers = crowd("udp", net)
    net.listener.drain()
    assert {to for _, to in net.sent} == set(peers)  # the socket may be closed before the next turn
    net.listener.stop()
    assert not len(net.listener.outbox)
    net.clock.advance(0)


def test_a_closed_outbox_takes_nothing() -> None:
    """After the socket's end nothing is kept for it."""
    outbox = Outbox(lambda *_, **__: pytest.fail("nothing is to come"))
    outbox.add(b"late\n", None)  # type: ignore[arg-type]
    assert not len(outbox)


def test_a_crowd_that_is_silent_leaves_in_pieces() -> None:
    """300 members who are silent for as long leave in several events; those who stay are told of each."""
    net = Net()
    peers = crowd("udp", net)
    member_told: list[bytes] = []
    member = Member(member_told.append, lambda: None)
    assert net.service.chat.admit(member)
    net.service.chat.welcome(member)
    net.listener.sweep(net.clock.seconds() + SILENCE_LIMIT)
    gone = MEMBERS - len(list(net.listener.members()))
    assert 0 < gone <= DELIVERIES_PER_EVENT // MEMBERS + 2
    net.clock.advance(0)
    assert not list(net.listener.members())
    left = [line for line in member_told if b"silent for 5 minutes" in line]
    assert len(left) == len(peers)
