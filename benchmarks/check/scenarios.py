"""The units of work that are counted, each driven in lock-step: the same turns of the reactor each time."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.check.errors import MisbehavedError
from benchmarks.check.subject import REST_TIMEOUT, Subject, echo
from tests.end_to_end.harness import receive

DATA = b"x" * 100
CONNECTIONS = 50  # connections
BATCH = 32  # datagrams
LINE = b"y" * 119 + b"\n"
CHUNK = LINE * 100
MEMBERS = 20

Turn = Callable[[], None]


@dataclass(frozen=True)
class Scenario:
    """Something that is done again and again: `turns` of it a measure, each of which is so many units."""

    name: str
    open: Callable[[Subject], AbstractContextManager[Turn]]
    turns: int
    units: int = 1
    # System calls a unit: a timer may add some, and with strace a slice of a turn has fewer events.
    slack: float = 0.1
    at_rest: bool = False  # nothing is done, so there are no instructions to compare


def _echo(kind: str) -> Callable[[Subject], AbstractContextManager[Turn]]:
    @contextmanager
    def opened(subject: Subject) -> Iterator[Turn]:
        with subject.connect("echo", kind) as one:
            yield lambda: echo(one, DATA)

    return opened


@contextmanager
def _echo_many(subject: Subject) -> Iterator[Turn]:
    """All of them send before the daemon sees any."""
    with ExitStack() as stack:
        many = [stack.enter_context(subject.connect("echo", "tcp")) for _ in range(CONNECTIONS)]

        def turn() -> None:
            subject.stop_at_rest()
            for one in many:
                one.sendall(DATA)
            subject.go_on()
            for one in many:
                _expect(one, DATA)

        yield turn


@contextmanager
def _echo_batch(subject: Subject) -> Iterator[Turn]:
    with subject.connect("echo", "udp") as one:

        def turn() -> None:
            subject.stop_at_rest()
            for _ in range(BATCH):
                one.send(DATA)
            subject.go_on()
            for _ in range(BATCH):
                _expect(one, DATA)

        yield turn


@contextmanager
def _echo_tls(subject: Subject) -> Iterator[Turn]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Counts are to be the same on machines whose processors make other ciphers the better choice.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    host, _, port = subject.address("echo", "tls").rpartition(":")
    with (
        socket.create_connection((host, int(port)), REST_TIMEOUT) as plain,
        context.wrap_socket(plain) as one,
    ):
        yield lambda: echo(one, DATA)


@contextmanager
def _come_and_go(subject: Subject) -> Iterator[Turn]:
    def turn() -> None:
        with subject.connect("echo", "tcp") as one:
            echo(one, DATA)
            one.shutdown(socket.SHUT_WR)
            if one.recv(1):
                raise MisbehavedError("an echo sent too much")

    yield turn


@contextmanager
def _log_stream(subject: Subject) -> Iterator[Turn]:
    with subject.connect("applog", "tcp") as one:
        length = _record(subject, lambda: one.sendall(LINE))
        yield lambda: _logged(subject, lambda: one.sendall(CHUNK), CHUNK.count(LINE) * length)


@contextmanager
def _log_batch(subject: Subject) -> Iterator[Turn]:
    with subject.connect("applog", "udp") as one:
        length = _record(subject, lambda: one.sendall(LINE))

        def send() -> None:
            subject.stop_at_rest()
            for _ in range(BATCH):
                one.send(LINE)
            subject.go_on()

        yield lambda: _logged(subject, send, BATCH * length)


def _logged(subject: Subject, send: Turn, growth: int = 1) -> None:
    """Send, and return when the file has grown by this many bytes and the daemon knows that it has."""
    enough = _size(subject) + growth
    send()
    until = time.monotonic() + REST_TIMEOUT
    while _size(subject) < enough:
        if time.monotonic() > until:
            raise MisbehavedError("the lines did not get to the file")
        time.sleep(0.0005)
    subject.ping()


def _record(subject: Subject, send: Turn) -> int:
    """The length of the record of the line that is sent; all others of its sender are as long."""
    before = _size(subject)
    _logged(subject, send)
    return _size(subject) - before


def _size(subject: Subject) -> int:
    try:
        return (subject.logs / "app.log").stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _talk(subject: Subject) -> Iterator[Turn]:
    """One speaks, all the others hear it."""
    with ExitStack() as stack:
        speaker, *others = (stack.enter_context(_member(subject, number)) for number in range(MEMBERS + 1))
        speaker.sendall(b"ready\n")
        for one in others:
            _read_until(one, b"<m0> ready\n")
        said = b"<m0> " + DATA + b"\n"

        def turn() -> None:
            speaker.sendall(DATA + b"\n")
            for one in others:
                _expect(one, said)

        yield turn


def _member(subject: Subject, number: int) -> socket.socket:
    one = subject.connect("lobby", "tcp")
    one.sendall(b"/nick m%d\n" % number)
    _read_until(one, b"-- you are now m%d\n" % number)
    return one


def _read_until(one: socket.socket, end: bytes) -> None:
    seen = b""
    while not seen.endswith(end):
        if not (byte := one.recv(1)):
            raise MisbehavedError(f"a member's connection ended after {seen!r}")
        seen += byte


def _expect(one: socket.socket, data: bytes) -> None:
    if (came := receive(one, len(data))) != data:
        raise MisbehavedError(f"{came!r} came instead of {data!r}")


@contextmanager
def _nothing(subject: Subject) -> Iterator[Turn]:
    with subject.connect("echo", "tcp") as one:
        echo(one, DATA)
        yield lambda: time.sleep(1.0)


SCENARIOS = (
    Scenario("TCP echo of 100 B", _echo("tcp"), 300),
    Scenario(f"TCP echo of 100 B, {CONNECTIONS} at once", _echo_many, 12, CONNECTIONS, slack=0.3),
    Scenario("Unix echo of 100 B", _echo("unix"), 300),
    Scenario("UDP echo of 100 B", _echo("udp"), 300),
    Scenario(f"UDP echo of 100 B, {BATCH} at once", _echo_batch, 20, BATCH, slack=0.02),
    Scenario("TLS echo of 100 B", _echo_tls, 200),
    Scenario("connect, TCP echo, close", _come_and_go, 100),
    Scenario("line-log, a chunk of 100 lines", _log_stream, 100, slack=1.5),
    Scenario(f"line-log over UDP, a line, {BATCH} at once", _log_batch, 20, BATCH, slack=0.05),
    Scenario(f"chat, a delivery, {MEMBERS} to hear it", _talk, 40, MEMBERS, slack=0.15),
    Scenario("at rest, a second", _nothing, 2, slack=1.0, at_rest=True),
)
