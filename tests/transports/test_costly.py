"""Sources whose certificates took OpenSSL long and were refused have to wait before they show others."""

from sockd.base.peers import Peer
from sockd.transports.costly import CHEAP, CostlySources

ANNA, BERTA = Peer.inet(("192.0.2.1", 1)), Peer.inet(("192.0.2.2", 1))


def test_a_hundredth_of_the_time() -> None:
    """A source that cost ten milliseconds waits for a second; others don't."""
    costly = CostlySources()
    assert not costly.bars(ANNA, 0.0)
    costly.failed(ANNA, 0.01, 0.0)
    assert costly.bars(ANNA, 0.9)
    assert costly.bars(Peer.inet(("192.0.2.1", 2)), 0.9)
    assert not costly.bars(BERTA, 0.9)
    assert not costly.bars(ANNA, 1.1)


def test_what_is_cheap() -> None:
    """Ordinary clients that are refused may try again immediately."""
    costly = CostlySources()
    costly.failed(ANNA, CHEAP, 0.0)
    assert not costly.bars(ANNA, 0.0)


def test_bounded() -> None:
    """The last thousand sources are remembered."""
    costly = CostlySources()
    for number in range(2000):
        costly.failed(Peer.inet((f"10.0.{number // 256}.{number % 256}", 1)), 1.0, 0.0)
    barred = [
        costly.bars(Peer.inet((f"10.0.{number // 256}.{number % 256}", 1)), 1.0) for number in range(2000)
    ]
    assert barred == [False] * 976 + [True] * 1024
