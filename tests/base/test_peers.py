"""Peers: how they are shown, and which of them are the same."""

import pytest

from sockd.base.peers import Peer, unmapped


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (Peer.inet(("127.0.0.1", 40122)), "127.0.0.1:40122"),
        (Peer.inet(("::1", 40122, 0, 0)), "[::1]:40122"),
        (Peer.inet(("::ffff:10.0.0.1", 7, 0, 0)), "10.0.0.1:7"),
        (Peer.unix(0, 7), "uid=0,pid=7"),
        (Peer.unix(1000, 7, "/run/x.sock"), "uid=1000,pid=7"),
        (Peer.unix(None, None), "uid=?,pid=?"),
    ],
)
def test_text(peer: Peer, text: str) -> None:
    """As the log and line-log show them."""
    assert peer.text == text
    assert repr(peer) == f"<Peer {text}>"


def test_local_peers_have_no_host() -> None:
    """A Unix socket's peer is known by its process."""
    assert Peer.unix(0, 1).local
    assert not Peer.inet(("127.0.0.1", 1)).local


def test_unbound_sender_has_no_address() -> None:
    """What the kernel gives for a Unix sender without a name can't be answered to."""
    for nothing in (None, "", b""):
        assert Peer.unix(0, 1, nothing).sockaddr is None
    assert Peer.unix(0, 1, b"\0abstract").sockaddr == b"\0abstract"


def test_equality() -> None:
    """Equal peers get each other's replies: address, way back and process must be the same."""
    one = Peer.inet(("127.0.0.1", 1))
    assert one == Peer.inet(("127.0.0.1", 1))
    assert len({one, Peer.inet(("127.0.0.1", 1)), Peer.inet(("127.0.0.1", 2))}) == 2
    assert one != Peer.inet(("127.0.0.1", 1), ((0, 0, b"asked another address"),))
    assert Peer.unix(0, 1, "/a") != Peer.unix(0, 2, "/a")
    assert one != "127.0.0.1:1"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::ffff:102:304", "1.2.3.4"),
        ("::ffff:0:1.2.3.4", "::ffff:0:1.2.3.4"),
        ("::1", "::1"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_unmapped(host: str, shown: str) -> None:
    """Only an IPv4-mapped address is one."""
    assert unmapped(host) == shown


def test_groups_go_on_in_another_program() -> None:
    """Who is allowed by its group is sent something by the next program, too."""
    assert Peer.thaw(Peer.unix(1, 2, "/a", 3).freeze()).gid == 3
    assert Peer.thaw({**Peer.unix(1, 2, "/a", 3).freeze(), "gid": None}).gid is None
