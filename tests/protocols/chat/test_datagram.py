"""Members who come by datagrams."""

from collections.abc import Callable

import pytest

from sockd.base.lines import Mark
from sockd.base.peers import Peer
from sockd.protocols.chat import commands
from sockd.protocols.chat.datagram import GONE_CHECKS
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.rooms import Chat
from sockd.protocols.chat.service import SWEEP_INTERVAL
from tests.protocols.chat.net import DAVE, ERIN, UNIX, Net


@pytest.fixture(name="net")
def _net() -> Net:
    return Net()


def test_proving(net: Net) -> None:
    """A UDP peer is asked for a proof first; with it, it is a member, and its further lines are heard."""
    assert net.prove(DAVE, b"\n/nick dave\n/who") == [
        "-- welcome, you are guest1; /nick NAME changes that, /help lists the commands",
        "-- you are in lobby, with nobody else so far",
        "-- you are now dave",
        "-- in lobby: dave",
    ]


def test_unproven(net: Net) -> None:
    """A peer that has not proved its address is no member, hears nothing, is counted if not answered."""
    net.join(DAVE, "dave")
    assert len(net.receive(b"hello\n", ERIN)) == 1
    net.receive(b"let me in\n", DAVE)
    assert net.receive(b"/prove 0000-0000-0000\n", ERIN) == []
    assert len(net.receive(b"/prove 000000000000\n", ERIN)) == 1
    assert net.counters.refused == {"not a member": 1}
    assert net.heard(DAVE) == []


def test_talking(net: Net) -> None:
    """Members by UDP and by Unix datagrams talk in one room, each message in a datagram of its own."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    net.listener.datagrams([(b"one\ntwo", DAVE), (b"three\r\n", DAVE)])
    assert [data for data, to in net.sent if to == UNIX] == [
        b"<dave> one\n",
        b"<dave> two\n",
        b"<dave> three\n",
    ]
    assert net.heard(UNIX)
    net.receive(b"/me nods", UNIX)
    assert net.heard(DAVE) == ["* una nods"]


def test_unix_peer_is_vouched_for(net: Net) -> None:
    """A Unix datagram's sender is a member immediately, if it can be answered."""
    net.join(DAVE, "dave")
    assert net.receive(b"hello\n", UNIX)[0].startswith("-- welcome, you are guest2")
    assert net.heard(DAVE) == ["-- guest2 joined", "<guest2> hello"]
    assert net.receive(b"hello\n", Peer.unix(1000, 78)) == []
    assert net.counters.refused == {"no return address": 1}


def test_a_code_again(net: Net) -> None:
    """A member's own code, arriving twice, is nobody's text."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    assert net.receive(b"/prove 0123456789ab\n", DAVE) == []
    assert net.heard(UNIX) == []


def test_too_long(net: Net) -> None:
    """A line over the bound is refused in a datagram as well; the lines around it are said."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    assert net.receive(b"a\n" + b"x" * 1025 + b"\nb", DAVE) == [
        "-- that line was over 1024 bytes, so nobody was shown it"
    ]
    assert net.heard(UNIX) == ["<dave> a", "<dave> b"]


def test_flood_is_dropped(net: Net) -> None:
    """Lines beyond the rate are dropped and counted, with one notice until the member has rested."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    notice = ["-- faster than 5/s: what you send is dropped for a moment"]
    assert net.receive(b"x\n" * 10, DAVE) == notice
    assert len(net.heard(UNIX)) == 5
    for _ in range(10):
        net.clock.advance(0.1)
        assert net.receive(b"y\n", DAVE) == []
    assert len(net.heard(UNIX)) == 5
    assert net.counters.refused == {"too fast": 6}
    net.clock.advance(2)
    assert net.receive(b"z\n" * 6, DAVE) == notice
    assert len(net.heard(UNIX)) == 5


def test_full() -> None:
    """A peer for whom there is no place is told so, and counted."""
    net = Net(members=1)
    net.join(DAVE, "dave")
    assert net.receive(b"hello\n", UNIX) == ["-- the chat is full, with 1 member; try again later"]
    assert net.counters.refused == {"chat full": 1}
    assert net.receive(b"/quit", DAVE) == ["-- goodbye"]
    assert net.receive(b"hello\n", UNIX)[0].startswith("-- welcome")


def test_quit(net: Net) -> None:
    """A member that quits is forgotten, with the rest of its datagram, and has to prove itself anew."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    assert net.receive(b"/quit gone\nunheard\n", DAVE) == ["-- goodbye"]
    assert net.heard(UNIX) == ["-- dave left: quit: gone"]
    assert net.receive(b"hello\n", DAVE)[0].startswith("-- to join, send /prove ")


def test_silence(net: Net) -> None:
    """A silent UDP member is asked once, then leaves; any datagram, an empty one too, keeps it."""
    net.join(DAVE, "dave")
    net.join(ERIN, "erin")
    net.clock.pump([10.0] * 24)
    assert net.heard(DAVE) == net.heard(ERIN) == ["-- still there? send anything, or you leave in a minute"]
    assert net.receive(b"", ERIN) == []
    net.clock.pump([10.0] * 6)
    assert net.heard(DAVE) == ["-- you were silent for 5 minutes: goodbye"]
    assert net.heard(ERIN) == ["-- dave left: silent for 5 minutes"]
    net.clock.pump([10.0] * 18)
    assert net.heard(ERIN) == ["-- still there? send anything, or you leave in a minute"]


def test_silence_on_a_unix_socket(net: Net) -> None:
    """A member there may read for hours; once nobody has its socket any more it leaves, unasked."""
    net.join(UNIX, "una")
    net.join(ERIN, "erin")
    for _ in range(100):
        net.clock.pump([10.0] * 10)
        net.receive(b"", ERIN)
    assert net.heard(UNIX) == net.heard(ERIN) == []
    net.left.add(UNIX)
    net.clock.pump([10.0] * 6)
    assert net.heard(ERIN) == ["-- una left: its socket is gone"]
    assert net.heard(UNIX) == []
    assert net.logged[-1] == "lobby: uid=1000,pid=77, una, left: its socket is gone"


def test_many_silent_members_are_asked_about_in_turns(net: Net) -> None:
    """One sweep asks the kernel about few of them; all had their turn after some."""
    members = [Peer.unix(1000, 77, f"/run/{number}.sock") for number in range(GONE_CHECKS + 1)]
    for member in members:
        net.receive(b"", member)
    net.left.update(members)
    net.clock.pump([10.0] * 6)
    assert len(list(net.listener.members())) == 1
    net.clock.pump([10.0])
    assert not list(net.listener.members())


@pytest.mark.parametrize("peer", [DAVE, UNIX])
def test_a_client_of_another_protocol(net: Net, peer: Peer) -> None:
    """It never joins, nobody hears of it, and only a peer whose address is certain has an answer."""
    net.join(ERIN, "erin")
    answer = net.receive(b"POST / HTTP/1.1\r\nCookie: SECRET\r\n\r\n/nick boss\n", peer)
    assert answer[:1] == (["HTTP/1.1 400 Bad Request"] if peer.local else [])
    assert net.heard(ERIN) == []
    assert [each.name for each in net.listener.members()] == ["erin"]
    assert net.counters.refused == {"not a chat": 1}
    assert net.why == "it speaks HTTP"


@pytest.mark.parametrize("together", [True, False])
def test_a_client_of_another_protocol_that_proved_itself(net: Net, together: bool) -> None:
    """Behind the code, or in the first datagram with a line after it: nobody is shown it or what follows."""
    net.join(ERIN, "erin")
    sent = b"\nPASS SECRET\r\nNICK boss\r\n"
    if together:
        answer = net.prove(DAVE, sent)
    else:
        net.prove(DAVE)
        assert net.receive(b"", DAVE) == []
        answer = net.receive(sent, DAVE)
    assert answer[-1].startswith("ERROR :")
    heard = net.heard(ERIN)
    assert heard == ([] if together else ["-- guest2 joined", "-- guest2 left: spoke IRC"])
    assert [each.name for each in net.listener.members()] == ["erin"]


def test_later_lines_may_say_anything(net: Net) -> None:
    """Only the first line decides: a member may paste a request."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    net.receive(b"GET / HTTP/1.1\nHost: x", DAVE)
    assert net.heard(UNIX) == ["<dave> GET / HTTP/1.1", "<dave> Host: x"]


def test_members_are_listed_and_let_go(net: Net) -> None:
    """Each with its name and times; one that is let go is told why, the room and the log hear it."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    net.clock.advance(7)
    net.receive(b"/nick diver", DAVE)
    net.clock.advance(2)
    now = net.clock.seconds()
    assert [(each.peer, each.name, now - each.since, each.idle) for each in net.listener.members()] == [
        (DAVE, "diver", 11, 2),
        (UNIX, "una", 10, 10),
    ]
    net.sent.clear()
    assert net.listener.end_member(DAVE, "kicked")
    assert net.heard(DAVE) == ["-- this connection is closed: kicked"]
    assert net.heard(UNIX) == ["-- diver left: kicked"]
    assert net.logged[-1] == "lobby: 192.0.2.4:4004, diver, left: kicked"
    assert not net.listener.end_member(DAVE, "kicked")


def test_a_reader_that_is_gone(net: Net) -> None:
    """A Unix peer that takes nothing for ten seconds leaves; one that took something in between stays."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    net.deaf.add(UNIX)
    net.receive(b"one", DAVE)
    net.clock.advance(9)
    net.receive(b"two", DAVE)
    net.deaf.clear()
    net.receive(b"three", DAVE)
    net.deaf.add(UNIX)
    net.clock.advance(9)
    net.receive(b"four", DAVE)
    assert net.heard(DAVE) == []
    net.clock.advance(10)
    assert net.receive(b"five", DAVE) == ["-- una left: does not read"]


def test_udp_that_is_gone(net: Net) -> None:
    """A datagram that the kernel can't send by UDP says nothing about the peer."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    net.deaf.add(DAVE)
    for _ in range(5):
        net.clock.advance(10)
        net.receive(b"hello", UNIX)
    assert len(net.service.chat.members) == 2


@pytest.mark.parametrize(("uid", "pid"), [(1000, 99), (1001, 77)])
def test_another_process_has_the_socket(net: Net, uid: int, pid: int) -> None:
    """A process that takes over the path of a member that has gone is another member, and is welcomed."""
    net.join(UNIX, "una")
    net.join(DAVE, "dave")
    other = Peer.unix(uid, pid, UNIX.sockaddr)
    assert net.receive(b"hello", other)[0].startswith("-- welcome, you are guest3")
    assert net.heard(DAVE) == [
        "-- una left: another process has its socket now",
        "-- guest3 joined",
        "<guest3> hello",
    ]


@pytest.mark.parametrize("mangle", [bytes, lambda data: b"Echo: " + data, bytes.strip, bytes.upper])
def test_reflection(net: Net, mangle: Callable[[bytes], bytes]) -> None:
    """A service that returns what it gets never becomes a member, and the exchange ends there."""
    net.listener.datagrams([(b"forged", DAVE)])
    for _ in range(10):
        sent, net.sent = net.sent, []
        net.listener.datagrams([(mangle(data), DAVE) for data, _ in sent])
    assert not net.sent
    assert not net.service.chat.members


def test_two_chats() -> None:
    """Two chats that are set against each other by a forged datagram fall silent immediately."""
    one, other = Net(), Net()
    one.listener.datagrams([(b"forged", DAVE)])
    exchanged = 0
    while one.sent or other.sent:
        for here, there in ((one, other), (other, one)):
            sent, here.sent = here.sent, []
            exchanged += len(sent)
            there.listener.datagrams([(data, ERIN) for data, _ in sent])
        assert exchanged < 3
    assert not one.service.chat.members
    assert not other.service.chat.members


def test_drain(net: Net) -> None:
    """When the daemon stops each member is told so, and not of the others who leave."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    net.listener.drain()
    assert net.heard(DAVE) == net.heard(UNIX) == ["-- the server closes this connection"]
    assert not net.service.chat.members


def test_an_address_is_closed(net: Net) -> None:
    """Members by other addresses hear soon, in one line, who left with it."""
    told: list[bytes] = []
    member = Member(told.append, lambda: None)
    assert net.service.chat.admit(member)
    net.service.chat.welcome(member)
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    told.clear()
    net.listener.drain()
    net.listener.stop()
    assert not told
    net.clock.advance(SWEEP_INTERVAL)
    net.clock.advance(SWEEP_INTERVAL)
    assert told == [b"-- dave, una left: the server closed the connection\n"]


def test_the_log_tells_of_them(net: Net) -> None:
    """Each join and departure is logged once, with the reason; a peer that found no place never joined."""
    net.join(UNIX, "una")
    net.prove(DAVE)
    net.receive(b"/quit for lunch", DAVE)
    net.listener.drain()
    assert net.logged == [
        "lobby: uid=1000,pid=77 joined as guest1",
        "lobby: 192.0.2.4:4004 joined as guest2",
        "lobby: 192.0.2.4:4004, guest2, left: quit",
        "lobby: uid=1000,pid=77, una, left: the server closes this connection",
    ]


def test_stop(net: Net) -> None:
    """A closed listener's members leave, and those of others hear why; the service leaves no timer."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    told: list[bytes] = []
    member = Member(told.append, lambda: None)
    assert net.service.chat.admit(member)
    net.service.chat.welcome(member)
    net.clock.advance(0)
    net.sent.clear()
    net.listener.stop()
    assert told[-2:] == [b"-- dave left: its listener closed\n", b"-- una left: its listener closed\n"]
    assert not net.sent
    net.clock.pump([10.0] * 40)
    net.service.startService()
    net.service.stopService()
    net.service.stopService()
    assert not net.clock.getDelayedCalls()


def test_lines_behind_one_that_fails_are_nobody_elses(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a command costs the rest of its datagram; the next speaker says only what is theirs."""
    net.join(DAVE, "dave")
    net.join(UNIX, "una")
    handle = commands.handle

    def fails(chat: Chat, member: Member, line: bytes | Mark) -> None:
        if line == b"boom":
            raise RuntimeError("a bug")
        handle(chat, member, line)

    failures: list[str] = []
    monkeypatch.setattr(commands, "handle", fails)
    monkeypatch.setattr(net, "failed", failures.append)
    net.listener.datagrams([(b"boom\nsecret of dave\n", DAVE), (b"hello\n", UNIX)])
    assert net.heard(DAVE) == ["<una> hello"]
    assert failures == ["datagram"]
