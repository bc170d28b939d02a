"""Who may connect, by real sockets; and a reload that has it otherwise."""

import json
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import JSON_LOG, SOCKD, Daemon, receive
from tests.end_to_end.programs import BOUND, run

FILE = """
endpoints:
  echo:
    listen: [tcp://127.0.0.1:0, udp://127.0.0.1:0]
    protocol: echo
    access: {deny: 127.0.0.66}
  local:
    listen: [unix://echo.sock, unixgram://gram.sock]
    protocol: echo
    access: {users: %s, groups: %s}
"""
NOBODY = 65534


def file(users: str = "0", groups: str = "off") -> str:
    return JSON_LOG + FILE % (users, groups)


def refused(daemon: Daemon, endpoint: str) -> list[dict[str, int]]:
    """By each listener of an endpoint."""
    done = run([*SOCKD, "status", "--json"], {"RUNTIME_DIRECTORY": str(daemon.runtime)})
    found: Any = next(each for each in json.loads(done.stdout)["endpoints"] if each["name"] == endpoint)
    return [each["refused"] for each in found["listeners"]]


def answered(client: socket.socket) -> bool:
    """Whether it is served; a datagram that isn't answered within the bound of another's answer is not."""
    with client, suppress(ConnectionError):
        client.sendall(b"x")
        return receive(client, 1) == b"x"
    return False


def test_networks(serve: Serve) -> None:
    """By the address that somebody comes from, over TCP and UDP."""
    daemon = serve(file())
    assert answered(daemon.connect("echo", "tcp", source=("127.0.0.7", 0)))  # type: ignore[arg-type]
    assert not answered(daemon.connect("echo", "tcp", source=("127.0.0.66", 0)))  # type: ignore[arg-type]
    with daemon.connect("echo", "udp", source=("127.0.0.66", 0)) as barred:  # type: ignore[arg-type]
        barred.send(b"x")
        assert answered(daemon.connect("echo", "udp"))
        assert refused(daemon, "echo") == [{"access": 1}, {"access": 1}]
        barred.setblocking(False)
        with pytest.raises(BlockingIOError):
            barred.recv(1)


def as_somebody(path: Path, uid: int, gids: list[int]) -> bytes:
    """What the stream socket at this path answers to a process of this user and these groups."""
    done = subprocess.run(
        ["socat", "-t", str(BOUND), "-", f"UNIX-CONNECT:{path}"],
        input=b"x",
        user=uid, group=gids[0], extra_groups=gids[1:], capture_output=True, check=False, timeout=BOUND,
    )  # fmt: skip
    return done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed (see .ci/run)")
def test_users_and_groups(serve: Serve) -> None:
    """By what the kernel says of the process; a further group counts; a reload has it otherwise at once."""
    daemon = serve(file("0", "[4242]"))
    path = daemon.runtime / "echo.sock"
    path.chmod(0o666)
    daemon.runtime.chmod(0o755)
    assert as_somebody(path, 0, [0]) == b"x"
    assert as_somebody(path, NOBODY, [NOBODY]) == b""
    assert as_somebody(path, NOBODY, [NOBODY, 4242]) == b"x"
    assert as_somebody(path, NOBODY, [4242]) == b"x"
    assert refused(daemon, "local") == [{"access": 1}, {}]
    with daemon.connect("local", "unix") as root:
        root.sendall(b"x")
        assert receive(root, 1) == b"x"
        daemon.file.write_text(file(str(NOBODY)))
        assert run([*SOCKD, "reload"], {"RUNTIME_DIRECTORY": str(daemon.runtime)}).returncode == 0
        assert root.recv(1) == b""
    assert daemon.event("connection ended", endpoint="local", end="not allowed")
    assert as_somebody(path, NOBODY, [NOBODY]) == b"x"
    assert as_somebody(path, 0, [0]) == b""


def test_limits_of_one_source(serve: Serve) -> None:
    """They concern it alone, and no exempt one."""
    daemon = serve(
        "endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo, limits:"
        " {connections_per_source: 1, exempt: 127.0.0.9}}}"
    )
    with daemon.connect("echo") as one:
        one.sendall(b"x")
        assert receive(one, 1) == b"x"
        assert not answered(daemon.connect("echo"))
        assert answered(daemon.connect("echo", source=("127.0.0.7", 0)))  # type: ignore[arg-type]
        for _ in range(2):
            assert answered(daemon.connect("echo", source=("127.0.0.9", 0)))  # type: ignore[arg-type]
    assert refused(daemon, "echo") == [{"connections_per_source": 1}]
