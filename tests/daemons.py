"""Daemons on a Loop: the file as it is next, what they are asked, what systemd and the log hear."""

import gc
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from sockd.commands import commands
from sockd.control.answers import pieces
from sockd.control.language import Refused
from sockd.daemon import Daemon
from sockd.plan.plan import EndpointPlan, LogPlan, Plan
from sockd.systemd.notify import Notify
from sockd.tree.sockets import Sockets
from tests.tree.house import Events, House

DRAIN = 5.0


class Systemd(Notify):
    """Keeps what it is told, message by message."""

    def __init__(self, reactor: Any, *, there: bool = True) -> None:
        super().__init__("/nowhere" if there else "", reactor, Logger("sockd"))
        self.heard: list[tuple[str, ...]] = []

    def _tell(self, *assignments: str, sort: object = None, sock: object = None) -> None:
        if self.active:
            self.heard.append(assignments)

    def words(self) -> list[str]:
        """The first of each message, since the last time."""
        heard, self.heard = self.heard, []
        return [first.partition("=")[0] for first, *_ in heard]

    def last(self) -> str:
        """The status in words, as it was told last."""
        texts = [text for message in self.heard for text in message if text.startswith("STATUS=")]
        return texts[-1].removeprefix("STATUS=")


class Running:
    """A daemon in a house; `left` are the statuses it asked to leave with, `file` gives the next plan."""

    def __init__(
        self,
        house: House,
        *endpoints: EndpointPlan,
        sockets: Sockets | None = None,
        numbers: Iterator[int] | None = None,
        systemd: bool = False,
        **plan: Any,
    ) -> None:
        self.house = house
        self.left: list[int] = []
        self.served: list[Daemon] = []
        self.person = False
        named = tuple(
            replace(each, name=f"lobby{number}") if number and each.name == "lobby" else each
            for number, each in enumerate(endpoints)
        )
        self.plan = replace(Plan(Path("sockd.yaml"), DRAIN, LogPlan("info", "auto"), named), **plan)
        self.file: Callable[[], Any] = lambda: self.plan
        self.systemd = Systemd(house.loop, there=systemd)
        self.daemon = Daemon(
            self.plan, house.loop, self.left.append, self.serving, lambda: 0.0,
            read=self._read, sockets=sockets, notify=self.systemd, numbers=numbers,
        )  # fmt: skip
        self.daemon.commands = commands(self.daemon, self._upgrade)
        self.upgrade: Callable[[], Any] = dict
        self.went_on = 0  # connections, from the program before
        self.askers: list[Any] = []  # for the upgrade
        self.log = Events()

    def serving(self, daemon: Daemon) -> bool:
        self.served.append(daemon)
        return self.person

    def _read(self) -> Any:
        return self.file()

    def _upgrade(self) -> Any:
        return self.upgrade()

    def start(self) -> Self:
        self.daemon.privilegedStartService()
        self.daemon.startService()
        return self

    def address(self, endpoint: int = 0, listener: int = 0) -> Any:
        """That is open."""
        return self.daemon.endpoints[endpoint].listeners[listener].address

    def connect(self, data: bytes = b"x", endpoint: int = 0) -> socket.socket:
        """A client of an endpoint's first listener, served."""
        client = self.house.connect(self.address(endpoint), data)
        assert self.house.receive(client, len(data)) == data
        return client

    # -- what is asked

    def now(self, *endpoints: EndpointPlan, **plan: Any) -> Plan:
        """From now on the file says this; without endpoints, the same ones."""
        self.plan = replace(self.plan, **plan, endpoints=endpoints or self.plan.endpoints)
        return self.plan

    def ask(self, command: str, **arguments: Any) -> Deferred[Any]:
        """One of the control socket's commands."""
        return maybeDeferred(lambda: _awaited(self.daemon.commands[command](**arguments)))

    def told(self, command: str, **arguments: Any) -> Any:
        """What came of it: the result, or Refused, or whatever was raised."""
        return self.outcome(self.ask(command, **arguments))

    def outcome(self, asked: Deferred[Any]) -> Any:
        """Run the clock until it has fired; what it fired with."""
        found: list[Any] = []
        asked.addBoth(found.append)
        self.house.run_clock(lambda: found)
        return found[0].value if isinstance(found[0], Failure) else as_answered(found[0])

    def refused(self, asked: Deferred[Any]) -> tuple[int, tuple[str, ...]]:
        """Why it was: status and problems."""
        outcome = self.outcome(asked)
        assert isinstance(outcome, Refused), outcome
        return outcome.status, outcome.problems

    # -- endings

    def stop(self) -> float:
        """Stop; how long (seconds) it took."""
        stopped = self.daemon.stopService()
        return self.house.run_clock(lambda: stopped.called)

    def close(self) -> None:
        stopped = self.daemon.stopService()
        self.daemon.hurry()
        self.house.run_clock(lambda: stopped.called)


def _awaited(result: Any) -> Any:
    return ensureDeferred(result) if hasattr(result, "send") else result


class Daemons:
    """Makes daemons in a house of their own that are stopped in the end; nothing is left behind then."""

    def __init__(self) -> None:
        self.house = House()
        self.made: list[Running] = []

    def __call__(self, *endpoints: EndpointPlan, **more: Any) -> Running:
        running = Running(self.house, *endpoints, **more)
        self.made.append(running)
        globalLogPublisher.addObserver(running.log.events.append)  # type: ignore[arg-type]
        return running

    def __enter__(self) -> Self:
        gc.freeze()  # looking for what was forgotten takes less time then
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self.made:
            running.close()
            if error is None:
                gc.collect()  # a failure that nobody looked at is told when it is forgotten
                assert not [told for told in running.log.messages() if "Unhandled error" in told]
            globalLogPublisher.removeObserver(running.log.events.append)  # type: ignore[arg-type]
        gc.unfreeze()
        self.house.close()
        if error is None:
            assert not self.house.loop.readers | self.house.loop.writers
            assert not self.house.loop.getDelayedCalls(), list(map(str, self.house.loop.getDelayedCalls()))


def as_answered(result: Any) -> Any:
    """A result as a client reads it."""
    return json.loads("".join(pieces(result)))["result"]
