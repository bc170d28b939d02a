"""An upgrade within one process: sockets are duplicated, the old daemon is forgotten, a new one goes on."""

import os
import socket
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher

from sockd.plan.plan import Plan
from sockd.tree.sockets import NoStore
from sockd.upgrade import course as module
from sockd.upgrade import thawing
from sockd.upgrade.course import Course
from sockd.upgrade.passing import decode, encode
from sockd.upgrade.rehearsal import problems
from sockd.upgrade.value import Handover, UpgradeRefusedError
from tests.daemons import Daemons, Running
from tests.transports.loop import Probe, echo


class Lasting(Probe):
    """Echoes, and knows in the next program what it was told in this one; `faults` are methods that raise."""

    faults: tuple[str, ...] = ()

    def freeze(self) -> Any:
        if "freeze" in self.faults:
            raise ZeroDivisionError("a bug in freeze")
        return {"data": bytes(self.data)}

    def thaw(self, state: Any) -> None:
        if "thaw" in self.faults:
            raise ZeroDivisionError("a bug in thaw")
        self.data += state["data"]


class Lastings(Factory):
    """Makes them and keeps them."""

    noisy = False

    def __init__(self, *faults: str) -> None:
        self.made: list[Lasting] = []
        self.faults = faults

    def buildProtocol(self, addr: Any) -> Any:
        if "buildProtocol" in self.faults:
            raise ZeroDivisionError("a bug in buildProtocol")
        if "refuse" in self.faults:
            return None
        self.made.append(Lasting(echo))
        self.made[-1].faults = self.faults
        return self.made[-1]


class Upgrade:
    """A daemon's upgrade, as far as it gets in one process.

    `rehearsal` is what comes of the rehearsal, `exec` what of the last step: without it, the program is gone.
    """

    def __init__(self, running: Running, monkeypatch: pytest.MonkeyPatch, process: Mapping[str, Any]) -> None:
        self.running = running
        self.rehearsal: Any = lambda: succeed("0.2.0\n")
        self.exec: Exception | None = UpgradeRefusedError("the new program can't be started")
        self.handed: Handover | None = None
        self.rehearsed: list[Handover] = []
        self.sockets: dict[int, socket.socket] = {}
        self.events: list[str] = []
        self.before_exec: Callable[[], None] = lambda: self.events.append("last words")
        self.course = Course(running.daemon, lambda: process, {}, self._before_exec)
        running.upgrade = self.course.upgrade
        monkeypatch.setattr(module, "rehearse", self._rehearse)
        monkeypatch.setattr(module, "replace", self.replace)

    def _before_exec(self) -> None:
        self.before_exec()

    def _rehearse(self, _reactor: Any, argv: list[str], _environ: Any, handed: Handover) -> Deferred[str]:
        self.events.append(f"rehearsed with {argv[-1]}")
        self.rehearsed.append(_passed_on(handed))
        done: Deferred[str] = self.rehearsal()
        return done

    def replace(self, argv: list[str], _environ: Any, handed: Handover, *_: Any) -> None:
        self.events.append(f"became {' '.join(argv[-3:])}")
        self.close()
        self.handed = _passed_on(handed)
        for fd in handed.fds():
            self.sockets[fd] = socket.socket(fileno=os.dup(fd))
            self.sockets[fd].setblocking(False)
        if self.exec is None:
            vanish(self.running)
        raise self.exec or UpgradeRefusedError("this was the end of it")

    def rehearse_really(self, plan: Plan) -> None:
        """What the new program would find with this plan."""

        def rehearse() -> Deferred[str]:
            found = problems(self.rehearsed[-1], plan)
            if found:
                raise UpgradeRefusedError(*found)
            return succeed("0.2.0")

        self.rehearsal = rehearse

    def close(self) -> None:
        """Close what nobody took over."""
        for sock in self.sockets.values():
            sock.close()
        self.sockets = {}


def _passed_on(handed: Handover) -> Handover:
    return Handover.from_value(decode(encode(handed.to_value())))


PROCESS: Mapping[str, Any] = {"runtime": "/run/sockd", "logs": "/var/log/sockd", "options": ("--syslog",)}


def succeeded(run: Daemons, upgrade: Upgrade, plan: Plan | None = None) -> Running:
    """The daemon that goes on where this one was replaced; the loop is one, as the clock of both is."""
    old, handed, sockets = upgrade.running, upgrade.handed, upgrade.sockets
    assert handed is not None
    upgrade.sockets = {}
    run.made.remove(old)
    globalLogPublisher.removeObserver(old.log.events.append)  # type: ignore[arg-type]
    for method in _HEARD:
        delattr(run.house.loop, method)
    _empty(run.house.loop)
    wanted = plan or old.plan
    new = run(
        *wanted.endpoints,
        sockets=thawing.sockets_of(handed, sockets, NoStore()),
        numbers=count(handed.numbers),
        control=wanted.control,
        file=Path(handed.file),
    )
    thawing.before_start(new.daemon, handed)
    new.start()
    new.went_on = thawing.after_start(new.daemon, handed, sockets)
    new.askers = list(thawing.askers(new.daemon, handed, sockets))
    return new


_HEARD = ("addReader", "addWriter", "callLater")


def vanish(old: Running) -> None:
    """As exec does: whatever it was about to do, it won't; what it had open is closed without a word."""
    loop = old.house.loop
    _empty(loop)
    for method in _HEARD:
        setattr(loop, method, lambda *_, **__: None)
    for endpoint in old.daemon.everywhere:
        for each in endpoint.connections:
            each.sock.close()
        for listener in endpoint.listeners:
            if listener.opened is not None:
                listener.opened.sock.close()
        worker = getattr(endpoint.host.service, "worker", None)
        if worker is not None:
            worker.end()
    control = old.daemon.controls.control
    if control is not None:
        control.sock.close()
        for each in control:
            each.sock.close()
    for passed in old.daemon.around.sockets.passed.values():
        for opened in passed:
            opened.sock.close()


def _empty(loop: Any) -> None:
    loop.readers.clear()
    loop.writers.clear()
    for call in tuple(loop.getDelayedCalls()):
        call.cancel()
