"""A listener and its socket's file: noticed when lost, bound again, removed at the end, and only ours."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sockd.base.addresses import parse
from sockd.base.errors import SockdError
from sockd.base.units import Rate
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import SocketFile
from sockd.transports.sockets.watch import FILE_CHECK_INTERVAL
from sockd.tree.listener import SocketFileLostError
from sockd.tree.states import State
from tests.transports.loop import Probe, echo
from tests.tree.house import DELAY, Datagrams, House, Probes, Service

KINDS = pytest.mark.parametrize("kind", ["unix", "unixgram"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sock"


def send(house: House, path: Path, kind: str) -> Any:
    return house.connect(parse(f"{kind}://{path}"), b"x")


@KINDS
def test_socket_file_lives_with_its_listener(kind: str, path: Path, house: House) -> None:
    """It has its mode while the listener is open and is gone afterwards."""
    endpoint = house.run(
        f"{kind}://{path}", stream=Probes(), datagram=Datagrams(), sockets=SocketOptions(mode=0o640)
    )
    assert path.stat().st_mode & 0o777 == 0o640
    house.finish(endpoint.drain())
    assert not path.exists()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "unix://%s"])
def test_urgent_bytes_are_read(address: str, path: Path, house: House) -> None:
    """What a peer sends as urgent, as telnet does its Synch, comes in its place and isn't lost."""
    endpoint = house.run(address.replace("%s", str(path)), stream=Probes(lambda: Probe(echo)))
    client = house.connect(endpoint.listeners[0].address, b"a\xff")
    client.send(b"\xf2", socket.MSG_OOB)
    client.send(b"b")
    assert house.receive(client, 4) == b"a\xff\xf2b"


@KINDS
@pytest.mark.parametrize("replaced", [False, True])
def test_lost_file_is_noticed(kind: str, replaced: bool, path: Path, house: House) -> None:
    """When somebody removes or replaces it, the listener is opened anew; connections live on."""
    probes, datagrams = Probes(), Datagrams()
    endpoint = house.run(f"{kind}://{path}", stream=probes, datagram=datagrams)
    client = send(house, path, kind)
    house.until(lambda: probes.made or "datagrams" in datagrams.calls)
    if replaced:
        path.rename(path.with_suffix(".old"))  # keeps the inode from being used again
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
    else:
        path.unlink()
    (supervisor,) = endpoint.supervisors
    house.run_clock(lambda: supervisor.state is State.BACKING_OFF)
    assert supervisor.why == "the socket's file was removed or replaced"
    took = house.run_clock(lambda: supervisor.state is State.RUNNING)
    assert took <= DELAY + 0.1
    assert SocketFile.of(str(path)).there()
    before = len(probes.made) + datagrams.calls.count("datagrams")
    send(house, path, kind)
    house.until(lambda: len(probes.made) + datagrams.calls.count("datagrams") > before)
    if kind == "unix":
        client.send(b"y")
        assert house.receive(client, 2) == b"xy"
    else:
        assert datagrams.calls == ["start", "datagrams", "stop", "start", "datagrams"]


def test_untouched_file_is_looked_at_for_ever(path: Path, house: House) -> None:
    """And stays the same."""
    endpoint = house.run(f"unix://{path}", stream=Probes())
    before = SocketFile.of(str(path))
    house.loop.pump([FILE_CHECK_INTERVAL] * 100)
    assert before.there()
    assert endpoint.supervisors[0].restarts == 0


def test_what_took_its_place_is_left(path: Path, house: House) -> None:
    """A file that isn't ours is not removed at the stop."""
    endpoint = house.run(f"unix://{path}", stream=Probes())
    path.unlink()
    path.write_text("somebody's")
    house.finish(endpoint.drain())
    assert path.read_text() == "somebody's"


def test_file_that_may_not_be_removed(path: Path, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Privileges may be gone by the time we stop: that is told, and no failure."""
    endpoint = house.run(f"unix://{path}", stream=Probes())

    def refuse(file: SocketFile) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(SocketFile, "remove", refuse)
    house.finish(endpoint.drain())
    assert house.log.messages() == [f"lobby: {path} stays behind: Permission denied"]


def test_report_of_a_closed_socket_changes_nothing(house: House) -> None:
    """What fails after it was closed has failed already."""
    endpoint = house.run("tcp://127.0.0.1:0", stream=Probes())
    (listener,) = endpoint.listeners
    listener.lost(SocketFileLostError("late"), object())
    assert endpoint.supervisors[0].state is State.RUNNING


def test_a_port_of_ones_own_choice_is_shown(house: House) -> None:
    """Port 0 is the kernel's choice, told as it is, on both protocols."""
    endpoint = house.run("tcp://127.0.0.1:0", "udp://127.0.0.1:0", stream=Probes(), datagram=Datagrams())
    tcp, udp = (listener.address.port for listener in endpoint.listeners)
    assert tcp > 0
    assert set(house.ports) == {udp}
    house.finish(endpoint.drain())
    assert not house.ports


def test_limits_of_datagrams_reach_the_port(house: House) -> None:
    """The rates hold on each listener; what a source has too much of isn't taken from what all may have."""
    datagrams = Datagrams()
    endpoint = house.run(
        "udp://127.0.0.1:0", datagram=datagrams, datagrams=Rate(1, 1.0), datagrams_per_source=Rate(2, 1.0)
    )
    (listener,) = endpoint.listeners
    client = house.connect(listener.address, b"1")
    for _ in range(4):
        client.send(b"x")
    house.until(lambda: listener.counters.datagrams_in == 5)
    assert listener.counters.refused == {"datagrams": 1, "datagrams_per_source": 3}


def test_what_the_kernel_drops_is_counted(house: House) -> None:
    """Datagrams that find no room while we are held; of each socket that the listener ever had."""
    service = Service()
    endpoint = house.run(
        "udp://127.0.0.1:0",
        datagram=Datagrams(),
        service=service,
        sockets=SocketOptions(receive_buffer=4096),
    )
    (listener,), (supervisor,) = endpoint.listeners, endpoint.supervisors
    sent = 0
    for again in (False, False, True):
        if again:
            listener.lost(SockdError("lost"), listener.descriptor)
            house.run_clock(lambda: supervisor.state is State.RUNNING)
        endpoint.host.fail(SockdError("the disk is full"))
        client = house.connect(listener.address, b"x")
        for _ in range(99):
            client.send(bytes(500))
        sent += 100
        house.run_clock(lambda: endpoint.running)
        house.loop.settle()
        assert 0 < listener.counters.datagrams_in < sent
        assert listener.counters.refused == {"dropped by the kernel": sent - listener.counters.datagrams_in}
    house.finish(endpoint.drain())
    assert listener.counters.refused == {"dropped by the kernel": sent - listener.counters.datagrams_in}


@pytest.mark.parametrize("kind", [0, 1], ids=["udp", "unixgram"])
def test_nothing_dropped_is_nothing_counted(kind: int, path: Path, house: House) -> None:
    """A hold that lost nothing is no refusal."""
    datagrams = Datagrams()
    endpoint = house.run(
        ("udp://127.0.0.1:0", f"unixgram://{path}")[kind], datagram=datagrams, service=Service()
    )
    (listener,) = endpoint.listeners
    endpoint.host.fail(SockdError("the disk is full"))
    client = house.connect(listener.address, b"x")
    client.send(b"y")
    house.run_clock(lambda: endpoint.running)
    house.until(lambda: datagrams.data == [b"x", b"y"])
    house.finish(endpoint.drain())
    assert "dropped by the kernel" not in listener.counters.refused


def test_peers_of_unix_streams(path: Path, house: House) -> None:
    """The kernel says who they are."""
    endpoint = house.run(f"unix://{path}", stream=Probes())
    send(house, path, "unix")
    house.until(lambda: len(endpoint.connections))
    (server,) = endpoint.connections
    assert server.peer.text == f"uid={os.getuid()},pid={os.getpid()}"
    assert server.listener.name == f"unix://{path}"
