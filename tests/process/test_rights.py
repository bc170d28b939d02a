"""Whether an address could be opened again, with fewer rights than it was opened with."""

import os
from pathlib import Path

import pytest

from sockd.base.addresses import parse
from sockd.process.rights import Rights
from sockd.transports.sockets.options import SocketOptions
from tests.tree.house import raising

LESSER = Rights(
    7, frozenset((7, 8)), gives_away=False, first_port=1024, may_write=lambda path: path == "/run/a"
)
LOW = "ports below 1024 need root or CAP_NET_BIND_SERVICE"
GIVING = "no right to give the socket this user or group"
STATUS = "Name:\tpython3\nCapPrm:\t0000000000000000\nCapEff:\t{:016x}\nCapBnd:\t000001ffffffffff\n"


@pytest.mark.parametrize(
    ("address", "missing"),
    [
        ("tcp://127.0.0.1:1023", LOW),
        ("tls://*:443", LOW),
        ("udp://[::1]:7", LOW),
        ("tcp://127.0.0.1:1024", ""),
        ("udp://*:0", ""),
        ("unix:///run/a/b.sock", ""),
        ("unix:///run/b.sock", "no right to write to /run"),
        ("unixgram:///run/b.sock", "no right to write to /run"),
        ("unix://@b", ""),
        ("systemd://web", ""),
    ],
)
def test_addresses(address: str, missing: str) -> None:
    """Low ports and the directories of others; neither where there is neither."""
    assert LESSER.missing(parse(address), SocketOptions()) == missing


@pytest.mark.parametrize(
    ("user", "group", "missing"),
    [(None, None, ""), (7, 8, ""), (7, 9, GIVING), (None, 9, GIVING), (0, None, GIVING), (0, 8, GIVING)],
)
def test_who_a_socket_is_given_to(user: int | None, group: int | None, missing: str) -> None:
    """To ourselves and our groups; to anybody else only with the right to do so."""
    options = SocketOptions(user=user, group=group)
    assert LESSER.missing(parse("unix:///run/a/b.sock"), options) == missing
    mighty = Rights(0, frozenset((0,)), gives_away=True, first_port=0, may_write=lambda _: True)
    assert mighty.missing(parse("unix:///run/a/b.sock"), options) == ""


def proc(directory: Path, capabilities: int | None, first_port: str | None) -> Path:
    """As the kernel says, if it does."""
    (directory / "self").mkdir()
    ports = directory / "sys/net/ipv4"
    ports.mkdir(parents=True)
    if capabilities is not None:
        (directory / "self/status").write_text(STATUS.format(capabilities))
    if first_port is not None:
        (ports / "ip_unprivileged_port_start").write_text(first_port)
    return directory


@pytest.mark.parametrize(
    ("capabilities", "first_port", "gives_away", "first"),
    [
        (0, "1024\n", False, 1024),
        (0, "80\n", False, 80),
        (0, None, False, 1024),
        (1 << 10, "1024\n", False, 0),
        (1, "1024\n", True, 1024),
        (0x1FFFFFFFFFF, "1024\n", True, 0),
    ],
)
def test_ours(
    capabilities: int, first_port: str | None, gives_away: bool, first: int, tmp_path: Path
) -> None:
    """Capabilities count, not the user; a machine may have other privileged ports than most."""
    found = Rights.ours(proc(tmp_path, capabilities, first_port))
    assert (found.gives_away, found.first_port) == (gives_away, first)
    assert found.uid == os.geteuid()
    assert found.groups >= {os.getegid()}


@pytest.mark.parametrize(("uid", "mighty"), [(0, True), (7, False)])
def test_where_the_kernel_tells_nothing(
    uid: int, mighty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may all, others nothing special."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    found = Rights.ours(tmp_path)
    assert (found.gives_away, found.first_port) == (mighty, 0 if mighty else 1024)


def test_directories(tmp_path: Path) -> None:
    """The kernel is asked, for the user that we are now."""
    found = Rights.ours()
    assert found.missing(parse(f"unix://{tmp_path}/a.sock"), SocketOptions()) == ""
    gone = tmp_path / "gone"
    assert found.missing(parse(f"unix://{gone}/a.sock"), SocketOptions()) == f"no right to write to {gone}"


def test_groups_that_a_sandbox_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there are none but our own: at worst a note too many."""
    monkeypatch.setattr(os, "getgroups", raising(PermissionError(1, "Operation not permitted")))
    assert Rights.ours(tmp_path).groups == {os.getegid()}
