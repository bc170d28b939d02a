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
