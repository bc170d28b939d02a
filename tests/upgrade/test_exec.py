"""One program becomes the next: same process, same sockets, nothing else; or nothing has changed."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sockd.upgrade.exec import replace
from sockd.upgrade.signals import Signals
from sockd.upgrade.value import HandedListener, Handover, HandoverError, UpgradeRefusedError

PATIENCE = 30.0  # seconds
LONG = b"x" * 3_000_000  # more than the kernel takes


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    script = Path(__file__).with_name("generations.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Client:
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.lines = self.sock.makefile("rb")

    def ask(self, line: bytes) -> bytes:
        self.sock.sendall(line + b"\n")
        return self.lines.readline().rstrip(b"\n")

    def close(self) -> None:
        self.lines.close()
        self.sock.close()


def test_a_client_does_not_notice(program: subprocess.Popen[bytes], stack: ExitStack) -> None:
    """Three generations; connections, half a line, unsent bytes, newcomers and a signal go on."""
    assert program.stdout is not None
    port = int(program.stdout.readline())
    clients = [stack.enter_context(closing(Client(port))) for _ in range(3)]
    assert [client.ask(b"hello") for client in clients] == [b"1: hello"] * 3
    before = json.loads(clients[0].ask(b"fds"))
    for generation in (2, 3):
        clients[1].sock.sendall(b"half a ")
        clients[2].sock.sendall(LONG + b"\n")
        clients[0].sock.sendall(b"exec\n")
        newcomer = stack.enter_context(closing(Client(port)))
        while newcomer.ask(b"hello") != b"%d: hello" % generation:
            """The last generation was still there to accept it."""
        assert clients[1].ask(b"line") == b"%d: half a line" % generation
        assert clients[2].lines.readline().partition(b": ")[2] == LONG + b"\n"
        assert json.loads(newcomer.ask(b"signals")) == [signal.SIGUSR2]
        assert json.loads(newcomer.ask(b"fds")) == before
    assert set(before) == {"0", "1", "2"}
    clients[0].sock.sendall(b"leave\n")
    assert program.wait(PATIENCE) == 0
    assert program.stdout.read() == b""


@pytest.fixture
def end() -> Iterator[socket.socket]:
    one, other = socket.socketpair()
    with one, other:
        yield one


def _handover(sock: socket.socket, reload: object = None) -> Handover:
    return Handover("f", "r", "l", 1.0, listeners=(HandedListener(sock.fileno(), "", ""),), reload=reload)


@pytest.mark.parametrize(
    ("program", "why"),
    [("/no/such/python", "No such file or directory"), ("/py\0thon", "embedded null ")],
)
def test_a_program_that_can_not_be_started(end: socket.socket, program: str, why: str) -> None:
    """The running one has its descriptors and signals as before."""
    fds = os.listdir("/proc/self/fd")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(UpgradeRefusedError, match=f"can't be started: .*{why}"):
        replace([program], os.environ, _handover(end), Signals())
    assert not end.get_inheritable()
    assert os.listdir("/proc/self/fd") == fds
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_state_that_can_not_be_handed_over(end: socket.socket) -> None:
    """It is known before anything is done."""
    with pytest.raises(HandoverError, match="reload: a value of the type object"):
        replace([sys.executable], os.environ, _handover(end, object()), Signals())
    assert not end.get_inheritable()
