"""A control socket in a Loop, with commands of the test's own, and clients that ask it."""

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, Self

from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from sockd.control.conversation import Allowed
from sockd.control.server import ControlServer, Effect
from sockd.transports.flush import Flusher
from tests.transports.loop import Loop

Event = dict[str, Any]


class ListeningSocket(socket.socket):
    """A Unix socket whose `accept` fails for want of descriptors wherever `short` gives True."""

    short: Iterator[bool] = repeat(False)

    def accept(self) -> tuple[socket.socket, Any]:
        if next(self.short):
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class House:
    """The socket, the server on it, and the events that were logged."""

    def __init__(self, directory: Path, commands: dict[str, Effect], allowed: Allowed | None = None) -> None:
        self.path = str(directory / "control.sock")
        self.loop = Loop()
        self.loop.forgiving = True
        self.events: list[Event] = []
        self.sock = ListeningSocket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.bind(self.path)
        self.sock.listen(100)
        self.commands = commands
        self.control = self.new(self.sock, allowed)
        self.control.start()
        self.clients: list[Client] = []

    def new(self, sock: socket.socket, allowed: Allowed | None = None) -> ControlServer:
        """Another server in the same loop."""
        turn = Flusher(self.loop)
        log = Logger("test", observer=self.events.append)  # type: ignore[arg-type]
        return ControlServer(sock, turn, self.commands, allowed or Allowed(os.getuid(), None), log)

    def replaced(self) -> None:
        """As after exec: nothing of the server's is called any more, while its sockets live on."""
        self.loop.readers.clear()
        self.loop.writers.clear()

    def drop_acceptor(self) -> Any:
        """Have the reactor drop what accepts, as it does after an exception that nobody caught."""
        (dropped,) = self.loop.readers
        self.loop.removeReader(dropped)
        dropped.connectionLost(Failure(ZeroDivisionError("oops")))
        return dropped

    def client(self) -> "Client":
        self.clients.append(Client(self))
        return self.clients[-1]

    def told(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.control.close()
        for client in self.clients:
            client.sock.close()
        self.loop.settle()
        assert not self.loop.getDelayedCalls()
        assert not self.loop.readers
        assert not self.loop.writers


class Client:
    """One connection to the control socket."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.connect(house.path)
        except OSError:
            self.sock.close()
            raise
        self.sock.setblocking(False)
        self.got = b""
        self.ended = False

    def send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                self.house.loop.turn()

    def ask(self, command: str, **arguments: Any) -> Any:
        self.send(line(command, **arguments))
        return self.answer()

    def read(self) -> None:
        """What there is now."""
        self.house.loop.settle()
        while not self.ended:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            self.got += data
            self.ended = not data
            self.house.loop.settle()

    def answer(self) -> Any:
        """The next line that came."""
        self.read()
        first, newline, self.got = self.got.partition(b"\n")
        assert newline, "there is no answer"
        return json.loads(first)

    def has_two_lines(self) -> bool:
        self.read()
        return self.got.count(b"\n") == 2

    def silent(self) -> bool:
        """Whether nothing came."""
        self.read()
        return not self.got and not self.ended


def line(command: str, **arguments: Any) -> bytes:
    return json.dumps({"version": 1, "command": command, **arguments}).encode() + b"\n"


def right(result: Any) -> dict[str, Any]:
    return {"version": 1, "ok": True, "result": result}


def wrong(status: int, *problems: str) -> dict[str, Any]:
    return {"version": 1, "ok": False, "status": status, "problems": list(problems)}


def answering(result: Any) -> Callable[..., Any]:
    """A command that gives this."""
    return lambda **_: result
