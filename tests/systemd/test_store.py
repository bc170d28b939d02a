"""What systemd hands over becomes listeners' sockets; what we open is left in its store, and found there."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogLevel

from sockd.base.addresses import Address, Kind, parse
from sockd.systemd.inherited import Inherited, stored_name
from sockd.systemd.store import FdStore, adopt
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.opening import Opened, open_address
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.sockets import Sockets
from tests.daemons import Daemons, Running, Systemd
from tests.tree.house import Datagrams, Events, House, Probes

TCP = Address(Kind.TCP, "127.0.0.1", 0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def systemd(house: House) -> Systemd:
    return Systemd(house.loop)


Open = Callable[..., Opened]


@pytest.fixture
def opened(stack: ExitStack) -> Open:
    """Opens what an earlier process had, or systemd."""

    def make(address: Address | str, options: SocketOptions | None = None) -> Opened:
        found = open_address(
            parse(address) if isinstance(address, str) else address, options or SocketOptions()
        )
        stack.callback(found.sock.close)
        return found

    return make


def stored(*sockets: Opened) -> Inherited:
    """As they come back from the store."""
    return Inherited(stored=[(stored_name(each.sock, each.file), each.sock.dup()) for each in sockets])


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def name_of(opened: Opened) -> str:
    return stored_name(opened.sock, opened.file)


# -- the store


def test_each_socket_is_stored_once(opened: Open, systemd: Systemd) -> None:
    """However often it is opened or taken over; forgotten, it may be stored again."""
    store = FdStore(systemd, 10)
    one = opened(TCP)
    store.keep(one)
    store.keep(one)
    name = f"FDNAME={name_of(one)}"
    assert systemd.heard == [("FDSTORE=1", name, "FDPOLL=0")]
    store.forget(one)
    store.forget(one)
    assert systemd.heard[1:] == [("FDSTOREREMOVE=1", name)]
    store.keep(one)
    assert len(systemd.heard) == 3


def test_what_came_from_there_is_there(opened: Open, systemd: Systemd) -> None:
    """It is not stored once more, but it can be taken out."""
    store = FdStore(systemd, 10)
    one = opened(TCP)
    store.has(one)
    store.keep(one)
    assert not systemd.heard
    store.forget(one)
    assert systemd.words() == ["FDSTOREREMOVE"]


def test_what_is_systemds_is_not_stored(opened: Open, systemd: Systemd) -> None:
    """A .socket unit has its own hold on it."""
    one = opened(TCP)
    FdStore(systemd, 10).keep(Opened(one.sock, one.address, ours=False))
    assert not systemd.heard


@pytest.mark.parametrize(("there", "size"), [(False, 10), (True, None), (True, 0)])
def test_no_store(there: bool, size: int | None, house: House, opened: Open) -> None:
    """Without systemd, or with one that keeps nothing, nothing is said."""
    systemd = Systemd(house.loop, there=there)
    store = FdStore(systemd, size)
    assert not store.active
    one = opened(TCP)
    store.keep(one)
    store.has(one)
    store.forget(one)
    assert not systemd.heard


# -- sockets of .socket units


def named(house: House, systemd: Systemd, **sockets: list[socket.socket]) -> tuple[Sockets, Events]:
    log = Events()
    return adopt(Inherited(named=dict(sockets)), FdStore(systemd, 10), log.log), log


def test_sockets_of_all_kinds(house: House, systemd: Systemd, opened: Open, tmp_path: Path) -> None:
    """Each under its name, several under one in their order; datagram sockets name the sender."""
    addresses = ["tcp://127.0.0.1:0", "udp://0.0.0.0:0", f"unix://{tmp_path}/a", f"unixgram://{tmp_path}/b"]
    given = [opened(address) for address in addresses]
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    raw.bind(f"{tmp_path}/c")
    sockets, log = named(house, systemd, web=[given[0].sock, given[2].sock], log=[given[1].sock, raw])
    assert not log.events
    assert not systemd.heard
    assert sockets.how_many("web") == 2
    found = [
        (str(each.address), each.ours, each.file) for each in (*sockets.passed["web"], *sockets.passed["log"])
    ]
    assert found == [
        (str(given[0].address), False, None),
        (str(given[2].address), False, None),
        (str(given[1].address), False, None),
        (f"unixgram://{tmp_path}/c", False, None),
    ]  # fmt: skip
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
    raw.close()


def test_sockets_of_no_use(house: House, systemd: Systemd, opened: Open) -> None:
    """Told by their name, and closed; the others of the name are there."""
    right = opened(TCP)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    sockets, log = named(
        house, systemd, web=[bound, right.sock], other=[socket.socket(type=socket.SOCK_DGRAM)]
    )
    assert log.messages(LogLevel.warn) == [
        (
            "systemd passed a socket named web that can't be used: "
            "it is not a listening socket: its .socket unit needs Accept=no"
        ),
        "systemd passed a socket named other that can't be used: it has no address",
    ]
    assert bound.fileno() == -1
    assert (sockets.how_many("web"), sockets.how_many("other")) == (1, 0)
    with pytest.raises(OpenError, match="systemd passed no socket named other"):
        sockets.named("other", 0, SocketOptions())


def test_problems_of_the_environment_are_told(house: House, systemd: Systemd) -> None:
    """Those that taking them has found."""
    log = Events()
    adopt(Inherited(problems=["LISTEN_FDS=x is not a number"]), FdStore(systemd, 10), log.log)
    assert log.messages(LogLevel.warn) == ["systemd: LISTEN_FDS=x is not a number"]


def test_an_endpoint_on_a_socket_of_systemds(
    house: House, run: Daemons, systemd: Systemd, opened: Open
) -> None:
    """It serves there; a socket that no endpoint uses is logged."""
    web, other = opened(TCP), opened(TCP)
    sockets, _ = named(house, systemd, web=[web.sock], other=[other.sock])
    running = run(house.plan("systemd://web", stream=Probes()), sockets=sockets).start()
    running.connect()
    assert running.log.messages(LogLevel.warn) == [
        "systemd passed a socket named other, but no endpoint listens on systemd://other"
    ]


# -- our own, from the store


def kept(
    run: Daemons, systemd: Systemd, inherited: Inherited, *endpoints: Any, size: int = 10, **plan: Any
) -> Running:
    """A daemon that gets these sockets from the store; not started."""
    return run(*endpoints, sockets=adopt(inherited, FdStore(systemd, size), Events().log), **plan)


def test_the_same_socket_goes_on(
    house: House, run: Daemons, systemd: Systemd, opened: Open, tmp_path: Path
) -> None:
    """A newcomer in its backlog is served, and its file is the one that it had."""
    tcp, path = opened(TCP), opened(f"unix://{tmp_path}/a")
    waiting = [house.connect(each.address, b"hello") for each in (tcp, path)]
    running = kept(
        run, systemd, stored(tcp, path), house.plan(tcp.address, path.address, stream=Probes())
    ).start()
    listeners = running.daemon.endpoints[0].listeners
    assert [inode(each.opened.sock) for each in listeners if each.opened] == [
        inode(each.sock) for each in (tcp, path)
    ]
    assert [house.receive(client, 5) for client in waiting] == [b"hello"] * 2
    assert systemd.words() == []
    running.stop()
    assert systemd.words() == []
    assert (tmp_path / "a").exists()


def test_a_datagram_socket_goes_on(house: House, run: Daemons, systemd: Systemd, opened: Open) -> None:
    """What was queued there is received."""
    udp = opened("udp://127.0.0.1:0")
    client = house.connect(udp.address, b"hello")
    kept(run, systemd, stored(udp), house.plan(udp.address, datagram=Datagrams())).start()
    assert house.receive(client, 5) == b"hello"


def test_left_over(house: House, run: Daemons, systemd: Systemd, opened: Open, tmp_path: Path) -> None:
    """What the file doesn't mention any more is closed, forgotten, and its file removed."""
    path = opened(f"unix://{tmp_path}/a")
    kept(run, systemd, stored(path), house.plan(str(TCP), stream=Probes())).start()
    assert systemd.heard[-1] == ("FDSTOREREMOVE=1", f"FDNAME={name_of(path)}")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("another", [False, True])
def test_its_file_is_gone(
    another: bool, house: House, run: Daemons, systemd: Systemd, opened: Open, tmp_path: Path
) -> None:
    """Nobody could reach it: it is opened again, unless another program has the name now."""
    path = opened(f"unix://{tmp_path}/a")
    (tmp_path / "a").unlink()
    inherited = stored(path)
    path.sock.close()
    if another:
        opened(path.address)
    log = Events()
    sockets = adopt(inherited, FdStore(systemd, 10), log.log)
    assert log.messages() == [f"unix://{tmp_path}/a was kept, but its file is gone: it is opened again"]
    assert systemd.words() == ["FDSTOREREMOVE"]
    running = run(house.plan(path.address, stream=Probes()), sockets=sockets).start()
    assert running.daemon.endpoints[0].running == (not another)


def test_a_file_that_is_not_known(house: House, systemd: Systemd, opened: Open, tmp_path: Path) -> None:
    """A name without it (it isn't from us) leads nowhere."""
    path = opened(f"unix://{tmp_path}/a")
    log = Events()
    adopt(Inherited(stored=[("sockd-listener-7", path.sock)]), FdStore(systemd, 10), log.log)
    assert "its file is gone" in log.messages()[0]
    assert path.sock.fileno() == -1


def test_an_abstract_name_has_no_file(house: House, run: Daemons, systemd: Systemd, opened: Open) -> None:
    """There is none to be gone."""
    abstract = opened(f"unix://@sockd-{os.getpid()}")
    running = kept(run, systemd, stored(abstract), house.plan(abstract.address, stream=Probes())).start()
    running.connect()
    assert not systemd.heard


def test_of_no_use(house: House, systemd: Systemd) -> None:
    """Told and closed."""
    log = Events()
    sock = socket.socket()
    adopt(Inherited(stored=[("sockd-listener-7", sock)]), FdStore(systemd, 10), log.log)
    (message,) = log.messages(LogLevel.warn)
    assert message.startswith("the fd store had sockd-listener-7, of no use: ")
    assert sock.fileno() == -1


def test_other_options(house: House, run: Daemons, systemd: Systemd, opened: Open) -> None:
    """Where the kernel lets an open socket have them, it gets those of the file."""
    tcp = opened(TCP, SocketOptions(nodelay=False))
    plan = house.plan(tcp.address, stream=Probes(), sockets=SocketOptions(nodelay=True))
    running = kept(run, systemd, stored(tcp), plan).start()
    (listener,) = running.daemon.endpoints[0].listeners
    assert listener.opened is not None
    assert inode(listener.opened.sock) == inode(tcp.sock)
    assert listener.opened.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("before", [False, True])
def test_reuse_port_is_another(
    before: bool, house: House, run: Daemons, systemd: Systemd, opened: Open
) -> None:
    """That can't be had after bind(2): it is opened again as soon as the old one is closed."""
    tcp = opened(TCP, SocketOptions(reuse_port=before))
    inherited = stored(tcp)
    tcp.sock.close()
    plan = house.plan(tcp.address, stream=Probes(), sockets=SocketOptions(reuse_port=not before))
    running = kept(run, systemd, inherited, plan).start()
    house.run_clock(lambda: running.daemon.endpoints[0].running)
    assert house.loop.seconds() < 2.0
    running.connect()
    assert sorted(systemd.words()) == ["FDSTORE", "FDSTOREREMOVE"]


def test_a_store_that_is_too_small(house: House, run: Daemons, systemd: Systemd, tmp_path: Path) -> None:
    """A warning says how many there are, the control socket included."""
    control = Address(Kind.UNIX, path=f"{tmp_path}/control")
    for size, told in ((3, 0), (2, 1)):
        plan = house.plan(str(TCP), str(TCP), stream=Probes())
        running = kept(run, systemd, Inherited(), plan, size=size, control=control).start()
        assert len(running.log.messages(LogLevel.warn)) == told
        if told:
            assert running.log.messages(LogLevel.warn) == [
                "systemd's fd store has room for 2 of 3 sockets: raise FileDescriptorStoreMax="
            ]
        assert systemd.words() == ["FDSTORE"] * 3
        running.stop()
