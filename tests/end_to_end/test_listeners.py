"""Listeners against a real kernel: busy ports, Unix socket files of all sorts, limits, idle and stall."""

import os
import resource
import select
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import fill, receive, receive_all
from tests.end_to_end.programs import BOUND

ECHO_UNIX = "endpoints: {echo: {listen: %s, protocol: echo, restart: {delay: 50ms, max_delay: 200ms}}}\n"


def taken() -> tuple[socket.socket, int]:
    """A TCP port that somebody else has."""
    one = socket.create_server(("127.0.0.1", 0))
    return one, one.getsockname()[1]


def echoes(one: socket.socket) -> bool:
    one.sendall(b"hello")
    return receive(one, 5) == b"hello"


def test_a_busy_port_is_taken_when_it_is_free(serve: Serve) -> None:
    """It is reported and tried again while everything else serves, and taken once it is free."""
    other, port = taken()
    with other:
        daemon = serve(f"""
endpoints:
  busy:
    listen: ['tcp://127.0.0.1:{port}', 'tcp://127.0.0.1:0']
    protocol: echo
    restart: {{delay: 50ms, max_delay: 200ms}}
  fine: {{listen: 'tcp://127.0.0.1:0', protocol: echo}}
""")
        daemon.expect(rf"tcp://127\.0\.0\.1:{port}.*in use by another program")
        for name in ("busy", "fine"):  # an endpoint's other listener isn't touched either
            with daemon.connect(name) as one:
                assert echoes(one)
    daemon.event("recovered", endpoint="busy", name=f"tcp://127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port), BOUND) as one:
        assert echoes(one)
    assert daemon.stop() == 0


REQUIRED = """
endpoints:
  needed:
    listen: '%s'
    protocol: echo
    restart: {delay: 50ms, max_delay: 100ms}
    required: {give_up_after: 500ms}
  fine: {listen: 'tcp://127.0.0.1:0', protocol: echo}
"""


def test_a_required_endpoint_gives_up(serve: Serve) -> None:
    """A port that stays busy ends the daemon with status 69 and says which endpoint it was."""
    other, port = taken()
    with other:
        daemon = serve(REQUIRED % f"tcp://127.0.0.1:{port}", wait=False)
        assert daemon.wait() == 69
    event = daemon.event("gave up")
    assert event["endpoint"] == "needed"
    assert "in use by another program" in event["why"]


def test_a_required_endpoint_that_is_lost_gives_up(serve: Serve) -> None:
    """One that served and then can't any more ends the daemon likewise; others are served until then."""
    daemon = serve(REQUIRED % "unix://needed.sock")
    with daemon.connect("fine") as one:
        assert echoes(one)
        file = daemon.directory / "precious"
        file.write_text("somebody's")
        file.replace(daemon.runtime / "needed.sock")  # at once, so that the address is never free
        assert receive_all(one) == b""
    assert daemon.wait() == 69
    event = daemon.event("gave up")
    assert event["endpoint"] == "needed"
    assert "not a socket" in event["why"]
    assert (daemon.runtime / "needed.sock").read_text() == "somebody's"


@pytest.mark.parametrize("kind", ["unix", "unixgram"])
def test_a_deleted_socket_file_is_bound_again(serve: Serve, kind: str) -> None:
    """Somebody removes the socket's file under the daemon: it is noticed, and the address works again."""
    daemon = serve(ECHO_UNIX % f"['{kind}://echo.sock']")
    path = daemon.runtime / "echo.sock"
    path.unlink()
    daemon.event("recovered", name=f"{kind}://{path}")
    with daemon.connect("echo", kind, source=str(daemon.directory / "mine.sock")) as one:
        assert echoes(one)


@pytest.mark.parametrize("kind", ["unix", "unixgram"])
def test_a_stale_socket_file_is_replaced(serve: Serve, kind: str) -> None:
    """What a kill -9 left behind doesn't keep the next daemon from its address."""
    first = serve(ECHO_UNIX % f"['{kind}://echo.sock']")
    first.signal(signal.SIGKILL)
    first.wait()
    assert (first.runtime / "echo.sock").is_socket()
    daemon = serve(ECHO_UNIX % f"['{kind}://echo.sock']")
    with daemon.connect("echo", kind, source=str(daemon.directory / "mine.sock")) as one:
        assert echoes(one)
    assert daemon.stop() == 0
    assert not (daemon.runtime / "echo.sock").exists()


@pytest.mark.parametrize(("kind", "type_"), [("unix", "SOCK_STREAM"), ("unixgram", "SOCK_DGRAM")])
def test_a_socket_that_somebody_answers_on_is_left_alone(
    serve: Serve, directory: Path, kind: str, type_: str
) -> None:
    """Another program's living socket is an error that names the path, and stays that program's."""
    (directory / "run").mkdir()
    path = directory / "run" / "echo.sock"
    with socket.socket(socket.AF_UNIX, getattr(socket, type_)) as other:
        other.bind(str(path))
        if kind == "unix":
            other.listen()
        before = path.stat().st_ino
        daemon = serve(ECHO_UNIX % f"['{kind}://echo.sock']")
        daemon.expect(rf"{kind}://{path}.*another program answers")
        assert daemon.stop() == 0
        assert path.stat().st_ino == before


def test_a_file_that_is_no_socket_is_never_removed(serve: Serve, directory: Path) -> None:
    """A regular file in the way is an error that names it; its content survives."""
    (directory / "run").mkdir()
    path = directory / "run" / "echo.sock"
    path.write_text("precious")
    daemon = serve(ECHO_UNIX % "['unix://echo.sock']")
    daemon.expect(rf"unix://{path}.*not a socket")
    assert daemon.stop() == 0
    assert path.read_text() == "precious"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a socket to a group it is not in")
def test_mode_user_and_group(serve: Serve) -> None:
    """A Unix socket has the mode, user and group of the file, at `listen` or at the endpoint."""
    daemon = serve("""
endpoints:
  echo:
    listen:
      - unix://plain.sock
      - {address: 'unix://own.sock', socket: {mode: 0600, user: nobody, group: nogroup}}
      - {address: 'unixgram://gram.sock', socket: {group: nogroup, mode: 0666}}
    protocol: echo
""")

    def seen(name: str) -> tuple[str, str, int]:
        path = daemon.runtime / name
        return path.owner(), path.group(), stat.S_IMODE(path.stat().st_mode)

    assert seen("plain.sock") == ("root", "root", 0o660)
    assert seen("own.sock") == ("nobody", "nogroup", 0o600)
    assert seen("gram.sock") == ("root", "nogroup", 0o666)


def test_an_abstract_socket(serve: Serve) -> None:
    """unix://@name is served without a file."""
    name = f"@sockd-{os.getpid()}"
    daemon = serve(ECHO_UNIX % f"['unix://{name}', 'unixgram://{name}-gram']")
    with daemon.connect("echo", "unix") as one:
        assert echoes(one)
    assert [path.name for path in daemon.runtime.iterdir()] == ["control.sock"]


def test_newcomers_wait_while_the_endpoint_is_full(serve: Serve) -> None:
    """`limits.connections` counts all stream listeners of the endpoint; the kernel holds the others."""
    daemon = serve("""
endpoints:
  echo:
    listen: ['tcp://127.0.0.1:0', 'unix://echo.sock']
    protocol: echo
    limits: {connections: 2}
  other: {listen: 'tcp://127.0.0.1:0', protocol: echo}
""")
    with daemon.connect("echo") as first, daemon.connect("echo", "unix") as second:
        assert echoes(first)
        assert echoes(second)
        with daemon.connect("echo") as third, daemon.connect("echo", "unix") as fourth:
            third.sendall(b"hello")
            fourth.sendall(b"hello")
            with daemon.connect("other") as other:
                for _ in range(20):
                    assert echoes(other)
            for waiting in (third, fourth):
                waiting.setblocking(False)
                with pytest.raises(BlockingIOError):
                    waiting.recv(1)
                waiting.settimeout(BOUND)
            first.close()
            second.close()
            assert receive(third, 5) == b"hello"
            assert receive(fourth, 5) == b"hello"


def test_newcomers_wait_while_there_are_no_descriptors(serve: Serve) -> None:
    """Out of file descriptors, it says so, and serves those that came when there are some again."""
    few = 64

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))

    daemon = serve("endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n", preexec_fn=limit)
    clients = [daemon.connect("echo") for _ in range(2 * few)]
    short = daemon.event("short", endpoint="echo")
    assert "Too many open files; new connections wait in the kernel's backlog" in short["message"]
    for one in clients:  # in the order in which they came: each that leaves makes room for another
        with one:
            assert echoes(one)
    assert daemon.stop() == 0
    assert list(daemon.event("refused", endpoint="echo")["refused"]) == ["accepting failed"]


def test_an_idle_connection_ends(serve: Serve) -> None:
    """A connection that is silent for `idle` is closed, and the log says why; one that talks stays."""
    daemon = serve("""
endpoints:
  echo: {listen: 'tcp://127.0.0.1:0', protocol: echo, limits: {idle: 5s}}
  other: {listen: 'tcp://127.0.0.1:0', protocol: echo, limits: {idle: off}}
""")
    with (
        daemon.connect("echo") as quiet,
        daemon.connect("echo") as talking,
        daemon.connect("other") as silent,
    ):
        assert echoes(quiet)
        while not select.select([quiet], [], [], 0.1)[0]:
            assert echoes(talking)
        assert quiet.recv(1) == b""
        peer = "{}:{}".format(*quiet.getsockname())
        event = daemon.event("connection ended")
        assert (event["endpoint"], event["peer"], event["end"]) == ("echo", peer, "idle")
        assert event["seconds"] >= 5
        for one in (talking, silent):
            assert echoes(one)


def test_a_stalled_connection_is_cut(serve: Serve) -> None:
    """Who owes us reading for `stall` without taking a byte is cut, and the log says why."""
    daemon = serve("""
endpoints:
  echo: {listen: 'tcp://127.0.0.1:0', protocol: echo, limits: {stall: 500ms}}
""")
    with daemon.connect("echo") as one:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            one.sendall(bytes(100_000_000))  # more than anything takes from a peer that doesn't read
        assert daemon.event("connection ended", endpoint="echo")["end"] == "stalled"


def test_a_second_signal_cuts_at_once(serve: Serve) -> None:
    """A client that doesn't take its echo holds a stop up to `drain`; the second signal does not wait."""
    daemon = serve("""
daemon: {drain: 10m, log: {format: json}}
endpoints:
  echo: {listen: 'tcp://127.0.0.1:0', protocol: echo, limits: {stall: off}}
""")
    with daemon.connect("echo") as one, daemon.connect("echo") as other:
        fill(one, other)
        daemon.signal(signal.SIGTERM)
        daemon.event("stopping")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    assert daemon.event("connection ended", end="closed by sockd")["endpoint"] == "echo"


def test_a_drain_has_a_deadline(serve: Serve) -> None:
    """The same client is cut when `drain` is over."""
    daemon = serve("""
daemon: {drain: 300ms, log: {format: json}}
endpoints:
  echo: {listen: 'tcp://127.0.0.1:0', protocol: echo, limits: {stall: off}}
""")
    with daemon.connect("echo") as one, daemon.connect("echo") as other:
        fill(one, other)
        assert daemon.stop() == 0
    assert daemon.event("connection ended", end="closed by sockd")["endpoint"] == "echo"


def test_who_was_queued_at_the_stop_is_served(serve: Serve) -> None:
    """Clients that connected before the SIGTERM, accepted or not, get their echo."""
    daemon = serve("endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n")
    daemon.signal(signal.SIGSTOP)  # so that they are certainly queued when it hears of the stop
    clients = [daemon.connect("echo") for _ in range(20)]
    for number, one in enumerate(clients):
        one.sendall(b"client %d" % number)
        one.shutdown(socket.SHUT_WR)
    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGCONT)
    for number, one in enumerate(clients):
        with one:
            assert receive_all(one) == b"client %d" % number
    assert daemon.wait() == 0
