"""A program that replaces itself when a client says so, and goes on with the sockets of the last one."""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Protocol

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.base.reactor import later_by
from sockd.transports.acceptor import Acceptor
from sockd.transports.connection import Connection
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.upgrade import passing
from sockd.upgrade.exec import replace
from sockd.upgrade.signals import Signals, resume_signals
from sockd.upgrade.value import HandedConnection, HandedEndpoint, HandedListener, Handover

reactor: Any = installed


class Commands(Protocol):
    """Lines: `exec`, `fds`, `signals`, `leave`; others are echoed."""

    transport: Any

    def __init__(self, program: "Program") -> None:
        self.program = program
        self.begun = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self.begun = (self.begun + data).split(b"\n")
        for line in lines:
            match line:
                case b"exec":
                    reactor.callLater(0, self.program.replace)
                case b"fds":
                    self.transport.write(json.dumps(fds()).encode() + b"\n")
                case b"signals":
                    self.transport.write(json.dumps(self.program.heard).encode() + b"\n")
                case b"leave":
                    os._exit(0)
                case _:
                    self.transport.write(b"%d: %b\n" % (self.program.generation, line))

    def freeze(self) -> Any:
        return {"begun": self.begun}

    def thaw(self, state: Any) -> None:
        self.begun = state["begun"]


def fds() -> dict[str, str]:
    """What this process has open that a program started by exec would get."""
    links = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                links[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # that of the listing itself
    return links


def pending_here(number: int) -> bool:
    """Whether this thread, and not the process, has that signal to come (proc(5))."""
    status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigPnd:")).split()[1]
    return bool(int(mask, 16) >> (number - 1) & 1)


class Program:
    def __init__(self) -> None:
        self.generation = 1
        self.heard: list[int] = []
        self.connections: dict[Connection, None] = {}
        self.flusher = Flusher(reactor)
        self.later = later_by(reactor)
        handover = passing.take(os.environ)
        if handover is None:
            self.listening = socket.create_server(("127.0.0.1", 0))
            self.listening.setblocking(False)
            sys.stdout.write(f"{self.listening.getsockname()[1]}\n")
            sys.stdout.flush()
        else:
            self.thaw(handover)
        # None of these is to be there in the next generation.
        self.others = (Path(os.devnull).open(), socket.socket(), os.pipe())  # noqa: SIM115
        signal.signal(signal.SIGUSR2, lambda number, _: self.heard.append(number))
        resume_signals()
        threading.Thread(target=threading.Event().wait, daemon=True).start()  # which blocks no signal
        acceptor = Acceptor(self.listening, reactor, self.take, lambda: 100, self.failed, self.failed)
        acceptor.accept(True)

    def lane(self, *, secure: bool) -> Any:
        return reactor

    def take(self, sock: socket.socket, sockaddr: Any) -> None:
        connection = Connection(sock, Peer.inet(sockaddr), self.flusher, self, Listening("test"))
        self.connections[connection] = None
        connection.start(Commands(self))

    def replace(self) -> None:
        """Become the next generation; a signal comes in the last moment."""
        signals = Signals()
        signals.hold()
        os.kill(os.getpid(), signal.SIGUSR2)
        # The other thread gets it, and has it sent once more. An exec before it could would be too early:
        # sockd has threads of its own block all signals, and waits for some turns of the reactor.
        while not pending_here(signal.SIGUSR2):
            """Python calls the handler between two of these."""
        handover = Handover(
            file=__file__,
            runtime="",
            logs="",
            started=0,
            listeners=(HandedListener(self.listening.fileno(), "", ""),),
            endpoints={
                "all": HandedEndpoint(
                    "commands",
                    connections=tuple(
                        HandedConnection(connection.hand_over(), connection.protocol.freeze())
                        for connection in self.connections
                    ),
                )
            },
            reload={"generation": self.generation},
        )
        replace([sys.executable, "-P", __file__], os.environ, handover, signals)

    def thaw(self, handover: Handover) -> None:
        self.generation = handover.reload["generation"] + 1
        sockets = passing.adopt(handover)
        self.listening = sockets[handover.listeners[0].fd]
        for handed in handover.endpoints["all"].connections:
            connection = Connection.take_over(
                handed.transport, sockets[handed.transport["fd"]], self.flusher, self, Listening("test")
            )
            self.connections[connection] = None
            connection.resume(Commands(self), handed.protocol)

    def ended(self, connection: Connection, end: End) -> None:
        del self.connections[connection]

    def refused(self, connection: Connection, reason: str, why: str = "") -> None:
        os._exit(70)

    def protocol_failed(self, where: str) -> None:
        os._exit(70)

    def failed(self, *_: object) -> None:
        os._exit(71)


if __name__ == "__main__":
    Program()
    reactor.run()
