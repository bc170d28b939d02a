"""Who is meant: ids, addresses, networks, users and names, and what is none of them."""

import os

import pytest

from sockd.base.peers import Peer
from sockd.control.language import Refused
from sockd.control.who import Who

ANN = (7, Peer.inet(("192.0.2.7", 40122)), "ann")
BOB = (8, Peer.inet(("2001:db8::1", 4000, 0, 0)), "42")
EVE = (9, Peer.unix(1000, 4242), "name:x")
ZOE = (10, Peer.inet(("fe80::1%eth0", 4000, 0, 2)), "")
ALL = {"ann": ANN, "bob": BOB, "eve": EVE, "zoe": ZOE}


@pytest.mark.parametrize(
    ("word", "who"),
    [
        ("7", "ann"),
        ("ann", "ann"),
        ("name:ann", "ann"),
        ("192.0.2.7", "ann"),
        ("::ffff:192.0.2.7", "ann"),
        ("192.0.2.7:40122", "ann"),
        ("192.0.2.7:1", ""),
        ("192.0.2.0/24", "ann"),
        ("::/0", "bob zoe"),
        ("0.0.0.0/0", "ann"),
        ("2001:db8::1", "bob"),
        ("[2001:db8::1]", "bob"),
        ("[2001:db8::1]:4000", "bob"),
        ("2001:db8::/32", "bob"),
        ("fe80::1", "zoe"),
        ("[fe80::1%eth0]:4000", "zoe"),
        ("name:42", "bob"),
        ("42", ""),
        ("uid=1000", "eve"),
        ("uid=1000,pid=4242", "eve"),
        ("uid=1000,pid=1", ""),
        ("uid=0", ""),
        ("name:name:x", "eve"),
        ("name:", ""),
        ("Ann", ""),
        ("\x1b", ""),
    ],
)
def test_what_a_word_means(word: str, who: str) -> None:
    """A number is an id, and never a name unless it says so; an address is all of its peers."""
    words = Who([word])
    found = [name for name, one in ALL.items() if words.meant(*one)]
    assert found == who.split()


def test_several_words() -> None:
    """Each that means somebody is reported."""
    words = Who(["10.0.0.0/8", "192.0.2.0/24", "ann", "7"])
    assert sorted(words.meant(*ANN)) == ["192.0.2.0/24", "7", "ann"]


@pytest.mark.parametrize("word", ["10.0.0.0/33", "192.0.2.7/24", "a/b", "/"])
def test_what_is_no_network(word: str) -> None:
    """It is refused, and is not taken for a name that nobody has."""
    with pytest.raises(Refused, match=r"is no network: .*; a name is written as name:NAME") as caught:
        Who([word])
    assert caught.value.status == os.EX_USAGE
