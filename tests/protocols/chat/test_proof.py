"""Proving where one's datagrams come from."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.peers import Peer
from sockd.protocols.chat import proof
from sockd.protocols.chat.proof import AddressProof

ALICE = Peer.inet(("192.0.2.1", 40000))
MALLORY = Peer.inet(("192.0.2.1", 40001))


@pytest.fixture(name="asking")
def _asking() -> AddressProof:
    return AddressProof(b"a secret", 0.0)


def asked(asking: AddressProof, peer: Peer = ALICE, now: float = 0.0) -> bytes:
    challenge = asking.challenge(b"hello\n", peer, now)
    assert challenge is not None
    return challenge


def answer(challenge: bytes) -> bytes:
    found = re.search(rb"/prove [0-9a-f-]+", challenge)
    assert found
    return found[0].replace(b"-", b"")


def test_answered(asking: AddressProof) -> None:
    """The code without its dashes proves it, with any end of line, in either case, with lines behind it."""
    code = answer(asked(asking))
    for data in (
        code,
        code + b"\n",
        code + b"\r\n",
        code.upper().replace(b"PROVE", b"prove"),
        code + b"\nhello\n",
    ):
        assert asking.accepts(data, ALICE, 1.0)


def test_somebody_else(asking: AddressProof) -> None:
    """A code is good for one address and port, of one process."""
    code = answer(asked(asking))
    assert not asking.accepts(code, MALLORY, 1.0)
    assert not AddressProof(b"another secret", 0.0).accepts(code, ALICE, 1.0)
    assert not asking.accepts(code, Peer.inet(ALICE.sockaddr, ((0, 8, b"127.0.0.2"),)), 1.0)


def test_expires(asking: AddressProof) -> None:
    """A code is good for a minute at least and for two at most."""
    late = answer(asked(asking, now=59.0))
    early = answer(asked(asking, now=60.0))
    assert asking.accepts(late, ALICE, 119.0)
    assert not asking.accepts(late, ALICE, 120.0)
    assert asking.accepts(early, ALICE, 179.0)
    assert not asking.accepts(early, ALICE, 180.0)


@given(st.binary(max_size=20), st.binary(max_size=20), st.sampled_from([b"\n", b" ", b": ", b"-", b","]))
def test_reflection(before: bytes, after: bytes, separator: bytes) -> None:
    """No service that returns our words, whole or in parts, with anything around, proves or loops."""
    asking = AddressProof(b"a secret", 0.0)
    challenge = asked(asking)
    whole = before + challenge + after
    assert asking.challenge(whole, ALICE, 0.0) is None
    assert asking.challenge(whole.upper(), ALICE, 0.0) is None
    assert not asking.accepts(whole, ALICE, 0.0)
    for part in challenge.split(separator):
        assert not asking.accepts(before + part + after, ALICE, 0.0)
        assert not asking.accepts(part, ALICE, 0.0)


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\nhello\n"])
def test_copied_with_its_dashes(asking: AddressProof, end: bytes) -> None:
    """A peer that copies the code with its dashes is told so, in words that are no answer themselves."""
    found = re.search(rb"/prove [0-9a-f-]+", asked(asking))
    assert found
    told = asking.challenge(found[0] + end, ALICE, 0.0)
    assert told == b"-- nearly: send it once more, without the dashes\n"
    assert not asking.accepts(found[0] + end, ALICE, 0.0)
    assert asking.challenge(told, ALICE, 0.0) is None
    assert asking.challenge(found[0] + end, MALLORY, 0.0) is None
    assert asking.challenge(found[0] + end, ALICE, 180.0) is None


def test_a_code_that_is_old(asking: AddressProof) -> None:
    """A peer that sends a wrong code, or an expired one, is challenged anew."""
    code = answer(asked(asking))
    assert asking.challenge(code, ALICE, 180.0) == asked(asking, now=180.0)


def test_telling_is_slow_too(asking: AddressProof) -> None:
    """All that one source is sent counts together."""
    found = re.search(rb"/prove [0-9a-f-]+", asked(asking))
    assert found
    assert sum(asking.challenge(found[0], ALICE, 0.0) is not None for _ in range(30)) == 9


def test_small(asking: AddressProof) -> None:
    """A challenge has at most 64 bytes, and so has what is said to a code with its dashes."""
    challenge = asked(asking)
    assert len(challenge) <= 64
    found = re.search(rb"/prove [0-9a-f-]+", challenge)
    assert found
    reminder = asking.challenge(found[0], ALICE, 0.0)
    assert reminder is not None
    assert len(reminder) <= 64


@pytest.mark.parametrize(
    ("data", "peer"),
    [
        (b"", ALICE),
        (b"/prove 4f9a-1c77-03bd\n", ALICE),
        (b"hello", Peer.inet(("192.0.2.1", 7))),
        (b"hello", Peer.inet(("224.0.0.1", 4000))),
        (b"hello", Peer.inet(("0.0.0.0", 4000))),
        (b"hello", Peer.inet(("255.255.255.255", 4000))),
        (b"hello", Peer.inet(("ff02::1", 4000, 0, 0))),
    ],
)
def test_silence(asking: AddressProof, data: bytes, peer: Peer) -> None:
    """Nothing is said to empty datagrams, wrong codes, services' ports and addresses of many."""
    assert asking.challenge(data, peer, 0.0) is None


def test_our_own_ports() -> None:
    """Nothing is said to a port that is one of ours: it would be us who answer."""
    asking = AddressProof(b"a secret", 0.0, {40000})
    assert asking.challenge(b"hello", ALICE, 0.0) is None
    assert asking.challenge(b"hello", MALLORY, 0.0)


def test_slow_for_each_source(asking: AddressProof) -> None:
    """One source, a /64 in IPv6, gets ten challenges a minute, whatever its ports; another its own ten."""
    for peers in (
        [Peer.inet(("192.0.2.9", 2000 + port)) for port in range(30)],
        [Peer.inet((f"2001:db8::{port:x}", 2000, 0, 0)) for port in range(1, 31)],
    ):
        assert sum(asking.challenge(b"x", peer, 0.0) is not None for peer in peers) == 10
    assert asked(asking, MALLORY, now=6.0)


def test_slow_for_all(asking: AddressProof) -> None:
    """All sources together get a hundred a second, and we remember a bounded number of them."""
    peers = [Peer.inet((f"10.{high}.{low}.1", 2000)) for high in range(20) for low in range(250)]
    sent = sum(asking.challenge(b"x", peer, 0.0) is not None for peer in peers)
    assert sent == 100
    assert 0 < asking.sources_kept <= proof.SOURCE_SLOTS
