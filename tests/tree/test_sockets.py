"""Where sockets come from: kept by an earlier program, passed by systemd, or new; and who is told of them."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sockd.base.addresses import Kind, parse
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.opening import Opened, open_address
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.sockets import NoStore, Sockets, UdpPorts
from tests.tree.house import House
from tests.tree.reloads import USUAL, Reloads
from tests.tree.trees import free_ports, inode, kernel_options

PORT, OTHER_PORT = free_ports(2)
TCP = parse(f"tcp://127.0.0.1:{PORT}")


class Book:
    """A store that keeps only the numbers of what it was told to keep."""

    active = True
    size = 100

    def __init__(self) -> None:
        self.kept: list[int] = []

    def keep(self, opened: Opened) -> None:
        self.kept.append(inode(opened))

    def has(self, opened: Opened) -> None:
        self.keep(opened)

    def forget(self, opened: Opened) -> None:
        self.kept.remove(inode(opened))


@pytest.fixture
def passed() -> Iterator[Opened]:
    """A socket that systemd opened."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield Opened(sock, replace(TCP, port=sock.getsockname()[1]), ours=False)


# -- where they come from


def test_socket_of_the_program_before() -> None:
    """It is given to the first who asks for its address, with the options that are wanted now."""
    before = open_address(TCP, USUAL)
    sockets = Sockets(given=[(TCP, before)])
    opened = sockets.open(TCP, replace(USUAL, backlog=99))
    assert opened is before
    assert kernel_options(opened)[2] == 99
    with pytest.raises(OpenError, match="in use"):
        sockets.open(TCP, USUAL)
    sockets.close(opened)
    sockets.drop_given()


def test_any_address_of_a_machine_without_ipv6() -> None:
    """What the file calls `*` may have come back as the IPv4 socket that it was."""
    wildcard = parse(f"tcp://0.0.0.0:{PORT}")
    before = open_address(wildcard, USUAL)
    sockets = Sockets(given=[(wildcard, before)])
    assert sockets.open(replace(wildcard, host="*"), USUAL) is before
    sockets.close(before)


def test_socket_that_shares_otherwise() -> None:
    """One without `reuse_port` can't become one with it: it makes way for a new one."""
    before = open_address(TCP, replace(USUAL, reuse_port=True))
    sockets = Sockets(given=[(TCP, before)])
    opened = sockets.open(TCP, USUAL)
    assert before.sock.fileno() < 0
    sockets.close(opened)


def test_socket_that_overlaps() -> None:
    """The file has a wider address now: the one that was kept makes way for it, others stay."""
    narrow, other = (open_address(parse(f"tcp://127.0.0.1:{port}"), USUAL) for port in (PORT, OTHER_PORT))
    sockets = Sockets(given=[(each.address, each) for each in (narrow, other)])
    opened = sockets.open(replace(narrow.address, host="0.0.0.0"), USUAL)
    assert narrow.sock.fileno() < 0
    assert sockets.open(other.address, USUAL) is other
    sockets.close(opened)
    sockets.close(other)


def test_sockets_that_share_a_port() -> None:
    """One that overlaps need not make way where both set `reuse_port`; whoever doesn't set it must."""
    sharing = replace(USUAL, reuse_port=True)
    narrow, wide = (parse(f"tcp://{host}:{PORT}") for host in ("127.0.0.1", "0.0.0.0"))
    both = [open_address(narrow, sharing), open_address(wide, sharing)]
    sockets = Sockets(given=[(each.address, each) for each in both[:1]])
    new = sockets.open(wide, sharing)
    assert sockets.open(narrow, sharing) is both[0]
    both += [new, sockets.open(narrow, sharing)]
    for opened in both:
        sockets.close(opened)
    kept = [open_address(narrow, sharing) for _ in range(2)]
    sockets = Sockets(given=[(each.address, each) for each in kept])
    alone = sockets.open(wide, USUAL)
    assert [each.sock.fileno() for each in kept] == [-1, -1]
    sockets.close(alone)


def test_socket_that_nobody_wants(tmp_path: Path) -> None:
    """It is closed and its file removed; where somebody removed that already, nothing is amiss."""
    addresses = [parse(f"unix://{tmp_path}/{name}") for name in "ab"]
    given = [(address, open_address(address, USUAL)) for address in addresses]
    (tmp_path / "b").unlink()
    sockets = Sockets(given=given)
    sockets.drop_given()
    assert not list(tmp_path.iterdir())
    assert all(opened.sock.fileno() < 0 for _, opened in given)


def test_sockets_that_systemd_passed(passed: Opened) -> None:
    """They can be had again and again; what nobody asks for is told."""
    sockets = Sockets({"web": [passed], "mail": [passed]})
    assert (sockets.how_many("web"), sockets.how_many("ftp")) == (1, 0)
    assert sockets.passed["web"] == [passed]
    one, other = sockets.named("web", 0, USUAL), sockets.named("web", 0, USUAL)
    sockets.close(one)
    assert inode(other) == inode(passed)
    sockets.close(other)
    for name, number in (("ftp", 0), ("web", 1)):
        with pytest.raises(OpenError, match=f"systemd passed no socket named {name}"):
            sockets.named(name, number, USUAL)
    assert sockets.unclaimed([TCP, parse("systemd://web"), parse("systemd://ftp")]) == ["mail"]


def test_what_a_name_of_systemds_stands_for(passed: Opened) -> None:
    """Streams or datagrams, as the socket is; a name that nothing was passed for may be streams."""
    datagrams = Opened(passed.sock, replace(passed.address, kind=Kind.UDP), ours=False)
    sockets = Sockets({"web": [passed, datagrams]})
    kinds = [
        sockets.kind(parse(f"systemd://{name}"), number)
        for name, number in (("web", 0), ("web", 1), ("ftp", 0))
    ]
    assert [kind.stream for kind in kinds] == [True, False, True]
    assert sockets.kind(TCP, 0) is Kind.TCP


# -- the store


def test_store_is_told(tmp_path: Path, passed: Opened) -> None:
    """Of what we open and close; not of what systemd has anyway."""
    book = Book()
    sockets = Sockets({"web": [passed]}, store=book)
    opened = sockets.open(parse(f"unix://{tmp_path}/a"), USUAL)
    named = sockets.named("web", 0, USUAL)
    assert book.kept == [inode(opened)]
    sockets.close(named)
    sockets.close(opened.duplicate(), stays=True)
    assert book.kept == [inode(opened)]
    sockets.discard(opened)
    assert book.kept == []
    assert not (tmp_path / "a").exists()


def test_process_that_ends(tmp_path: Path) -> None:
    """What the store keeps stays, with its file; without a store nothing does."""
    for store, stays in ((Book(), True), (NoStore(), False)):
        sockets = Sockets(store=store)
        opened = sockets.open(parse(f"unix://{tmp_path}/a"), USUAL)
        assert not sockets.stay
        sockets.leave_to_store()
        assert sockets.stay is stays
        sockets.discard(opened)
        assert (tmp_path / "a").exists() is stays
    assert not NoStore().size


@pytest.mark.parametrize("goes", [True, False])
def test_store_through_a_reload(goes: bool, house: House, tmp_path: Path) -> None:
    """A socket that goes to another endpoint is kept all the time, once; what is undone is forgotten."""
    book = Book()
    house.surroundings = replace(house.surroundings, sockets=Sockets(store=book))
    reloads = Reloads(house)
    where = (str(TCP), f"unix://{tmp_path}/a")
    reloads.start(reloads.plan("a", "plain", *where))
    before = list(book.kept)
    assert sorted(before) == sorted(inode(listener.opened) for listener in reloads["a"].listeners)
    reconciliation = reloads.begin(reloads.plan("b", "plain", *where, f"unix://{tmp_path}/b"))
    assert not reloads.prepare(reconciliation)
    assert len(book.kept) == 3
    if goes:
        reloads.commit(reconciliation)
        reloads.drain_gone()
        assert sorted(book.kept) == sorted(inode(listener.opened) for listener in reloads["b"].listeners)
        assert set(before) < set(book.kept)
    else:
        house.finish(reconciliation.undo())
        assert book.kept == before


def test_store_through_a_refused_change_of_address(house: House) -> None:
    """The store has the socket that was opened again, and not the one that was closed."""
    book = Book()
    house.surroundings = replace(house.surroundings, sockets=Sockets(store=book))
    reloads = Reloads(house)
    reloads.start(reloads.plan("a", "plain", str(TCP)))
    with open_address(replace(TCP, host="127.0.0.2"), SocketOptions()).sock:
        assert reloads.reload(reloads.plan("a", "plain", f"tcp://0.0.0.0:{PORT}"))
    assert book.kept == [inode(reloads["a"].listeners[0].opened)]


# -- UDP ports


def test_udp_ports_are_counted() -> None:
    """A port is there as long as one listener has it."""
    ports = UdpPorts()
    ports.add(7)
    ports.add(7)
    ports.add(9)
    ports.discard(7)
    assert 7 in ports
    assert sorted(ports) == [7, 9]
    ports.discard(7)
    ports.discard(8)
    assert 7 not in ports
    assert len(ports) == 1
