"""The table that a person sees at start."""

import socket
from pathlib import Path

import pytest

from sockd.base.addresses import Address, Kind, parse
from sockd.base.errors import SockdError
from sockd.control.welcome import attempt, shortened, welcome
from tests.tree.house import Datagrams, House, Probes, Service


@pytest.mark.parametrize(
    ("address", "protocol", "command"),
    [
        ("tcp://127.0.0.1:7007", "echo", "ncat 127.0.0.1 7007"),
        ("tcp://*:7007", "echo", "ncat 127.0.0.1 7007"),
        ("tcp://0.0.0.0:7007", "chat", "ncat 127.0.0.1 7007"),
        ("tcp://[::]:7007", "chat", "ncat ::1 7007"),
        ("udp://[::1]:7007", "echo", "ncat --udp ::1 7007"),
        ("unix://run/a.sock", "echo", "ncat --unixsock run/a.sock"),
        ("unix://@name", "echo", "socat - ABSTRACT-CONNECT:name"),
        ("unixgram://run/a.sock", "echo", "ncat --udp --unixsock run/a.sock"),
        ("unixgram://@name", "chat", "socat - ABSTRACT-SENDTO:name,bind=name.me"),
        ("tcp://127.0.0.1:5514", "line-log", "logger --tcp --server 127.0.0.1 --port 5514 hello"),
        ("udp://*:5514", "line-log", "logger --udp --server 127.0.0.1 --port 5514 hello"),
        ("unix://log.sock", "line-log", "ncat --unixsock log.sock"),
        ("unixgram://log.sock", "line-log", "logger --socket log.sock hello"),
        ("unixgram://@log", "line-log", "socat - ABSTRACT-SENDTO:log,bind=log.me"),
        ("tls://127.0.0.1:7443", "echo", "ncat --ssl 127.0.0.1 7443"),
        ("tls://*:6514", "line-log", "ncat --ssl 127.0.0.1 6514"),
        ("systemd://web", "echo", "(as its .socket unit says)"),
    ],
)
def test_commands(address: str, protocol: str, command: str) -> None:
    """Each kind of address has a program that reaches it."""
    assert attempt(parse(address), protocol) == command


def test_paths_from_here() -> None:
    """Short where they lie below, whole elsewhere."""
    here = Path("/srv/sockd")
    below, beside = (
        Address(Kind.UNIX, path="/srv/sockd/run/a.sock"),
        Address(Kind.UNIX, path="/srv/sockd2/a.sock"),
    )
    assert shortened(below, here).path == "run/a.sock"
    assert shortened(beside, here) == beside


def test_what_listens_and_what_does_not() -> None:
    """One row for each listener, with the port that is open, or why there is none."""
    house = House()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        busy = house.run(
            f"tcp://127.0.0.1:{port}", "udp://127.0.0.1:0", stream=Probes(), datagram=Datagrams()
        )
    udp = busy.listeners[1].address.port
    lines = welcome([busy], Path.cwd()).splitlines()
    house.close()
    assert [line.split() for line in lines[:2]] == [[], ["endpoint", "protocol", "listener", "try"]]
    assert lines[2].split("  ")[0] == "lobby"
    assert lines[2].endswith("  (not open: the address is in use by another program)")
    assert lines[3].split() == [
        "lobby",
        "probe",
        f"udp://127.0.0.1:{udp}",
        "ncat",
        "--udp",
        "127.0.0.1",
        str(udp),
    ]


def test_what_is_held() -> None:
    """Where the protocol's service is down, trying would be in vain."""
    house = House()

    def trouble() -> None:
        raise SockdError("the disk is full")

    held = house.run("tcp://127.0.0.1:0", stream=Probes(), service=Service(trouble))
    lines = welcome([held], Path.cwd()).splitlines()
    house.close()
    assert lines[2].endswith("  (held: the disk is full)")


def test_on_a_terminal(tmp_path: Path) -> None:
    """No row is broken by the terminal: a command that has no room stands whole below its row."""
    house = House()
    path = tmp_path / ("x" * 20)
    running = house.run("tcp://127.0.0.1:0", f"unix://{path}", stream=Probes())
    tcp = running.listeners[0].address.port
    width = len(f"    ncat --unixsock {path}")
    lines = welcome([running], Path.cwd(), width).splitlines()
    house.close()
    assert max(map(len, lines)) == width
    assert lines[2].split() == ["lobby", "probe", f"tcp://127.0.0.1:{tcp}", "ncat", "127.0.0.1", str(tcp)]
    assert lines[-3:] == ["lobby     probe", f"    unix://{path}", f"    ncat --unixsock {path}"]
