"""Unix sockets: the rights of their file at every moment, whose file it is, and what is left alone."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockd.base.addresses import Address, Kind
from sockd.transports.sockets import unix
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import SocketFile, credentials, open_unix, sent_credentials
from tests.tree.house import raising

PLAIN = SocketOptions()
KINDS = pytest.mark.parametrize("kind", [Kind.UNIX, Kind.UNIXGRAM])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.sock")


@pytest.fixture
def loose_umask() -> Iterator[None]:
    """The loosest umask there is: what is safe then is always safe."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@KINDS
def test_opens_and_has_its_mode(kind: Kind, path: str, loose_umask: None) -> None:
    """The file's mode is exactly the one wanted, whatever the umask, which stays as it was."""
    for wanted in (0o600, 0o660, 0o666, 0o777):
        sock, file = open_unix(Address(kind, path=path), SocketOptions(mode=wanted))
        with sock:
            assert mode(path) == wanted
            assert sock.getblocking() is False
            assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) == (kind is Kind.UNIX)
            assert file == SocketFile.of(path)
    assert os.umask(0) == 0


@KINDS
def test_never_looser_than_it_shall_be(
    kind: Kind, path: str, loose_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made with its mode, its user and its group: nothing is set by the path afterwards."""
    for name in ("chown", "chmod", "lchown"):
        monkeypatch.setattr(os, name, raising(AssertionError(name)))
    monkeypatch.setattr(unix, "give_pinned", raising(AssertionError("chown")))
    sock, _ = open_unix(
        Address(kind, path=path), SocketOptions(mode=0o620, user=os.getuid(), group=os.getgid())
    )
    sock.close()
    assert mode(path) == 0o620


@KINDS
def test_stale_file_is_replaced(kind: Kind, path: str) -> None:
    """The file of a program that is gone is nobody's."""
    for stale in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, stale) as dead:
            dead.bind(path)
        sock, file = open_unix(Address(kind, path=path), PLAIN)
        with sock:
            assert file is not None
            assert file.there()
        file.remove()


@KINDS
@pytest.mark.parametrize("theirs", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_answered_path_is_left_alone(kind: Kind, theirs: int, path: str) -> None:
    """Somebody who has the path open, with whatever type of socket, keeps it."""
    with socket.socket(socket.AF_UNIX, theirs) as other:
        other.bind(path)
        if theirs != socket.SOCK_DGRAM:
            other.listen()
        before = SocketFile.of(path)
        with pytest.raises(
            OpenError, match=r"^another program answers at this path: stop it, or choose another path$"
        ):
            open_unix(Address(kind, path=path), PLAIN)
        assert before.there()


@KINDS
def test_path_that_may_not_be_tried_is_left_alone(
    kind: Kind, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not connect can't know whether somebody is there."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    before = SocketFile.of(path)
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EACCES)  # root may
    with pytest.raises(OpenError, match=r"^there is a socket at this path that sockd may not connect to: "):
        open_unix(Address(kind, path=path), PLAIN)
    assert before.there()


def test_full_backlog_counts_as_answered(path: str) -> None:
    """A busy program, whose backlog is full, is still there."""
    clients = []
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        while True:
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            if client.connect_ex(path) == errno.EAGAIN:
                break
        with pytest.raises(OpenError, match="another program answers"):
            open_unix(Address(Kind.UNIX, path=path), PLAIN)
    for client in clients:
        client.close()


@KINDS
def test_what_is_no_socket_is_left_alone(kind: Kind, path: str, tmp_path: Path) -> None:
    """Files, directories and symbolic links, even to a stale socket, are not ours to remove."""
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    target = Path(path)
    for make in (lambda: target.write_text("data"), target.mkdir, lambda: target.symlink_to(stale)):
        make()
        with pytest.raises(OpenError, match=r"not a socket: remove it, or choose another path$"):
            open_unix(Address(kind, path=path), PLAIN)
        assert target.exists()
        assert stale.exists()
        target.rmdir() if target.is_dir() else target.unlink()


def test_removal_is_of_our_own_file_only(path: str) -> None:
    """A file that somebody put in the place of ours stays; so does nothing at all."""
    sock, file = open_unix(Address(Kind.UNIX, path=path), PLAIN)
    assert file is not None
    with sock:
        os.rename(path, path + ".ours")  # keeps the inode from being used again
        assert not file.there()
        file.remove()
        Path(path).write_text("another's")
        assert not file.there()
        file.remove()
        assert Path(path).exists()
        os.rename(path + ".ours", path)
        assert file.there()
        file.remove()
        assert not Path(path).exists()


@KINDS
def test_abstract(kind: Kind) -> None:
    """An abstract name has no file, and is taken as long as somebody has it."""
    address = Address(kind, path=f"@sockd-test-{os.getpid()}")
    sock, file = open_unix(address, PLAIN)
    with sock:
        assert file is None
        assert sock.getsockname() == b"\0" + address.path[1:].encode()
        with pytest.raises(OpenError, match="in use by another program"):
            open_unix(address, PLAIN)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.EACCES, "no right to write to /run/x"),
        (errno.ENOENT, "there is no directory /run/x"),
        (errno.EROFS, "Read-only file system"),
    ],
)
def test_reasons_in_words(error: int, words: str) -> None:
    """Each refusal by the kernel says what to do."""
    address = Address(Kind.UNIX, path="/run/x/a.sock")
    assert unix.reason_for(OSError(error, os.strerror(error)), address) == words


@KINDS
def test_missing_directory(kind: Kind, tmp_path: Path) -> None:
    """A directory that isn't there is named, and so is a file in its place."""
    with pytest.raises(OpenError, match=f"there is no directory {tmp_path}/missing$"):
        open_unix(Address(kind, path=str(tmp_path / "missing" / "a.sock")), PLAIN)
    (tmp_path / "file").touch()
    with pytest.raises(OpenError, match=r"Not a directory$"):
        open_unix(Address(kind, path=str(tmp_path / "file" / "a.sock")), PLAIN)


@KINDS
def test_descriptors_ran_out(kind: Kind, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is told as any other reason of the kernel's."""
    error = OSError(errno.EMFILE, "Too many open files")
    monkeypatch.setattr(socket, "socket", raising(error))
    with pytest.raises(OpenError, match=r"^Too many open files$"):
        open_unix(Address(kind, path=path), PLAIN)


def test_refused_group_leaves_no_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that can't be given its group isn't left there with other rights."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(unix, "give_pinned", refuse)
    with pytest.raises(OpenError, match=r"no right to give the socket this user or group$"):
        open_unix(Address(Kind.UNIX, path=path), SocketOptions(user=os.getuid() + 1))
    assert not Path(path).exists()


def test_credentials_are_asked_for(path: str) -> None:
    """The kernel is to vouch for the senders of datagrams."""
    sock, _ = open_unix(Address(Kind.UNIXGRAM, path=path), SocketOptions())
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)


def test_credentials_of_a_stream_peer() -> None:
    """The kernel says who connected."""
    for sock in socket.socketpair():
        with sock:
            assert credentials(sock) == (os.getuid(), os.getpid())


def test_credentials_of_a_sender() -> None:
    """struct ucred is pid, uid, gid."""
    assert sent_credentials(b"\x07\0\0\0\x09\0\0\0\x0b\0\0\0") == (9, 7, 11)
