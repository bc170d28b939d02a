"""What the callables may be, and what sockd makes of what they return."""

from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger

from sockd.protocols.contract import Host
from sockd.protocols.factory.specification import specification
from tests.protocols.factory.hosting import endpoint, module, plan_of

MODULE = """
from functools import partial

class Talk(Protocol):
    def __init__(self, word: str = "hello", *, host: Host):
        self.word, self.host = word, host

    def connectionMade(self):
        self.transport.write(f"{self.word} {self.host.endpoint}".encode())

class Plain(Protocol):
    def connectionMade(self):
        self.transport.write(b"plain")

class Own(Factory):
    protocol = Plain

ready = Own()

def make(host: Host):
    return Own()

def make_class():
    return Plain

class Wide(Factory):
    protocol = Plain
    def __init__(self, first: int, /, *others, second: int = 0, **more: float):
        self.given = (first, second, more)

class Maker:
    @classmethod
    def of_class(cls, word: str = ""): return Own()
    def __call__(self, word: str = ""): return Own()

maker = Maker()
half = partial(Wide, 1)

def nothing(): return None
async def later(): return Own()
def coroutine(): return later()

class Back(DatagramProtocol):
    def __init__(self, host: Host, mark: str = ""):
        self.mark = mark

    def datagram(self, data, peer):
        self.transport.send(data + self.mark.encode(), peer)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    module(directory, "hosted_made", MODULE)
    return directory


def host(directory: Path, options: str, listen: str = "unix://s") -> Host[Any]:
    (plan,) = plan_of(directory, endpoint(f"{{path: ., {options}}}", listen)).endpoints
    return Host("web", plan.options, cast("Any", Clock()), Logger(), fail=lambda _error: None)


def factory(directory: Path, options: str) -> Any:
    assert specification.stream is not None
    return specification.stream(host(directory, options))


def said(factory: Any) -> bytes:
    """What a connection is sent first."""
    transport = StringTransport()
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(transport)
    assert protocol.factory is factory
    written: bytes = transport.value()
    return written


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ("factory: 'hosted_made:Talk'", b"hello web"),
        ("factory: 'hosted_made:Talk', arguments: {word: good day}", b"good day web"),
        ("factory: 'hosted_made:ready'", b"plain"),
        ("factory: 'hosted_made:make'", b"plain"),
        ("factory: 'hosted_made:make_class'", b"plain"),
        ("factory: 'hosted_made:Own'", b"plain"),
        ("factory: 'hosted_made:Maker.of_class', arguments: {word: x}", b"plain"),
        ("factory: 'hosted_made:maker', arguments: {word: x}", b"plain"),
        ("factory: 'hosted_made:half', arguments: {second: 3}", b"plain"),
    ],
)
def test_what_serves_connections(options: str, first: bytes, directory: Path) -> None:
    """A factory, its class, a function that returns one, a Protocol class; each may ask for the host."""
    assert said(factory(directory, options)) == first


def test_arguments_of_every_kind(directory: Path) -> None:
    """Those that are given by position, by name only, and any others."""
    made = factory(directory, "factory: 'hosted_made:Wide', arguments: {first: 1, second: 2, third: 3}")
    assert made.given == (1, 2, {"third": 3.0})


@pytest.mark.parametrize(("name", "what"), [("nothing", "NoneType"), ("coroutine", "coroutine"), ("str", "")])
def test_what_serves_nothing(name: str, what: str, directory: Path) -> None:
    """A function may return anything: the endpoint is held with the reason."""
    name = "builtins:str" if name == "str" else f"hosted_made:{name}"
    with pytest.raises(TypeError, match=f"^{name} returned an object of the type {what}"):
        factory(directory, f"factory: '{name}'")


def test_what_serves_datagrams(directory: Path) -> None:
    """Each address gets a protocol of its own; arguments go to the callable that names them."""
    options = (
        "factory: 'hosted_made:Talk', datagram: 'hosted_made:Back', arguments: {mark: '!', word: good day}"
    )
    one = host(directory, options, "tcp://127.0.0.1:1, udp://127.0.0.1:1")
    assert specification.datagram is not None
    assert specification.stream is not None
    made = [specification.datagram(one) for _ in range(2)]
    assert made[0] is not made[1]
    assert cast("Any", made[0]).mark == "!"
    assert said(specification.stream(one)) == b"good day web"


def test_what_serves_no_datagrams(directory: Path) -> None:
    """It is said what was returned in place of a datagram protocol."""
    one = host(directory, "datagram: 'hosted_made:make'", "udp://127.0.0.1:1")
    assert specification.datagram is not None
    with pytest.raises(TypeError, match=r"^hosted_made:make returned an .* type Own, and not a Datagram"):
        specification.datagram(one)


def test_a_socket_of_systemd_that_nothing_serves(directory: Path) -> None:
    """Only systemd knows what it passes: connections that nobody was named for are refused."""
    one = host(directory, "datagram: 'hosted_made:Back'", "systemd://web")
    assert specification.stream is not None
    assert specification.stream(one).buildProtocol(None) is None
