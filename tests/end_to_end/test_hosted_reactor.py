"""A hosted protocol that takes sockd's reactor for its own is held, and one that holds it up is named."""

import contextlib
from pathlib import Path

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import SOCKD, distribution, receive_all
from tests.end_to_end.programs import run

MODULE = '''
"""Does with the reactor what its option says."""

import sys
import time

from twisted.internet.protocol import Factory, Protocol

from sockd.api import Options, Specification, Text


class TakesOptions(Options):
    how: Text


def replace_as_daphne_does():
    from twisted.internet import asyncioreactor

    del sys.modules["twisted.internet.reactor"]
    asyncioreactor.install()


def replace_behind_the_back():
    import twisted.internet
    from twisted.internet.selectreactor import SelectReactor

    twisted.internet.reactor = sys.modules["twisted.internet.reactor"] = SelectReactor()


def call(what):
    from twisted.internet import reactor

    getattr(reactor, what)()


WAYS = {
    "daphne": replace_as_daphne_does,
    "behind": replace_behind_the_back,
    "run": lambda: call("run"),
    "stop": lambda: call("stop"),
    "crash": lambda: call("crash"),
    "block": lambda: time.sleep(0.4),
}


class Stream(Protocol):
    def dataReceived(self, data):
        WAYS[data.decode()]()


def stream(host):
    if host.options.how in WAYS and host.options.how != "block":
        WAYS[host.options.how]()
    return Factory.forProtocol(Stream)


specification = Specification(summary="takes the reactor", options=TakesOptions, stream=stream)
'''
HELD = ("daphne", "behind", "run", "stop", "crash")


def test_the_daemon_goes_on(serve: Serve, directory: Path) -> None:
    """Whatever it does when it starts holds that endpoint, and in an event costs that connection."""
    environment = distribution(directory, "taker", "taker_protocol:specification", MODULE)
    endpoints = "".join(
        f"  {how}: {{listen: tcp://127.0.0.1:0, protocol: taker, options: {{how: {how}}}}}\n"
        for how in (*HELD, "later")
    )
    daemon = serve(f"endpoints:\n{endpoints}  fine: {{listen: tcp://127.0.0.1:0, protocol: echo}}\n",
                   environment=environment)  # fmt: skip
    for how in HELD:
        what = (
            "installs a reactor of its own" if how in ("daphne", "behind") else rf"calls reactor\.{how}\(\)"
        )
        daemon.expect(rf"(?m)^.*\b{how}: service: it {what}.*$")
    for how in ("run", "stop", "crash", "daphne"):
        with daemon.connect("later") as one:
            one.sendall(how.encode())
            with contextlib.suppress(ConnectionResetError):
                assert receive_all(one) == b""
    daemon.expect(r"(?m)^.*\blater: the protocol raised in dataReceived: it calls reactor\.run\(\)")
    with daemon.connect("fine") as one:
        one.sendall(b"x")
        assert one.recv(1) == b"x"
    assert daemon.stop() == 0


def test_a_protocol_that_blocks_is_named(serve: Serve, directory: Path) -> None:
    """The log has the endpoint, how long everybody waited, and the call; so has the status."""
    environment = distribution(directory, "taker", "taker_protocol:specification", MODULE)
    daemon = serve(
        "endpoints: {web: {listen: tcp://127.0.0.1:0, protocol: taker, options: {how: block}}}\n",
        environment=environment,
    )
    with daemon.connect("web") as one:
        one.sendall(b"block")
        daemon.expect(
            r"(?m)^.*web: held the loop for 0\.\d+s, in Stream\.dataReceived.*taker_protocol\.py:\d+.*$"
        )
    status = run([*SOCKD, "status", "--control", daemon.runtime / "control.sock"])
    assert "at the longest by web" in status.stdout
    assert daemon.stop() == 0


def test_a_module_that_installs_a_reactor_is_refused_by_check(directory: Path) -> None:
    """The file can't work, and `check` says why."""
    module = "from twisted.internet import asyncioreactor\nasyncioreactor.install()\n" + MODULE.strip()
    environment = distribution(directory, "taker", "taker_protocol:specification", module)
    (directory / "taken.yaml").write_text(
        "endpoints:\n  web: {listen: tcp://127.0.0.1:0, protocol: taker, options: {how: no}}\n"
    )
    one = run([*SOCKD, "check", "-c", "taken.yaml"], environment, cwd=directory)
    assert one.returncode == 78
    assert "AsyncioSelectorReactor" in one.stdout + one.stderr
