"""What the log says of refusals: what is new, by reason, and nothing where nothing is."""

from sockd.metrics import Counters
from sockd.services.refusals import Refusals
from tests.services.house import Events


def test_what_is_new_is_told() -> None:
    """Summed over the endpoint and its listeners, the most frequent first; each once."""
    log, counters = Events(), [Counters(), Counters()]
    refusals = Refusals("echo", counters, log.log)
    refusals.tell()
    assert not log.events
    counters[0].refused.update({"source network": 1, "datagrams": 5})
    counters[1].refused.update({"source network": 1})
    for _ in range(2):
        refusals.tell()
    assert log.messages() == ["echo: refused: 5 x datagrams, 2 x source network"]
    assert log.events[0]["refused"] == {"datagrams": 5, "source network": 2}
    counters[1].refused["datagrams"] += 1
    refusals.tell()
    assert log.messages()[-1] == "echo: refused: 1 x datagrams"
