"""What strangers try on the endpoints that are there for it; each ends by itself, and leaves nothing open."""

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator

from tests.soak.loggers import connected
from tests.soak.world import World

SO_MANY = 60  # connections
STEPS, STEP = 20, 0.03  # of slow ones, and seconds
RST = struct.pack("ii", 1, 0)  # SO_LINGER: close sends it


def storm(world: World, generator: random.Random) -> None:
    """Come and break the connection, as fast as can be."""
    for number in range(SO_MANY * 3):
        with contextlib.suppress(OSError), _stream(world, "victim", ("tcp", "unix")[number % 2]) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            one.send(generator.randbytes(generator.randrange(100)))


def slow_loris(world: World, generator: random.Random) -> None:
    """Many clients that send a byte now and then, to all that there is."""
    names = ["victim", "victim-chat", "victim-log"]
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(_stream(world, generator.choice(names), "unix")) for _ in range(SO_MANY)]
        for _ in range(STEPS):
            for one in crowd:
                with contextlib.suppress(OSError):
                    one.send(b"x")
            time.sleep(STEP)


def never_read(world: World, generator: random.Random) -> None:
    """Clients that read nothing of what is sent to them, until nothing more is read from them."""
    with contextlib.ExitStack() as stack:
        for number in range(5):
            one = stack.enter_context(_stream(world, "victim", ("tcp", "unix")[number % 2]))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            with contextlib.suppress(OSError):
                while True:
                    one.send(bytes(65_536))
        time.sleep(STEP * generator.randrange(STEPS))


def garbage(world: World, generator: random.Random) -> None:
    """Newlines, a line without an end, controls, and what is no UTF-8, to chat, log and control socket."""
    pieces = [
        b"\n" * 65_536,
        b"x" * 1_000_000,
        bytes(range(256)) * 100,
        b"\x1b[2J\n",
        b"/nick \xff\n",
        b"/join x\n",
    ]
    for name in ("victim-chat", "victim-log", "control"):
        for piece in generator.sample(pieces, len(pieces)):
            with contextlib.suppress(OSError), _stream(world, name, "unix") as one:
                one.settimeout(0.2)
                one.sendall(piece)
                one.shutdown(socket.SHUT_WR)
                one.recv(65_536)


def flood(world: World, generator: random.Random) -> None:
    """Datagrams of every length, answered or not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _ in range(2000):
            data = bytes(generator.choice([0, 1, 1, 100, 65_507]))
            with contextlib.suppress(OSError):
                one.sendto(data, ("127.0.0.1", world.ports["victim"]))
    for path in ("victim-dgram.sock", "victim-chat-dgram.sock", "victim-log-dgram.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            for _ in range(200):
                with contextlib.suppress(OSError):
                    one.sendto(generator.randbytes(generator.choice([0, 1, 1000])), str(world.runtime / path))


def strangers(world: World, generator: random.Random) -> None:
    """They talk to the chat by UDP, and prove nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _ in range(20):
            guess = f"/prove {generator.randrange(2**48):012x}\n"
            one.sendto(guess.encode(), ("127.0.0.1", world.ports["victim"]))
            one.sendto(b"hello\n", ("127.0.0.1", world.ports["victim"]))


def bad_handshakes(world: World, generator: random.Random) -> None:
    """Garbage and half of a handshake where TLS is spoken, and wrong PROXY headers."""
    hello = bytes.fromhex("16030100c4010000c00303") + generator.randbytes(64)
    headers = [
        b"PROXY TCP4 1 2 3 4\r\n",
        b"PROXY",
        b"\r\n\r\n\0\r\nQUIT\n" + generator.randbytes(30),
        b"GET / HTTP/1.1\r\n",
    ]
    for name, pieces in (
        ("victim-tls", [hello, generator.randbytes(500), b"", b"\x15\3\1\0\2\1\0"]),
        ("proxied", headers),
    ):
        for piece in pieces * 3:
            with contextlib.suppress(OSError), _stream(world, name, "tcp") as one:
                one.settimeout(0.2)
                one.sendall(piece)
                one.recv(65_536)


def proxied(world: World, generator: random.Random) -> None:
    """A right header, split somewhere: the echo is the client's."""
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 5000\r\n"
    at = generator.randrange(1, len(header))
    with _stream(world, "proxied", "tcp") as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.sendall(header[:at])
        time.sleep(STEP)
        one.sendall(header[at:] + b"hello")
        assert one.recv(5) == b"hello", f"no echo behind a header split at {at}"


def kicked(world: World, generator: random.Random) -> None:
    """Some are kicked, with others that are not there."""
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(_stream(world, "victim", "unix"))
        there = world.ask("connections", endpoint="victim")["connections"]
        ids = [each["id"] for each in there] + [generator.randrange(2**40, 2**41)]
        world.ask("kick", connections=ids)


@contextlib.contextmanager
def _stream(world: World, name: str, kind: str) -> Iterator[socket.socket]:
    where = f"127.0.0.1:{world.ports[name]}" if kind == "tcp" else str(world.runtime / f"{name}.sock")
    with connected(f"{kind}://{where}") as one:
        one.settimeout(2.0)
        yield one


ATTACKS: dict[str, Callable[[World, random.Random], None]] = {
    f"attack: {each.__name__.replace('_', ' ')}": each
    for each in (storm, slow_loris, never_read, garbage, flood, strangers, bad_handshakes, proxied, kicked)
}
