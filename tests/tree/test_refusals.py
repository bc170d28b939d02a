"""What is refused is logged in one line now and then, and only what is new."""

from sockd.base.metrics import Counters
from sockd.tree.refusals import Refusals
from tests.tree.house import Events


def test_only_what_is_new_is_logged() -> None:
    """Of all listeners together, the most frequent first; nothing where there is nothing."""
    log, counters = Events(), (Counters(), Counters())
    refusals = Refusals("lobby", log.log)
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
    refusals = Refusals("lobby", log.log)
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
