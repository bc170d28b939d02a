"""What is refused is logged in one line now and then, and only what is new."""

from itertools import count
from typing import Any

from twisted.internet.task import Clock

from sockd.base.metrics import Counters
from sockd.base.peers import Peer
from sockd.limits.sources import source_text
from sockd.tree.refusals import REFUSALS_LOGGED, REFUSALS_LOGGED_PER_SOURCE, Refusals
from tests.tree.house import Events


def test_only_what_is_new_is_logged() -> None:
    """Of all listeners together, the most frequent first; nothing where there is nothing."""
    log, counters = Events(), (Counters(), Counters())
    refusals = Refusals("lobby", Clock(), log.log)
    refusals.log(*counters)
    assert not log.messages()
    counters[0].refused["datagrams"] += 2
    counters[1].refused["datagrams"] += 1
    counters[1].refused["by the protocol"] += 5
    refusals.log(*counters)
    refusals.log(*counters)
    counters[0].refused["datagrams"] += 4
    refusals.log(*counters)
    refusals.log(*counters)
    assert log.messages() == [
        "lobby: refused: 5 x by the protocol, 3 x datagrams",
        "lobby: refused: 4 x datagrams",
    ]
    assert [event["refused"] for event in log.named("refused")] == [
        {"by the protocol": 5, "datagrams": 3},
        {"datagrams": 4},
    ]


def test_dropped_bytes_have_a_line_of_their_own() -> None:
    """Bytes by the end of their connections, those of a listener that is gone included."""
    log, gone, there = Events(), Counters(), Counters()
    refusals = Refusals("lobby", Clock(), log.log)
    gone.dropped["kicked"] += 7
    refusals.keep(gone)
    there.dropped["drained"] += 1840
    refusals.log(there)
    refusals.log(there)
    assert log.messages() == [
        "lobby: dropped of connections that ended: 1840 bytes (drained), 7 bytes (kicked)"
    ]
    (event,) = log.named("dropped")
    assert event["dropped"] == {"drained": 1840, "kicked": 7}


def refused(*peers: Peer, reason: str = "connect_rate", why: Any = "") -> tuple[Refusals, Events, Clock]:
    """What becomes of these refusals, in their order."""
    log, clock = Events(), Clock()
    refusals = Refusals("lobby", clock, log.log)
    for peer in peers:
        refusals.note("tcp://*:7070", reason, peer, why)
    return refusals, log, clock


def test_a_refused_peer_has_a_line() -> None:
    """With its address, the listener, the counter's name, and the reason in words."""
    _, log, _ = refused(Peer.inet(("192.0.2.7", 4711)), why=lambda: "more than 1/m from 192.0.2.7")
    assert log.messages() == [
        "lobby: 192.0.2.7:4711 on tcp://*:7070: refused: connect_rate (more than 1/m from 192.0.2.7)"
    ]
    (event,) = log.named("peer refused")
    assert (event["peer"], event["reason"]) == ("192.0.2.7:4711", "connect_rate")


def test_a_user_is_named_next_to_the_uid() -> None:
    """Of a Unix peer; one whose uid has no name is refused without."""
    _, log, _ = refused(Peer.unix(0, 12), Peer.unix(3_000_000_001, 13), reason="access")
    assert log.messages() == [
        "lobby: uid=0,pid=12 (root) on tcp://*:7070: refused: access",
        "lobby: uid=3000000001,pid=13 on tcp://*:7070: refused: access",
    ]


def test_one_noisy_source_hides_no_other() -> None:
    """It has a few lines a minute for each reason, and none of its words is even made."""
    noisy = [Peer.inet(("192.0.2.7", port)) for port in range(1000)]
    made = count()
    refusals, log, clock = refused(*noisy, why=lambda: f"reason {next(made)}")
    clock.advance(1)
    assert len(log.messages()) == next(made) == REFUSALS_LOGGED_PER_SOURCE.count
    refusals.note("tcp://*:7070", "connect_rate", Peer.inet(("192.0.2.8", 1)))
    refusals.note("tcp://*:7070", "access", noisy[0])
    assert len(log.messages()) == REFUSALS_LOGGED_PER_SOURCE.count + 2
    counters = Counters()
    counters.refused.update({"connect_rate": 1001, "access": 1})
    refusals.log(counters)
    assert log.messages()[-1] == (
        "lobby: refused: 1001 x connect_rate, 1 x access; 990 of them without a line of their own"
    )


def test_lines_of_many_sources_are_bounded() -> None:
    """So many a second, whoever comes; each source has its account all the same."""
    refusals, log, clock = refused(*(Peer.inet((f"192.0.2.{number}", 1)) for number in range(250)))
    assert len(log.messages()) == REFUSALS_LOGGED.count
    assert len(refusals.accounts) == 250
    clock.advance(1)
    refusals.note("tcp://*:7070", "connect_rate", Peer.inet(("192.0.2.255", 1)))
    assert len(log.messages()) == REFUSALS_LOGGED.count + 1


def test_a_64_is_one_source() -> None:
    """As it is to the limits: whoever has one network has any address of it."""
    peers = [Peer.inet((f"2001:db8::{number:x}", 1)) for number in range(1, 100)]
    refusals, log, _ = refused(*peers)
    assert len(log.messages()) == REFUSALS_LOGGED_PER_SOURCE.count
    assert [source_text(one) for one, _ in refusals.accounts.items()] == ["2001:db8::/64"]


def test_what_was_logged_is_not_logged_again_by_the_next_program() -> None:
    """An upgrade carries the accounts, and how much of the counters the log has seen."""
    refusals, log, _ = refused(Peer.inet(("192.0.2.7", 4711)))
    counters = Counters()
    counters.refused["connect_rate"] = 5
    refusals.log(counters)
    again = Refusals("lobby", Clock(), log.log)
    again.thaw(refusals.freeze())
    counters.refused["connect_rate"] += 1
    again.log(counters)
    assert log.messages()[-1] == "lobby: refused: 1 x connect_rate"
    assert [source_text(one) for one, _ in again.accounts.items()] == ["192.0.2.7"]
