"""Connections and attempts of a source: as a plain count would have it, however connections come and go."""

from collections import Counter
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from sockd.base.peers import Peer
from sockd.base.units import Rate
from sockd.limits.sources import Sources, neighbours, source

HOSTS = (
    "192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "10.0.0.1",
)  # fmt: skip
EXEMPT = (ip_network("10.0.0.0/8"),)


def inet(host: str, port: int = 40000) -> Peer:
    return Peer.inet((host, port, 0, 0))


PEERS = st.builds(inet, st.sampled_from(HOSTS), st.integers(1, 65535)) | st.builds(
    Peer.unix, st.sampled_from((0, 1000, None)), st.integers(1, 9)
)
# A peer connects after some time, or the connection of that number ends.
STEPS = st.lists(st.tuples(PEERS, st.integers(0, 32).map(lambda n: n / 8)) | st.integers(0, 50), max_size=100)


def plain_key(peer: Peer) -> str:
    """The plain rule of what counts as one source, from the docs."""
    if peer.local:
        return f"uid {peer.uid}"
    return "2001:db8::/64" if peer.host in HOSTS[3:5] else peer.host


@given(steps=STEPS, most=st.integers(1, 3))
def test_connections_as_counted(steps: list[tuple[Peer, float] | int], most: int) -> None:
    """Refused is exactly who has as many already; exempt peers never; at the end nothing is left."""
    sources = Sources(most, None, EXEMPT)
    there: list[Peer] = []
    counts: Counter[str] = Counter()
    for step in steps:
        if isinstance(step, int):
            if step < len(there):
                gone = there.pop(step)
                sources.release(gone)
                counts[plain_key(gone)] -= 1
            continue
        peer, _ = step
        full = counts[plain_key(peer)] >= most and peer.host != "10.0.0.1"
        assert sources.take(peer, 0.0) == ("connections_per_source" if full else None)
        if not full:
            there.append(peer)
            counts[plain_key(peer)] += 1
        assert len(sources) == sum(count > 0 for key, count in counts.items() if key != "10.0.0.1")
    for peer in there:
        sources.release(peer)
    assert len(sources) == 0


@given(
    steps=STEPS,
    rate=st.builds(Rate, st.integers(1, 10), st.sampled_from([1.0, 60.0])),
    most=st.integers(1, 3),
)
def test_attempts_and_connections(steps: list[tuple[Peer, float] | int], rate: Rate, most: int) -> None:
    """With both limits: no more attempts pass than the rate, and connections end where they were counted."""
    sources = Sources(most, rate, EXEMPT, limit=2)
    there: list[Peer] = []
    passed: Counter[str] = Counter()
    now = 0.0
    for step in steps:
        if isinstance(step, int):
            if step < len(there):
                sources.release(there.pop(step))
            continue
        peer, wait = step
        now += wait
        refusal = sources.take(peer, now)
        if peer.host == "10.0.0.1":
            assert refusal is None
            there.append(peer)
            continue
        passed[plain_key(peer)] += refusal != "connect_rate"
        assert passed[plain_key(peer)] <= rate.count + rate.per_second * now + 1e-3
        if refusal is None:
            there.append(peer)
    for peer in there:
        sources.release(peer)
    sources.forget(now + rate.per)
    assert len(sources) == 0
    assert all(
        sources.take(inet(host), now + 240) is None for host in ("192.0.2.1", "2001:db8:9::", "10.0.0.1")
    )


def test_what_the_rate_refuses_is_no_connection() -> None:
    """An attempt that the number of connections refuses counts too."""
    sources = Sources(2, Rate(1, 3600.0))
    peer = inet("192.0.2.1")
    assert [sources.take(peer, 0.0), sources.take(peer, 0.0)] == [None, "connect_rate"]
    sources.release(peer)
    assert len(sources) == 1  # the attempt
    sources = Sources(1, Rate(2, 1.0))
    said = [sources.take(peer, 0.0) for _ in range(3)]
    assert said == [None, "connections_per_source", "connect_rate"]


def test_connections_there_already() -> None:
    """They count under new limits, even where they are too many, and go as others do."""
    sources = Sources(1, Rate(1, 3600.0), EXEMPT)
    for host in ("192.0.2.1", "192.0.2.1", "10.0.0.1"):
        sources.add(inet(host))
    assert sources.take(inet("192.0.2.1"), 0.0) == "connections_per_source"
    for _ in range(2):
        sources.release(inet("192.0.2.1", 9))
    sources.release(inet("10.0.0.1"))
    assert sources.take(inet("192.0.2.1"), 3600.0) is None


def test_no_limits() -> None:
    """Nothing is counted where nothing is limited."""
    sources = Sources(None, None)
    for peer in (inet("192.0.2.1"), Peer.unix(0, 1)):
        assert sources.take(peer, 0.0) is None
        sources.add(peer)
        sources.release(peer)
    sources.forget(9.0)
    assert len(sources) == 0


def test_what_is_one_source() -> None:
    """An IPv4 address, an IPv6 /64, a uid; and what shares a bucket when there are too many of them."""
    assert source(inet("::ffff:192.0.2.1")) == source(inet("192.0.2.1"))
    assert source(inet("fe80::1%eth0")) == source(inet("fe80::2%eth1"))
    assert source(inet("2001:db8::1")) != source(inet("2001:db8:0:1::1"))
    assert neighbours(source(inet("2001:db8::1"))) == neighbours(source(inet("2001:db8:0:1::1")))
    assert neighbours(source(inet("2001:db8::1"))) != neighbours(source(inet("2001:db8:1::1")))
    assert neighbours(source(inet("192.0.2.1"))) == neighbours(source(inet("192.0.2.254")))
    assert neighbours(source(inet("192.0.2.1"))) != neighbours(source(inet("192.0.3.1")))
    assert neighbours(source(Peer.unix(1000, 1))) == 1000
    assert source(Peer.unix(None, None)) is None


def test_many_sources_can_not_free_one() -> None:
    """A source over its rate stays so whoever else comes; one network's flood refuses no other's peers."""
    sources = Sources(None, Rate(1, 3600.0), limit=100)
    tripped = inet("192.0.2.1")
    sources.take(tripped, 0.0)
    for number in range(1000):
        sources.take(inet(f"2001:db8:0:{number:x}::1"), 0.0)
    assert len(sources) == 100
    assert sources.take(tripped, 1.0) == "connect_rate"
    assert sources.take(inet("2001:db8:0:ffff::1"), 1.0) == "connect_rate"
    newcomers = [inet(f"198.51.{number}.1") for number in range(20)]
    assert sum(sources.take(peer, 1.0) is None for peer in newcomers) >= 12  # 20 in 1,024 shared buckets


BATCHES = st.lists(
    st.tuples(st.lists(PEERS, min_size=1, max_size=70), st.integers(0, 32).map(lambda n: n / 8))
)


@given(batches=BATCHES, again=st.booleans(), rate=st.builds(Rate, st.integers(1, 30), st.just(1.0)))
def test_many_attempts_at_once(batches: list[tuple[list[Peer], float]], again: bool, rate: Rate) -> None:
    """Each keeps to the rate or not as if they were made one after the other."""
    at_once, by_one, now = Sources(None, rate, EXEMPT), Sources(None, rate, EXEMPT), 0.0
    for made, wait in batches:
        now += wait
        peers = made[:1] * 40 if again else made
        assert list(at_once.take_many(peers, now)) == [by_one.take(peer, now) is None for peer in peers]


def test_many_attempts_without_a_rate() -> None:
    """Where there is none all of them keep to it."""
    assert list(Sources(1, None).take_many([inet("192.0.2.1")] * 3, 0.0)) == [True] * 3
