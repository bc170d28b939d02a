"""Root binds where a lesser user may swap files at any moment: nothing else is given away."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sockd.base.account import Account, acts_as_root
from sockd.base.addresses import Address, Kind
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.opening import Opened, open_address, tune
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import open_unix

pytestmark = pytest.mark.skipif(not acts_as_root(), reason="only root has rights to lend")

NOBODY, OTHER = 65534, 65530
KINDS = pytest.mark.parametrize("kind", [Kind.UNIX, Kind.UNIXGRAM])
USERS = pytest.mark.parametrize("user", [Account.of(NOBODY), None], ids=["dropped", "root"])
RACES = 12

# Waits for each socket and renames a link over it, as fast as it can, as the user nobody.
ATTACKER = """
import os, sys
directory, target, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.chdir(directory)
for number in range(count):
    os.symlink(target, f"link{number}")
print(flush=True)
for number in range(count):
    while not os.path.lexists(f"s{number}"):
        pass
    os.rename(f"link{number}", f"s{number}")
print(count)
"""


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file that is root's alone, and stays so."""
    directory = Path(tempfile.mkdtemp(prefix="sockd-"))
    directory.chmod(0o755)
    path = directory / "secret"
    path.touch(mode=0o600)
    theirs = directory / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, -1)
    yield path
    found = path.stat()
    shutil.rmtree(directory)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o600)


def at(secret: Path, name: str, kind: Kind = Kind.UNIX) -> Address:
    return Address(kind, path=str(secret.parent / "theirs" / name))


@KINDS
@USERS
@pytest.mark.parametrize(
    "options",
    [
        SocketOptions(mode=0o666),
        SocketOptions(mode=0o666, user=NOBODY, group=NOBODY),
        SocketOptions(mode=0o666, user=OTHER, group=OTHER),
    ],
    ids=["usual", "its own", "another's"],
)
@pytest.mark.parametrize("swap", ["link", "hard link"])
def test_swapped_right_after_bind(
    kind: Kind,
    user: Account | None,
    options: SocketOptions,
    swap: str,
    secret: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever has the name after bind(2) is not taken for the socket's file."""
    address = at(secret, "a.sock", kind)

    prepared = f"{address.path}.new"
    (os.link if swap == "hard link" else os.symlink)(secret, prepared)

    class Swapped(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            os.rename(prepared, address)

    monkeypatch.setattr(socket, "socket", Swapped)
    with pytest.raises(OpenError, match="somebody else has replaced the socket's file"):
        open_unix(address, options, user)


@KINDS
@USERS
def test_raced(kind: Kind, user: Account | None, secret: Path) -> None:
    """The same with an attacker that runs, and wins or loses."""
    command = [sys.executable, "-S", "-c", ATTACKER, str(secret.parent / "theirs"), str(secret), str(RACES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        attacker.stdout.readline()
        for number in range(RACES):
            options = SocketOptions(mode=0o666, user=None if user is None else user.uid)
            with suppress(OpenError):
                open_unix(at(secret, f"s{number}", kind), options, user)[0].close()
        assert attacker.stdout.read() == b"%d\n" % RACES


@KINDS
def test_a_way_that_was_prepared(kind: Kind, secret: Path) -> None:
    """A link on the way leads root nowhere that the user couldn't go."""
    (secret.parent / "theirs" / "way").symlink_to("..")
    for user in (Account.of(NOBODY), None):
        with pytest.raises(OpenError, match="no right to write to"):
            open_unix(at(secret, "way/a.sock", kind), SocketOptions(), user)
    assert sorted(os.listdir(secret.parent)) == ["secret", "theirs"]


def test_a_stale_one_on_a_prepared_way_is_not_removed(secret: Path) -> None:
    """Neither before a bind nor when the socket is closed."""
    hidden = secret.parent / "hidden"
    hidden.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(hidden / "a.sock"))
    (secret.parent / "theirs" / "way").symlink_to("../hidden")
    for user in (Account.of(NOBODY), None):
        with pytest.raises((OpenError, PermissionError)):
            open_unix(at(secret, "way/a.sock"), SocketOptions(), user)
    assert (hidden / "a.sock").is_socket()


@KINDS
def test_whose_it_is(kind: Kind, secret: Path) -> None:
    """The dropped user's, or whom the options name: from the start, and with its mode."""
    user = Account.of(NOBODY)
    for options, owner, group in [
        (SocketOptions(user=NOBODY), NOBODY, user.gid),
        (SocketOptions(user=NOBODY, group=OTHER), NOBODY, OTHER),
        (SocketOptions(user=OTHER, group=OTHER), OTHER, OTHER),
    ]:
        for path in (secret.parent / "theirs" / "a.sock", secret.parent / "a.sock"):
            sock, file = open_unix(Address(kind, path=str(path)), options, user)
            found = path.lstat()
            assert found.st_uid == owner
            if path.parent != secret.parent or options.group is not None:
                assert found.st_gid == group
            assert stat.S_IMODE(found.st_mode) == 0o660
            assert file is not None
            file.remove()
            assert not path.exists()
            sock.close()


def test_given_to_another_only_by_whom_it_belongs_to(secret: Path) -> None:
    """Root leaves a socket in a directory that others prepare to the owner of that directory."""
    (secret.parent / "theirs" / "sub").mkdir()
    os.chown(secret.parent / "theirs" / "sub", NOBODY, -1)
    with pytest.raises(OpenError, match="root gives it to nobody: choose root's own directory"):
        open_unix(at(secret, "sub/a.sock"), SocketOptions(user=0))
    assert not os.listdir(secret.parent / "theirs" / "sub")
    sock, file = open_unix(at(secret, "sub/a.sock"), SocketOptions())
    with sock:
        assert file is not None
        assert Path(file.path).lstat().st_uid == NOBODY
        file.remove()


def test_a_default_acl_changes_no_mode(secret: Path) -> None:
    """A directory's own rules for what is made in it don't bind the socket."""
    acl = bytes.fromhex("0200000001000700ffffffff04000500ffffffff20000000ffffffff")
    os.setxattr(secret.parent / "theirs", "system.posix_acl_default", acl)
    sock, file = open_unix(at(secret, "a.sock"), SocketOptions(mode=0o666), Account.of(NOBODY))
    with sock:
        assert file is not None
        assert stat.S_IMODE(os.lstat(file.path).st_mode) == 0o666
        file.remove()


@pytest.mark.parametrize("swap", [os.symlink, os.link, None])
def test_changed_while_it_is_open(swap: Any, secret: Path) -> None:
    """A reload changes owner and mode of the socket, or nothing: root only where nobody else may swap it."""
    options = SocketOptions()
    path = secret.parent / "a.sock"
    opened: Opened = open_address(Address(Kind.UNIX, path=str(path)), options)
    with opened.sock:
        tune(opened, options, replace(options, mode=0o600, user=NOBODY))
        assert (stat.S_IMODE(path.lstat().st_mode), path.lstat().st_uid) == (0o600, NOBODY)
        if swap is None:
            secret.parent.chmod(0o777)
            with pytest.raises(OpenError, match="others may replace the socket's file"):
                tune(opened, options, replace(options, mode=0o666))
            tune(opened, options, replace(options, mode=0o600))
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            return
        path.unlink()
        swap(secret, path)
        tune(opened, options, replace(options, mode=0o666, user=NOBODY))
        assert opened.file is not None
        opened.file.change(NOBODY, NOBODY, 0o666)  # as if it were swapped after the look
        opened.file.remove()
        assert os.path.lexists(path)
