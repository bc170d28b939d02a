"""The peers that are not answered, rule by rule, so that forged datagrams gain nothing."""

from ipaddress import ip_network
from itertools import product

import pytest

from sockd.base.peers import Peer
from sockd.limits import reflection
from sockd.limits.reflection import Reflection

NEAR = [ip_network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "::1/128", "fe80::/10")]
EVERYONE = [ip_network("0.0.0.0/0"), ip_network("::/0")]


@pytest.mark.parametrize(
    ("host", "port", "refusal"),
    [
        ("127.0.0.1", 40000, None),
        ("127.0.0.1", 1024, None),
        ("127.0.0.1", 1023, "source port below 1024"),
        ("127.0.0.1", 0, "source port below 1024"),
        ("127.0.0.1", 7007, "source port of ours"),
        ("10.255.255.255", 40000, None),
        ("192.0.2.1", 40000, "source network"),
        ("11.0.0.1", 40000, "source network"),
        ("::1", 40000, None),
        ("::2", 40000, "source network"),
        ("fe80::1%eth0", 40000, None),
        ("::ffff:10.0.0.1", 40000, None),  # shown and judged as IPv4
    ],
)
def test_rules(host: str, port: int, refusal: str | None) -> None:
    """Near peers are answered, unless their port says that a service or ourselves sent this."""
    rules = Reflection(NEAR, {7007})
    for _ in range(2):
        assert rules.refusal(Peer.inet((host, port, 0, 0))) == refusal


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "239.1.2.3", "ff02::1"])
def test_what_is_no_host_is_never_answered(host: str) -> None:
    """Not even where the options answer everyone."""
    assert Reflection(EVERYONE, ()).refusal(Peer.inet((host, 40000))) == "source is no host"


def test_local_peers_are_vouched_for() -> None:
    """A Unix socket's sender can't be forged."""
    assert Reflection([], ()).refusal(Peer.unix(0, 1, "/run/x")) is None


def test_ports_are_those_of_the_moment() -> None:
    """A port that is opened later is one of ours from then on."""
    ports: set[int] = set()
    rules = Reflection(NEAR, ports)
    peer = Peer.inet(("127.0.0.1", 9000))
    assert rules.refusal(peer) is None
    ports.add(9000)
    assert rules.refusal(peer) == "source port of ours"


PEERS = [
    Peer.inet((host, port)) for host in ("127.0.0.1", "10.0.0.1", "192.0.2.1") for port in (53, 7007, 40000)
]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_many_is_any_of_them(count: int) -> None:
    """The verdict for a batch is that for its peers, in any order."""
    rules = Reflection(NEAR, {7007})
    verdicts = set()
    for peers in product(PEERS, repeat=count):
        verdict = any(rules.refusal(peer) is not None for peer in peers)
        assert rules.refuses([(b"", peer) for peer in peers]) is verdict
        verdicts.add(verdict)
    assert verdicts == {False, True}


def test_many_local_ones_are_vouched_for() -> None:
    """Local peers in a batch are answered, as one alone is."""
    peers = [Peer.unix(0, number, "/run/x") for number in range(3)]
    assert not Reflection([], ()).refuses([(b"", peer) for peer in peers])


def test_verdicts_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts are bounded in number and stay right, however many hosts ask."""
    monkeypatch.setattr(reflection, "VERDICT_LIMIT", 10)
    rules = Reflection(NEAR, ())
    for number in range(100):
        near, far = Peer.inet((f"10.0.0.{number}", 9000)), Peer.inet((f"192.0.2.{number}", 9000))
        assert rules.refusal(near) is None
        assert rules.refusal(far) == "source network"
        assert rules.hosts_kept <= 10
