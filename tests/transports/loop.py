"""A reactor for tests of transports: real sockets, a clock advanced by hand, turns taken when asked."""

import select
import socket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.base.reactor import Later, later_by
from sockd.transports.connection import Connection
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening

# A condition that doesn't come true within so many turns never will; each waits for the kernel.
_TURNS = 20_000


class Loop(Clock):
    """What transports need of a reactor. Nothing happens unless `turn` or `until` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.forgiving = False  # as Twisted's reactors, which disconnect what raised; else the test fails

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def callFromThread(self, method: Callable[..., Any], *args: Any) -> None:
        self.callLater(0, method, *args)

    def callWhenRunning(self, method: Callable[..., Any], *args: Any) -> None:
        method(*args)

    def turn(self, watched: Iterable[socket.socket] = (), wait: float = 0.0) -> None:
        """Work off what is due and what is ready; `watched` sockets end the waiting (seconds) as well."""
        self.advance(0)
        if any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
            wait = 0.0
        readable, writable, _ = select.select([*self.readers, *watched], list(self.writers), [], wait)
        for reader in readable:
            if reader in self.readers:
                self._work(reader, reader.doRead)
        for writer in writable:
            if writer in self.writers:
                self._work(writer, writer.doWrite)
        self.advance(0)

    def _work(self, one: Any, event: Callable[[], object]) -> None:
        try:
            event()
        except Exception as error:
            if not self.forgiving:
                raise
            self.removeReader(one)
            self.removeWriter(one)
            one.connectionLost(Failure(error))

    def until(self, condition: Callable[[], object], *watched: socket.socket) -> None:
        """Take turns until the condition holds."""
        for _ in range(_TURNS):
            if condition():
                return
            self.turn(watched, 0.05)
        raise AssertionError("it never came true")

    def settle(self) -> None:
        """Take turns while anything is left to do; for what the kernel does at once (socket pairs)."""
        for _ in range(_TURNS):
            self.turn()
            due = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
            ready = select.select(list(self.readers), list(self.writers), [], 0)
            if not due and not ready[0] and not ready[1]:
                return
        raise AssertionError("it never settled")


class Recorder:
    """The owner of connections: what it was told."""

    def __init__(self, selector: Any) -> None:
        self.selector = selector
        self.ends: list[End] = []
        self.failures: list[str] = []

    def lane(self, *, secure: bool) -> Any:
        return self.selector

    @property
    def later(self) -> Later:
        return later_by(self.selector)

    def ended(self, connection: Connection, end: End) -> None:
        self.ends.append(end)

    def refused(self, connection: Connection, reason: str, why: str = "") -> None:
        connection.counters.refused[reason] += 1

    def protocol_failed(self, where: str) -> None:
        self.failures.append(where)


class Exchange:
    """A Connection over one end of a socket pair, and the other end; `beside` another one, in its loop."""

    def __init__(
        self,
        protocol: "Probe",
        pair: tuple[socket.socket, socket.socket] | None = None,
        beside: "Exchange | None" = None,
    ) -> None:
        self.loop: Loop = beside.loop if beside else Loop()
        self.turn: Flusher = beside.turn if beside else Flusher(self.loop)
        self.owner = Recorder(self.loop)
        self.counters = Counters()
        ours, self.client = pair or socket.socketpair()
        ours.setblocking(False)
        self.client.setblocking(False)
        inet = ours.family != socket.AF_UNIX
        peer = Peer.inet(ours.getpeername()) if inet else Peer.unix(0, 1)
        self.protocol = protocol
        self.connection = Connection(
            ours, peer, self.turn, self.owner, Listening("test://here", self.counters)
        )
        self.connection.start(protocol)

    def close(self) -> None:
        """Leave no socket behind."""
        self.client.close()
        self.connection.abortConnection()
        self.loop.settle()

    def received(self) -> bytes:
        """All that the client can read now; the loop has its turns meanwhile."""
        got = bytearray()
        while True:
            self.loop.settle()
            try:
                data = self.client.recv(1 << 20)
            except BlockingIOError:
                return bytes(got)
            except ConnectionResetError:
                return bytes(got)
            if not data:
                return bytes(got)
            got += data


def ended(protocol: "Probe", why: type[Exception] = ConnectionDone) -> bool:
    """Whether a protocol was told once that its connection ended, and for this reason."""
    return [reason.type for reason in protocol.lost] == [why]


Connect = Callable[..., Exchange]


def small_buffers() -> tuple[socket.socket, socket.socket]:
    """A socket pair that takes a few KiB at a time."""
    pair = socket.socketpair()
    for sock in pair:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return pair


def tcp_pair(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """The accepted and the connecting end of a TCP connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen()
        client = socket.create_connection(listening.getsockname()[:2])
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # what is sent has arrived
        accepted, _ = listening.accept()
    return accepted, client


class SystemCalls(NamedTuple):
    """What a connection calls to read and to write: os.read and os.write, or a test's."""

    read: Callable[[int, int], bytes]
    write: Callable[[int, Any], int]


def replace_system_calls(
    connection: Any,
    *,
    read: Callable[[int, int], bytes] | None = None,
    write: Callable[..., int] | None = None,
) -> SystemCalls:
    """Have a connection call these in place of what it called until now, which is returned.

    A real kernel takes half of an answer, or has no memory, only when it likes. The attributes are private as
    nothing but the connection has a reason to touch them; a seam for tests would cost each answer a call.
    """
    before = SystemCalls(connection._read, connection._write)  # noqa: SLF001 - see above
    connection._read = read or before.read  # noqa: SLF001 - as above
    connection._write = write or before.write  # noqa: SLF001 - as above
    return before


def noted_reads(connection: Connection) -> list[int]:
    """How much is asked for by each read from now on, in bytes."""
    sizes: list[int] = []

    def noted(number: int, size: int) -> bytes:
        sizes.append(size)
        return kernel.read(number, size)

    kernel = replace_system_calls(connection, read=noted)
    return sizes


def noted_writes(connection: Connection) -> list[int]:
    """How much is handed to the kernel by each write from now on, in bytes."""
    sizes: list[int] = []

    def noted(number: int, data: bytes) -> int:
        sizes.append(len(data))
        return kernel.write(number, data)

    kernel = replace_system_calls(connection, write=noted)
    return sizes


class Probe(Protocol):
    """A protocol that keeps what it was told; `on_data` and `on_lost` are what it does then."""

    transport: Any

    def __init__(
        self,
        on_data: Callable[["Probe", bytes], object] | None = None,
        on_made: Callable[["Probe"], object] | None = None,
        on_lost: Callable[["Probe"], object] | None = None,
    ) -> None:
        self.data = bytearray()
        self.made = 0
        self.lost: list[Failure] = []
        self.on_data = on_data
        self.on_made = on_made
        self.on_lost = on_lost

    def connectionMade(self) -> None:
        self.made += 1
        if self.on_made is not None:
            self.on_made(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.on_data is not None:
            self.on_data(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason)
        if self.on_lost is not None:
            self.on_lost(self)


@implementer(IHalfCloseableProtocol)
class HalfProbe(Probe):
    """A Probe that goes on when one direction has ended; `events` are the ends, in order."""

    def __init__(self, on_read_lost: Callable[["HalfProbe"], object] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.events: list[str] = []
        self.on_read_lost = on_read_lost

    def readConnectionLost(self) -> None:
        self.events.append("read")
        if self.on_read_lost is not None:
            self.on_read_lost(self)

    def writeConnectionLost(self) -> None:
        self.events.append("write")


def echo(protocol: Probe, data: bytes) -> None:
    """What an echoing Probe does with data."""
    protocol.transport.write(data)


def broken(*_: object) -> None:
    """What a faulty protocol does."""
    raise ZeroDivisionError("a bug of a protocol")
