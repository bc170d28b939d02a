"""The rules of access: for networks, and for the users of this machine."""

from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from sockd.base.peers import Peer
from sockd.limits.access import Access, Network


@dataclass(frozen=True)
class Rules:
    """Rules as a plan has them."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


NEAR = networks("10.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("allow", "deny", "host", "may"),
    [
        ((), (), "192.0.2.1", True),
        ((), (), "2001:db8::1", True),
        (NEAR, (), "10.1.2.3", True),
        (NEAR, (), "192.0.2.1", False),
        (NEAR, (), "::1", True),
        (NEAR, (), "::2", False),
        ((), NEAR, "10.1.2.3", False),
        ((), NEAR, "192.0.2.1", True),
        (NEAR, networks("10.9.0.0/16"), "10.9.1.1", False),
        (NEAR, networks("10.9.0.0/16"), "10.8.1.1", True),
        (NEAR, networks("10.9.0.0/16"), "192.0.2.1", False),
        (networks("10.9.9.9/32"), networks("10.0.0.0/8"), "10.9.9.9", True),
        (networks("10.9.9.9/32"), networks("10.0.0.0/8"), "10.9.9.8", False),
        (networks("10.9.9.9/32"), networks("10.0.0.0/8"), "192.0.2.1", False),
        (NEAR, NEAR, "10.1.2.3", False),  # deny wins a tie
        (NEAR, networks("::ffff:10.0.0.0/104"), "10.1.2.3", False),  # the same network, written otherwise
        (networks("0.0.0.0/0"), networks("::/0"), "192.0.2.1", True),
        (networks("0.0.0.0/0"), networks("::/0"), "2001:db8::1", False),
        (NEAR, (), "::ffff:10.0.0.1", True),
        ((), NEAR, "::ffff:10.0.0.1", False),
        (networks("fe80::/10"), (), "fe80::1%eth0", True),
    ],
)
def test_networks(allow: tuple[Network, ...], deny: tuple[Network, ...], host: str, may: bool) -> None:
    """The best match decides; with `allow` nobody else may, with only `deny` everybody else."""
    access = Access(Rules(allow, deny, users=frozenset((7,)), groups=frozenset((8,))))
    assert access.refusal(Peer.inet((host, 40000, 0, 0)), None) == (None if may else "access")


@pytest.mark.parametrize(
    ("users", "groups", "uid", "gids", "may"),
    [
        ((), (), 1000, None, True),
        ((), (), None, None, True),
        ((1000,), (), 1000, None, True),
        ((1000,), (), 1001, frozenset((1000,)), False),
        ((1000,), (), 0, None, False),  # root too is a user to be named
        ((1000,), (), None, None, False),  # the kernel didn't say who
        ((), (4,), 1000, frozenset((4, 1000)), True),
        ((), (4,), 1000, frozenset((1000,)), False),
        ((), (4,), 1000, None, False),
        ((1000,), (4,), 1001, frozenset((4,)), True),
        ((1000,), (4,), 1000, frozenset((5,)), True),
        ((1000,), (4,), 1001, frozenset((5,)), False),
    ],
)
def test_users_and_groups(
    users: tuple[int, ...],
    groups: tuple[int, ...],
    uid: int | None,
    gids: frozenset[int] | None,
    may: bool,
) -> None:
    """One of the users or in one of the groups; networks don't concern who has no address."""
    access = Access(Rules(NEAR, networks("0.0.0.0/0"), frozenset(users), frozenset(groups)))
    assert access.refusal(Peer.unix(uid, 1), gids) == (None if may else "access")
