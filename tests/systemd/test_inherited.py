"""Sockets from systemd: all that were passed, once, whatever looked before; anything else is reported."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sockd.base.addresses import Address, Kind
from sockd.systemd import inherited
from sockd.systemd.inherited import (
    STORED_PREFIX,
    Inherited,
    address_of,
    environment_at_exec,
    stored_name,
    take,
)

PID = 4711
FREE = 700  # of this many numbers and those after it, nothing else in the test's process is open

# What systemd does between fork and exec: number the descriptors from 3 on, and name their process.
PASS = """
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 500) for number in sys.argv[1].split(",")]
for number, descriptor in enumerate(given, 3):
    os.dup2(descriptor, number, inheritable=True)
os.closerange(500, max(given) + 1)
environ = {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given))}
os.execve(sys.executable, [sys.executable, "-c", *sys.argv[2:]], environ)
"""
TAKE = """
import json, os, sys
if sys.argv[1] == "late":
    import twisted.internet.endpoints
from sockd.systemd.inherited import address_of, environment_at_exec, take
seen = "LISTEN_FDS" in os.environ
def said(taken):
    return {
        "named": {name: [str(address_of(one)) for one in sockets] for name, sockets in taken.named.items()},
        "stored": [str(address_of(one)) for _, one in taken.stored],
        "problems": taken.problems,
    }
taken, again = (take(os.environ, os.getpid(), environment_at_exec()) for _ in range(2))
sockets = [one for several in (*taken.named.values(), [sock for _, sock in taken.stored]) for one in several]
print(json.dumps({
    **said(taken),
    "seen": seen,
    "again": said(again),
    "kept": [one.fileno() for one in sockets if os.get_inheritable(one.fileno()) or one.getblocking()],
    "left": [name for name in os.environ if name.startswith("LISTEN_")],
}))
"""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes, when the test ends, whatever entered it."""
    with ExitStack() as stack:
        yield stack


def tcp(host: str = "127.0.0.1", *, dual: bool = False, type_: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, type_)
    if ":" in host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
    sock.bind((host, 0))
    if type_ == socket.SOCK_STREAM:
        sock.listen(1)
    return sock


def unix(path: str | bytes, type_: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, type_)
    sock.bind(path)
    if type_ == socket.SOCK_STREAM:
        sock.listen(1)
    return sock


def in_child(sockets: list[socket.socket], names: str, when: str) -> dict[str, Any]:
    """What a real process that got these sockets took, before or after Twisted's own look at them."""
    numbers = [sock.fileno() for sock in sockets]
    result = subprocess.run(
        [sys.executable, "-c", PASS, ",".join(map(str, numbers)), TAKE, when],
        pass_fds=numbers,
        env={**os.environ, "LISTEN_FDNAMES": names},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_real_process_takes_them_all(when: str, opened: ExitStack, tmp_path: Path) -> None:
    """All sockets of a name and ours from the store, also after twisted.internet.endpoints was imported.

    That import removes variables from os.environ, and makes nothing close-on-exec.
    """
    web = tcp()
    dns = tcp(type_=socket.SOCK_DGRAM)
    stream = unix(str(tmp_path / "a.sock"))
    log = unix(str(tmp_path / "b.sock"), socket.SOCK_DGRAM)
    kept = tcp("::1")
    sockets = [web, stream, dns, kept, log]
    for sock in sockets:
        opened.enter_context(sock)
    found = in_child(sockets, f"web:web:dns:{STORED_PREFIX}12:log", when)
    addresses = {sock: str(address_of(sock)) for sock in sockets}
    assert found == {
        "named": {
            "web": [addresses[web], f"unix://{tmp_path}/a.sock"],
            "dns": [addresses[dns]],
            "log": [f"unixgram://{tmp_path}/b.sock"],
        },
        "stored": [addresses[kept]],
        "problems": [],
        "seen": when == "early",
        "again": {"named": {}, "stored": [], "problems": []},
        "kept": [],
        "left": [],
    }


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Descriptors put in here are as if systemd had passed them, at numbers that the tests have free."""
    monkeypatch.setattr(inherited, "FIRST_DESCRIPTOR", FREE)
    numbers: list[int] = []
    yield numbers
    for number in numbers:
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            continue
        os.close(number)


def give(passed: list[int], *descriptors: int) -> None:
    for descriptor in descriptors:
        passed.append(os.dup2(descriptor, FREE + len(passed)))


def closed(result: Inherited) -> list[str]:
    """Close what was taken; the problems."""
    stored = [sock for _, sock in result.stored]
    for sock in (*stored, *(one for several in result.named.values() for one in several)):
        sock.close()
    return result.problems


def block(**variables: object) -> bytes:
    return b"\0".join(f"{name}={value}".encode() for name, value in variables.items())


def test_nothing_was_passed() -> None:
    """Started by hand there are none, and nothing is amiss."""
    assert take({}, PID, b"") == Inherited()
    assert take({}, PID, block(HOME="/root")) == Inherited()


def test_falls_back_to_the_environment(passed: list[int], opened: ExitStack) -> None:
    """Where the environment at exec can't be read, the present one says it."""
    give(passed, opened.enter_context(tcp()).fileno())
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "HOME": "/"}
    result = take(environ, PID, b"")
    assert list(result.named) == ["web"]
    assert environ == {"HOME": "/"}
    assert closed(result) == []


def test_the_environment_at_exec_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without proc(5) there is nothing, and no traceback."""

    def refuse(path: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert environment_at_exec() == b""


def test_another_process_is_meant(passed: list[int], opened: ExitStack) -> None:
    """Sockets of a parent that did not clean up are left alone; children of ours don't hear of them."""
    give(passed, opened.enter_context(tcp()).fileno())
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_PIDFDID": "9"}
    assert take(environ, PID, b"") == Inherited()
    assert environ == {}
    assert not fcntl.fcntl(FREE, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_sockets_without_names(passed: list[int], opened: ExitStack) -> None:
    """An activator that names nothing gives them sd_listen_fds_with_names' name for that."""
    give(passed, opened.enter_context(tcp()).fileno(), opened.enter_context(tcp()).fileno())
    result = take({}, PID, block(LISTEN_PID=PID, LISTEN_FDS=2))
    assert [sock.fileno() for sock in result.named["unknown"]] == [FREE, FREE + 1]
    assert closed(result) == []


@pytest.mark.parametrize("text", ["abc", "", "-1", "1_0", "٣", "99999", "1" * 400, "1\x1b[2J"])
def test_a_wrong_number(text: str) -> None:
    """What is no number of sockets is one line, in which nothing can drive a terminal."""
    result = take({}, PID, block(LISTEN_PID=PID, LISTEN_FDS=text))
    (problem,) = closed(result)
    assert problem.startswith("LISTEN_FDS=")
    assert problem.isprintable()
    assert len(problem) < 100


def test_a_wrong_process(passed: list[int]) -> None:
    """What is no process id is nobody's, as sd_listen_fds(3) has it."""
    assert take({}, PID, block(LISTEN_PID="abc", LISTEN_FDS=1)) == Inherited()


def test_names_that_do_not_fit(passed: list[int], opened: ExitStack) -> None:
    """No endpoint gets another's socket by a guess: they stay without a name."""
    give(passed, opened.enter_context(tcp()).fileno(), opened.enter_context(tcp()).fileno())
    result = take({}, PID, block(LISTEN_PID=PID, LISTEN_FDS=2, LISTEN_FDNAMES="a:b:c"))
    assert {name: len(sockets) for name, sockets in result.named.items()} == {"unknown": 2}
    assert closed(result) == ["LISTEN_FDNAMES has 3 names for 2 sockets: which is whose is not known"]


def test_numbers_that_are_not_open(passed: list[int], opened: ExitStack) -> None:
    """Told in one line, however many; the others are taken."""
    give(passed, opened.enter_context(tcp()).fileno())
    result = take({}, PID, block(LISTEN_PID=PID, LISTEN_FDS=2))
    assert len(result.named["unknown"]) == 1
    assert closed(result) == [f"LISTEN_FDS=2, but file descriptor {FREE + 1} is not open"]
    many = take({}, PID, block(LISTEN_PID=PID, LISTEN_FDS=5000))
    assert closed(many) == [f"LISTEN_FDS=5000, but file descriptor {FREE} is not open, nor are 4999 more"]


def test_what_is_no_socket(passed: list[int], opened: ExitStack, tmp_path: Path) -> None:
    """A file (OpenFile= passes some) is reported and stays open, but hidden from children."""
    file = opened.enter_context((tmp_path / "a").open("w"))
    give(passed, file.fileno(), opened.enter_context(tcp()).fileno())
    result = take({}, PID, block(LISTEN_PID=PID, LISTEN_FDS=2, LISTEN_FDNAMES="fi\x1ble:web"))
    assert list(result.named) == ["web"]
    assert closed(result) == [f"file descriptor {FREE}, named fi\\x1ble, is not a socket"]
    assert not os.get_inheritable(FREE)


def test_a_number_that_is_somebody_elses(passed: list[int], opened: ExitStack) -> None:
    """A descriptor that is closed on exec did not come through one: it is none of those that were passed."""
    give(passed, opened.enter_context(tcp()).fileno())
    os.set_inheritable(FREE, False)
    assert take({}, PID, block(LISTEN_PID=PID, LISTEN_FDS=1)) == Inherited()
    assert fcntl.fcntl(FREE, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_the_stored_name_stays(opened: ExitStack) -> None:
    """It is the socket's, not the descriptor's; another socket has another. systemd takes no ':' in it."""
    one, other = opened.enter_context(tcp()), opened.enter_context(tcp())
    again = opened.enter_context(one.dup())
    assert stored_name(one, None) == stored_name(again, None)
    assert stored_name(one, None) != stored_name(other, None)
    assert stored_name(one, None).startswith(STORED_PREFIX)
    assert ":" not in stored_name(one, None)


@pytest.mark.parametrize(
    ("bound", "dual", "host"),
    [
        ("127.0.0.1", False, "127.0.0.1"),
        ("0.0.0.0", False, "0.0.0.0"),
        ("::1", False, "::1"),
        ("::", False, "::"),
        ("::", True, "*"),
        ("::1", True, "::1"),
        ("::ffff:127.0.0.1", True, "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("kind", [Kind.TCP, Kind.UDP])
def test_address_of_an_internet_socket(
    kind: Kind, bound: str, dual: bool, host: str, opened: ExitStack
) -> None:
    """As the file writes it: canonical, and `*` for a socket of both families."""
    type_ = socket.SOCK_STREAM if kind is Kind.TCP else socket.SOCK_DGRAM
    sock = opened.enter_context(tcp(bound, dual=dual, type_=type_))
    assert address_of(sock) == Address(kind, host, sock.getsockname()[1])


@pytest.mark.parametrize(
    ("kind", "type_"), [(Kind.UNIX, socket.SOCK_STREAM), (Kind.UNIXGRAM, socket.SOCK_DGRAM)]
)
def test_address_of_a_unix_socket(kind: Kind, type_: int, opened: ExitStack, tmp_path: Path) -> None:
    """Paths as they are, abstract names with `@`, and what can't be printed made visible."""
    path = str(tmp_path / "a.sock")
    assert address_of(opened.enter_context(unix(path, type_))) == Address(kind, path=path)
    name = f"{os.getpid()}-{kind}"
    abstract = opened.enter_context(unix(f"\0{name}-é".encode() + b"\xff\0\n", type_))
    assert address_of(abstract) == Address(kind, path=f"@{name}-é\\xff\\x00\\x0a")


def test_what_is_not_served(opened: ExitStack, tmp_path: Path) -> None:
    """Kinds that sockd doesn't speak, connections and sockets without an address, each with the reason."""
    kinds = "neither TCP, UDP, a Unix stream nor a Unix datagram socket"
    one, _ = map(opened.enter_context, socket.socketpair())
    datagrams, _ = map(opened.enter_context, socket.socketpair(type=socket.SOCK_DGRAM))
    wrong = [
        (unix(str(tmp_path / "a"), socket.SOCK_SEQPACKET), kinds),
        (socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0), kinds),
        (socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE), kinds),
        (one, "Accept=no"),
        (socket.socket(), "Accept=no"),
        (datagrams, "no address"),
        (socket.socket(type=socket.SOCK_DGRAM), "no address"),
    ]
    for sock, why in wrong:
        opened.enter_context(sock)
        with pytest.raises(ValueError, match=why):
            address_of(sock)
