"""The control socket of a daemon: opened with the plan's rights, moved by a reload, closed at the end."""

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from sockd.base.addresses import Address, Kind
from sockd.process.rights import Rights
from sockd.transports.sockets.opening import Opened
from sockd.transports.sockets.watch import FILE_CHECK_INTERVAL
from sockd.tree.sockets import Sockets
from tests.daemons import Daemons, Running
from tests.tree.house import House, Probes, raising

TCP = "tcp://127.0.0.1:0"


def at(path: Path) -> Address:
    return Address(Kind.UNIX, path=str(path))


def connect(running: Running, path: Path) -> socket.socket:
    return running.house.connect(at(path))


def ask(client: socket.socket, command: str, **arguments: Any) -> None:
    client.send(json.dumps({"version": 1, "command": command, **arguments}).encode() + b"\n")


def answer(running: Running, client: socket.socket) -> Any:
    """The next line."""
    got = bytearray()
    while not got.endswith(b"\n"):
        got += running.house.receive(client, 1)
    return json.loads(got)


def closed(running: Running, client: socket.socket) -> bool:
    """Whether the daemon has let go of it, without an answer."""
    return running.house.receive(client, 1) == b""


def told(running: Running, path: Path, command: str, **arguments: Any) -> Any:
    """What a new client is answered."""
    client = connect(running, path)
    ask(client, command, **arguments)
    return answer(running, client)


def test_asked(house: House, run: Daemons, tmp_path: Path) -> None:
    """It answers from the start on, and its file is gone at the end."""
    path = tmp_path / "control.sock"
    running = run(house.plan(TCP, stream=Probes()), control=at(path))
    running.daemon.privilegedStartService()
    client = connect(running, path)
    ask(client, "status")
    running.daemon.startService()
    assert answer(running, client)["result"]["endpoints"][0]["name"] == "lobby"
    running.stop()
    assert closed(running, client)
    assert not path.exists()


def test_it_can_not_be_opened(house: House, run: Daemons, tmp_path: Path) -> None:
    """73: the daemon says why, opens nothing else, and leaves."""
    running = run(house.plan(TCP, stream=Probes()), control=at(tmp_path / "no" / "control.sock"))
    running.daemon.privilegedStartService()
    assert running.left == [os.EX_CANTCREAT]
    (message,) = running.log.messages(LogLevel.critical)
    assert message.startswith(f"control: unix://{tmp_path}/no/control.sock: ")
    running.daemon.startService()
    assert running.daemon.endpoints[0].listeners[0].opened is None
    assert running.stop() < 1.0
    assert not running.served


def test_another_sockd_has_it(house: House, run: Daemons, tmp_path: Path) -> None:
    """The reason says what to do, and the other's socket stays."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        running = run(house.plan(TCP, stream=Probes()), control=at(path))
        running.daemon.privilegedStartService()
        assert running.left == [os.EX_CANTCREAT]
        assert running.log.messages(LogLevel.critical) == [
            f"control: unix://{path}: another sockd is running there: stop it, or set daemon.control"
        ]
        running.stop()
        assert path.exists()


def test_stopped_before_it_was_served(house: House, run: Daemons, tmp_path: Path) -> None:
    """A daemon that is stopped before it serves leaves no file either."""
    path = tmp_path / "control.sock"
    running = run(control=at(path))
    running.daemon.privilegedStartService()
    running.stop()
    assert not path.exists()


@pytest.mark.parametrize(("group", "mode"), [(None, 0o600), (os.getgid(), 0o660)])
def test_rights(group: int | None, mode: int, house: House, run: Daemons, tmp_path: Path) -> None:
    """The file's mode lets the members of the group in, if there is one."""
    path = tmp_path / "control.sock"
    running = run(control=at(path), control_group=group).start()
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert running.daemon.controls.control is not None
    assert running.daemon.controls.control.allowed.group == group


def test_another_group(house: House, run: Daemons, tmp_path: Path) -> None:
    """It counts immediately, on the same socket; connections stay open."""
    path = tmp_path / "control.sock"
    running = run(control=at(path)).start()
    client = connect(running, path)
    running.now(control_group=os.getgid())
    ask(client, "reload")
    assert answer(running, client)["ok"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert running.daemon.controls.control is not None
    assert running.daemon.controls.control.allowed.group == os.getgid()
    ask(client, "status")
    assert answer(running, client)["ok"]


def test_another_group_that_can_not_be_had(
    house: House, run: Daemons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the old one may use it as before."""
    path = tmp_path / "control.sock"
    running = run(control=at(path)).start()
    refused = raising(PermissionError(1, "Operation not permitted"))
    monkeypatch.setattr("sockd.transports.sockets.unix.give_pinned", refused)
    running.now(control_group=os.getgid() + 1)
    assert running.refused(running.ask("reload"))[0] == os.EX_TEMPFAIL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert told(running, path, "status")["ok"]


def test_it_could_not_be_opened_again(run: Daemons, tmp_path: Path) -> None:
    """The reason, or nothing where the socket could be opened again or there is none."""
    lesser = Rights(7, frozenset((7,)), gives_away=False, first_port=1024, may_write=lambda _: True)
    running = run(control=at(tmp_path / "control.sock"), control_group=8)
    controls = running.daemon.controls
    assert controls.missing(running.plan, lesser) == "no right to give the socket this user or group"
    assert not controls.missing(running.now(control_group=7), lesser)
    assert not controls.missing(running.now(control=None), lesser)


def test_moved(house: House, run: Daemons, tmp_path: Path) -> None:
    """The caller gets its answer, and so does one that asked before; the old file is gone."""
    old, new = tmp_path / "old.sock", tmp_path / "new.sock"
    running = run(house.plan(TCP, stream=Probes()), control=at(old)).start()
    slow: Deferred[Any] = Deferred()
    running.upgrade = lambda: slow
    waiting, client = connect(running, old), connect(running, old)
    ask(waiting, "upgrade")
    house.until(running.daemon.controls.pending)
    running.now(control=at(new))
    ask(client, "reload")
    assert answer(running, client)["result"]["changes"]["daemon"] == [f"control: {old} -> {new}"]
    assert not old.exists()
    assert told(running, new, "status")["ok"]
    assert len(running.daemon.controls.pending()) == 1
    slow.callback("done")
    assert answer(running, waiting)["result"] == "done"
    assert not running.daemon.controls.pending()


def test_refusals_are_in_the_status(house: House, run: Daemons, tmp_path: Path) -> None:
    """Those of the socket that it was before, too."""
    old, new = tmp_path / "old.sock", tmp_path / "new.sock"
    running = run(house.plan(TCP, stream=Probes()), control=at(old)).start()
    for path, count in ((old, 1), (new, 2)):
        control = running.daemon.controls.control
        assert control is not None
        control.counters.refused["not allowed"] += 1
        assert told(running, path, "status")["result"]["control"] == {"refused": {"not allowed": count}}
        running.now(control=at(new))
        assert told(running, path, "reload")["ok"]


def test_moved_to_and_fro(house: House, run: Daemons, tmp_path: Path) -> None:
    """Two moves in a row; callers that wait on either old socket are disconnected when the daemon stops."""
    one, other = tmp_path / "one.sock", tmp_path / "other.sock"
    running = run(control=at(one)).start()
    running.upgrade = Deferred
    clients = []
    for path, following in ((one, other), (other, one)):
        clients.append(connect(running, path))
        ask(clients[-1], "upgrade")
        house.until(lambda: len(running.daemon.controls.pending()) == len(clients))
        running.now(control=at(following))
        running.told("reload")
    assert told(running, one, "status")["ok"]
    running.stop()
    assert all(closed(running, client) for client in clients)
    assert not os.listdir(tmp_path)


def test_switched_off_and_on(house: House, run: Daemons, tmp_path: Path) -> None:
    """The caller that switched it off gets its answer; a signal switches it on again."""
    path = tmp_path / "control.sock"
    running = run(control=at(path)).start()
    running.now(control=None)
    assert told(running, path, "reload")["ok"]
    assert not path.exists()
    assert not running.daemon.controls.pending()
    running.now(drain=1.0)
    running.told("reload")
    running.now(control=at(path))
    running.daemon.reloading.by_signal()
    assert told(running, path, "status")["ok"]


@pytest.mark.parametrize("kind", ["removed", "replaced"])
def test_its_file_is_gone(kind: str, house: House, run: Daemons, tmp_path: Path) -> None:
    """The socket is opened again as soon as that is possible, and connections stay open."""
    path = tmp_path / "control.sock"
    running = run(control=at(path)).start()
    client = connect(running, path)
    house.loop.settle()
    path.unlink()
    if kind == "replaced":
        path.touch()
        for _ in range(3):  # it is told once
            house.loop.advance(FILE_CHECK_INTERVAL)
        (message,) = running.log.messages(LogLevel.error)
        assert message.endswith("that is not a socket: remove it, or choose another path; trying again")
        path.unlink()
    house.loop.advance(FILE_CHECK_INTERVAL)
    assert told(running, path, "status")["ok"]
    assert running.log.messages(LogLevel.warn)[-1].endswith(
        "the socket's file was removed or replaced; the socket is open again"
    )
    ask(client, "status")
    assert answer(running, client)["ok"]
    running.stop()
    assert not path.exists()


def test_its_file_is_there(house: House, run: Daemons, tmp_path: Path) -> None:
    """It is looked at now and then; an abstract name has none."""
    running = run(control=at(tmp_path / "control.sock")).start()
    socket_before = running.daemon.controls.opened
    house.loop.pump([FILE_CHECK_INTERVAL] * 3)
    assert running.daemon.controls.opened is socket_before
    abstract = Address(Kind.UNIX, path=f"@sockd-{os.getpid()}")
    running.now(control=abstract)
    running.told("reload")
    house.loop.pump([FILE_CHECK_INTERVAL] * 3)
    client = house.connect(abstract)
    ask(client, "status")
    assert answer(running, client)["ok"]


def test_an_address_that_can_not_be_had(house: House, run: Daemons, tmp_path: Path) -> None:
    """The reload is refused, and says what it is about."""
    path = tmp_path / "control.sock"
    running = run(control=at(path)).start()
    running.now(control=at(tmp_path / "no" / "control.sock"))
    (why,) = running.refused(running.ask("reload"))[1]
    assert why == f"control: unix://{tmp_path}/no/control.sock: there is no directory {tmp_path}/no"
    assert told(running, path, "status")["ok"]


def test_kept_by_systemd(house: House, run: Daemons, tmp_path: Path) -> None:
    """What the next process is to find again stays when the daemon stops; not what a reload moved away."""
    kept: list[Any] = []

    class Store:
        active = True
        size = 9

        def keep(self, opened: Opened) -> None:
            kept.append(str(opened.address))

        def has(self, opened: Opened) -> None:
            raise AssertionError("nothing was there")

        def forget(self, opened: Opened) -> None:
            kept.remove(str(opened.address))

    old, new = tmp_path / "old.sock", tmp_path / "new.sock"
    running = run(control=at(old), sockets=Sockets(store=Store())).start()
    running.now(control=at(new))
    running.told("reload")
    running.stop()
    assert kept == [f"unix://{new}"]
    assert os.listdir(tmp_path) == ["new.sock"]
