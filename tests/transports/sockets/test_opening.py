"""Sockets that are open: shared, changed in place, and left as they are where they are not ours."""

import grp
import os
import pwd
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sockd.base.addresses import Address, Kind, parse
from sockd.transports.sockets.inet import IP_PKTINFO, OpenError
from sockd.transports.sockets.opening import Opened, equip, open_address, retunable, shares, tune
from sockd.transports.sockets.options import Keepalive, SocketOptions
from tests.tree.trees import kernel_options

USUAL = SocketOptions()
OTHER = SocketOptions(
    backlog=9, keepalive=Keepalive(50, 5, 3), nodelay=False, receive_buffer=50_000, mode=0o600
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """The address that the test is parametrized with, open."""
    opened = open_address(parse(request.param.format(tmp_path)), USUAL)
    yield opened
    opened.sock.close()


TCP = pytest.mark.parametrize("there", ["tcp://127.0.0.1:0"], indirect=True)
UNIX = pytest.mark.parametrize("there", ["unix://{}/a", "unixgram://{}/a"], indirect=True)
ALL = pytest.mark.parametrize(
    "there", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix://{}/a", "unixgram://{}/a"], indirect=True
)


@ALL
def test_address_is_the_real_one(there: Opened) -> None:
    """A port that the kernel chose is told; a Unix socket has its file."""
    name = there.sock.getsockname()
    assert there.address == (
        replace(there.address, path=name)
        if there.address.kind.local
        else replace(there.address, port=name[1])
    )
    assert there.ours
    assert (there.file is not None) == there.address.kind.local
    assert there.file is None or there.file.there()


@ALL
def test_duplicate_is_the_same_socket(there: Opened) -> None:
    """It stays open when the other one is closed."""
    other = there.duplicate()
    assert os.fstat(other.sock.fileno()).st_ino == os.fstat(there.sock.fileno()).st_ino
    assert other.sock.fileno() != there.sock.fileno()
    assert (other.address, other.file) == (there.address, there.file)
    assert not other.sock.getblocking()
    there.sock.close()
    assert other.sock.getsockname()
    other.sock.close()


# -- in place


@ALL
def test_options_change_in_place_and_back(there: Opened) -> None:
    """All of them, but for the receive buffer, from which there is no way back."""
    before = kernel_options(there)
    tune(there, USUAL, OTHER)
    fresh = open_address(replace(there.address, port=0, path=f"{there.address.path}-fresh"), OTHER)
    assert kernel_options(there) == kernel_options(fresh)
    tune(there, OTHER, USUAL)
    fresh.sock.close()
    after = kernel_options(there)
    assert after == before or after[1:] == before[1:]
    assert there.address.kind.inet or after == before


@ALL
def test_options_that_are_not_known(there: Opened) -> None:
    """All of the new ones are set."""
    tune(there, None, OTHER)
    fresh = open_address(replace(there.address, port=0, path=f"{there.address.path}-fresh"), OTHER)
    assert kernel_options(there) == kernel_options(fresh)
    fresh.sock.close()


@TCP
def test_clients_in_the_backlog_stay(there: Opened) -> None:
    """Who has connected is accepted after the change, with the new options."""
    with socket.create_connection(there.sock.getsockname()):
        tune(there, USUAL, OTHER)
        accepted, _ = there.sock.accept()
        accepted.close()
        with socket.create_connection(there.sock.getsockname()):
            accepted, _ = there.sock.accept()
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert not accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            accepted.close()


@as_root
@UNIX
def test_owner_and_group(there: Opened) -> None:
    """They are given, one or both, and taken back."""
    user, group = pwd.getpwnam("nobody").pw_uid, grp.getgrall()[-1].gr_gid
    path = Path(there.address.path)
    for old, new in (
        (USUAL, replace(USUAL, user=user)),
        (replace(USUAL, user=user), replace(USUAL, user=user, group=group)),
        (replace(USUAL, user=user, group=group), replace(USUAL, group=group)),
        (replace(USUAL, group=group), USUAL),
        (None, replace(USUAL, user=user)),
        (None, replace(USUAL, group=group)),
    ):
        tune(there, old, new)
        status = path.stat()
        if old is not None:
            assert (status.st_uid, status.st_gid) == (new.user or 0, new.group or 0)
    assert (status.st_uid, status.st_gid) == (user, group)


@UNIX
def test_file_that_is_somebody_elses(there: Opened) -> None:
    """What took our file's place keeps its mode."""
    path = Path(there.address.path)
    path.unlink()
    path.touch(0o644)
    tune(there, USUAL, OTHER)
    assert path.stat().st_mode & 0o777 == 0o644


@ALL
def test_what_is_not_ours_is_left(there: Opened) -> None:
    """A socket of a .socket unit has the options that the unit says, but for those of TCP connections."""
    before = kernel_options(there)
    there.ours = False
    tune(there, USUAL, replace(OTHER, keepalive=USUAL.keepalive, nodelay=USUAL.nodelay))
    assert kernel_options(there) == before


@ALL
def test_change_that_is_refused(there: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the kernel's reason in one line."""
    sock = there.sock
    if there.address.kind.local:
        monkeypatch.setattr("os.chmod", lambda *_: os.stat("/nowhere"))
        why = "can't be changed where /proc isn't mounted"
    else:
        sock.close()
        why = "Bad file descriptor"
    with pytest.raises(OpenError, match=why):
        tune(there, USUAL, OTHER)


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        (USUAL, USUAL, True),
        (USUAL, OTHER, True),
        (OTHER, replace(OTHER, receive_buffer=60_000), True),
        (OTHER, USUAL, False),
        (USUAL, replace(USUAL, reuse_port=True), False),
        (replace(USUAL, reuse_port=True), replace(OTHER, reuse_port=True), True),
    ],
)
def test_what_can_change_in_place(old: SocketOptions, new: SocketOptions, answer: bool) -> None:
    """Not what bind(2) looks at, and not back to the kernel's own receive buffer."""
    assert retunable(old, new) is answer


# -- opened by somebody else


def test_shared_port() -> None:
    """It is seen at the socket itself."""
    for shared in (True, False):
        opened = open_address(parse("tcp://127.0.0.1:0"), replace(USUAL, reuse_port=shared))
        assert shares(opened) is shared
        opened.sock.close()


@pytest.mark.parametrize(
    ("kind", "host", "option"),
    [
        (socket.AF_INET, "0.0.0.0", (socket.IPPROTO_IP, IP_PKTINFO)),
        (socket.AF_INET, "127.0.0.1", None),
        (socket.AF_INET6, "::", (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)),
    ],
)
def test_udp_socket_of_somebody_else(kind: int, host: str, option: tuple[int, int] | None) -> None:
    """Where it has all addresses of the machine it is asked which one a datagram came to."""
    with socket.socket(kind, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        equip(Opened(sock, Address(Kind.UDP, host, sock.getsockname()[1]), ours=False))
        names = [(socket.IPPROTO_IP, IP_PKTINFO)]
        if kind == socket.AF_INET6:
            names = [(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)]
        assert [name for name in names if sock.getsockopt(*name)] == ([option] if option else [])


def test_unix_datagram_socket_of_somebody_else(tmp_path: Path) -> None:
    """The kernel tells who sends; a stream socket needs nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, socket.socket() as tcp:
        sock.bind(f"{tmp_path}/a")
        equip(Opened(sock, Address(Kind.UNIXGRAM, path=f"{tmp_path}/a"), ours=False))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
        equip(Opened(tcp, Address(Kind.TCP, "127.0.0.1", 1), ours=False))
