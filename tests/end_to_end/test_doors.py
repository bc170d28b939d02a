"""The doors refuse a wrong file with the same lines and sysexits' status, and never with a traceback."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve, write
from tests.end_to_end.harness import SOCKD, TWISTD, distribution, receive
from tests.end_to_end.programs import run

ECHO = "endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n"
WRONG = "endpoints:\n  echo:\n    listen: tcp://127.0.0.1:70070\n    protocol: ehco\n"
DOORS = {"twistd": (*TWISTD, "sockd"), "run": (*SOCKD, "run"), "check": (*SOCKD, "check")}


@pytest.fixture
def directories(directory: Path) -> dict[str, str]:
    return {"RUNTIME_DIRECTORY": str(directory), "LOGS_DIRECTORY": str(directory)}


def refusals(
    arguments: list[str], environment: dict[str, str], cwd: Path
) -> dict[str, subprocess.CompletedProcess[str]]:
    return {name: run([*door, *arguments], environment, cwd=cwd) for name, door in DOORS.items()}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wrong", WRONG),
        ("empty", ""),
        ("no yaml", "endpoints: [\n"),
        ("busy twice", "endpoints: {a: {listen: ['udp://*:7', 'udp://127.0.0.1:7'], protocol: echo}}\n"),
    ],
)
def test_every_door_refuses_with_the_same_lines(
    name: str, text: str, directory: Path, directories: dict[str, str]
) -> None:
    """A wrong file: status 78, file:line:column on stderr, the same text whichever door was used."""
    file = directory / "wrong.yaml"
    file.write_text(text)
    seen = refusals(["-c", "wrong.yaml"], directories, directory)
    assert {door: one.returncode for door, one in seen.items()} == dict.fromkeys(DOORS, 78)
    assert len({one.stderr for one in seen.values()}) == 1, seen
    errors = seen["check"].stderr.splitlines()
    assert errors
    assert all(line.startswith("wrong.yaml:") for line in errors)
    for one in seen.values():
        assert one.stdout == ""


def test_every_problem_is_told_at_once(directory: Path, directories: dict[str, str]) -> None:
    """Two problems, two lines, in the order of the file."""
    (directory / "wrong.yaml").write_text(WRONG)
    lines = run([*DOORS["twistd"], "-c", "wrong.yaml"], directories, cwd=directory).stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["wrong.yaml:3:13", "endpoints.echo.listen"],
        ["wrong.yaml:4:15", "endpoints.echo.protocol"],
    ]


def test_a_missing_file_has_one_line(directory: Path, directories: dict[str, str]) -> None:
    """Each door says which file it wanted."""
    for door, one in refusals(["-c", "missing.yaml"], directories, directory).items():
        assert one.returncode == 78, door
        assert len(one.stderr.splitlines()) == 1
        assert "missing.yaml" in one.stderr


def test_a_directory_is_not_a_file(directory: Path, directories: dict[str, str]) -> None:
    """Each door says so in one line."""
    for door, one in refusals(["-c", "."], directories, directory).items():
        assert (one.returncode, len(one.stderr.splitlines())) == (78, 1), door


def test_the_environment_names_the_file(directory: Path, directories: dict[str, str]) -> None:
    """$SOCKD_CONFIG is used where -c is not given."""
    (directory / "wrong.yaml").write_text(WRONG)
    for door, one in refusals([], {**directories, "SOCKD_CONFIG": "wrong.yaml"}, directory).items():
        assert one.returncode == 78, door
        assert one.stderr.startswith("wrong.yaml:3:13: ")


def test_a_wrong_option_shows_the_usage(directory: Path) -> None:
    """What twistd itself refuses is twistd's own status 1; click's is 2."""
    assert run([*DOORS["twistd"], "--nonsense"], cwd=directory).returncode == 1
    assert run([*DOORS["run"], "--nonsense"], cwd=directory).returncode == 2


def test_the_version_is_ours(directory: Path) -> None:
    """`twistd sockd --version` doesn't show Twisted's version in place of sockd's."""
    expected = run([*SOCKD, "--version"], cwd=directory).stdout.strip().rpartition(" ")[2]
    one = run([*DOORS["twistd"], "--version"], cwd=directory)
    assert one.returncode == 0
    assert expected
    assert expected in one.stdout


@pytest.mark.parametrize("door", [TWISTD, SOCKD], ids=["twistd", "sockd run"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_as_asked(serve: Serve, door: tuple[str, ...], number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with status 0, from either door, with an idle connection open."""
    daemon = serve(ECHO, door=door)
    with daemon.connect("echo") as one:
        one.sendall(b"hello")
        assert receive(one, 5) == b"hello"
        daemon.signal(number)
        assert one.recv(1) == b""
    assert daemon.wait() == 0


STARTING = '''
"""Its service gets a SIGTERM when its start is called, or once the reactor runs; the start never ends."""

import os
import signal

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from sockd.config.types import Text
from sockd.protocols import contract


class Options(contract.Options):
    when: Text


class Service:
    def __init__(self, host):
        self.host = host

    def startService(self):
        terminate = lambda: os.kill(os.getpid(), signal.SIGTERM)
        terminate() if self.host.options.when == "called" else self.host.reactor.callWhenRunning(terminate)
        return Deferred()

    def stopService(self):
        pass


specification = contract.Specification(
    summary="never starts", options=Options, stream=lambda host: Factory(), service=Service
)
'''


@pytest.mark.parametrize("door", [TWISTD, SOCKD], ids=["twistd", "sockd run"])
@pytest.mark.parametrize("when", ["called", "running"])
def test_it_stops_as_asked_while_it_starts(
    serve: Serve, directory: Path, door: tuple[str, ...], when: str
) -> None:
    """A SIGTERM before everything was tried ends it with status 0 too, be it before the reactor runs."""
    daemon = serve(
        f"endpoints: {{e: {{listen: 'tcp://127.0.0.1:0', protocol: slow, options: {{when: {when}}}}}}}\n",
        door=door,
        environment=distribution(directory, "slow", "slow_protocol:specification", STARTING),
        wait=False,
    )
    assert daemon.wait() == 0
    names = [one.get("event") for one in daemon.events]
    assert "stopping" in names
    assert "serving" not in names


@pytest.mark.parametrize("door", [TWISTD, SOCKD], ids=["twistd", "sockd run"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signals_wait_for_the_start(
    serve: Serve, directory: Path, door: tuple[str, ...], number: signal.Signals
) -> None:
    """One that comes while the file is read, for the first time, ends nothing: it is heeded afterwards."""
    module = (
        f"import os\n\nos.kill(os.getpid(), {int(number)})\n"
        "from sockd.protocols.echo.specification import specification\n"
    )
    daemon = serve(
        ECHO.replace("protocol: echo", "protocol: loud"),
        door=door,
        environment=distribution(directory, "loud", "loud_protocol:specification", module),
    )
    if number == signal.SIGHUP:
        daemon.event("reloaded")
    with daemon.connect("echo") as one:
        one.sendall(b"hello")
        assert receive(one, 5) == b"hello"


def test_check_shows_what_run_serves(serve: Serve, directory: Path, directories: dict[str, str]) -> None:
    """The file that `check --yaml` prints is accepted, and serves the same."""
    file = write(directory, ECHO)
    printed = run([*SOCKD, "check", "--yaml", "-c", file], directories)
    assert (printed.returncode, printed.stderr) == (0, "")
    daemon = serve(printed.stdout)
    with daemon.connect("echo") as one:
        one.sendall(b"hello")
        assert receive(one, 5) == b"hello"


@pytest.mark.parametrize("door", [TWISTD, SOCKD], ids=["twistd", "sockd run"])
def test_a_terminal_shows_a_table(serve: Serve, door: tuple[str, ...]) -> None:
    """Each listener has a row with a command to try, or the reason that it is not open; Ctrl-C stops it."""
    name = f"@sockd-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        listen = (
            f"['tcp://*:0', 'unix://{name}', 'unixgram://{name}', 'tcp://127.0.0.1:{taken}', 'unix://e.sock']"
        )
        daemon = serve(
            f"daemon: {{log: {{format: auto}}}}\nendpoints: {{e: {{listen: {listen}, protocol: echo}}}}\n",
            door=door,
            wait=False,
            terminal=True,
        )
        daemon.expect(r"^e +echo +unix://run/e\.sock +ncat --unixsock run/e\.sock\r?$")
        daemon.expect(r"^e +echo +tcp://\*:\d+ +ncat 127\.0\.0\.1 \d+\r?$")
        daemon.expect(rf"^e +echo +unix://{name} +socat - ABSTRACT-CONNECT:{name[1:]}\r?$")
        daemon.expect(rf"^e +echo +unixgram://{name} +socat - ABSTRACT-SENDTO:{name[1:]},bind=\S+\r?$")
        daemon.expect(rf"^e +echo +tcp://127\.0\.0\.1:{taken} +\(not open: .*in use.*\)\r?$")
        daemon.expect("serving")
        daemon.send("\x03")
        assert daemon.wait() == 0
