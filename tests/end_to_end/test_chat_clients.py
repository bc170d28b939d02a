"""A chat, and the programs that people point at it: telnets, netcats, a browser, an IRC client."""

import fcntl
import itertools
import re
import shutil
import struct
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.harness import JSON_LOG, SOCKD, Daemon
from tests.end_to_end.programs import BOUND, Process, run

FILE = """
endpoints:
  lobby: {listen: [tcp://127.0.0.1:0, unix://lobby.sock], protocol: chat, options: {rate: 100/s}}
  hasty: {listen: tcp://127.0.0.1:0, protocol: chat, limits: {idle: 1s}}
"""
COMMANDS = (
    *("send synch", "send ip", "send ao", "send brk", "send susp", "send abort", "send ga", "send nop"),
    *("send ec", "send el", "mode character", "mode line", "mode character", "mode character"),
)
Program = Callable[..., Process]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon for all tests of this module."""
    directory = Path(tempfile.mkdtemp(prefix="sockd-"))
    file = directory / "sockd.yaml"
    file.write_text(JSON_LOG + FILE)
    one = Daemon(directory, file, SOCKD)
    try:
        yield one.serving()
        assert one.stop() == 0
        assert "Traceback" not in one.text, one.text
    finally:
        one.end()
        shutil.rmtree(directory)


class Watcher:
    """A member that hears all that the room hears."""

    def __init__(self, daemon: Daemon, endpoint: str = "lobby") -> None:
        self.socket = daemon.connect(endpoint)
        self.socket.sendall(b"/join room\n/nick watcher\n")
        self.lines = self.socket.makefile("rb")
        while self.lines.readline() != b"-- you are now watcher\n":
            pass

    def say(self, text: str) -> None:
        self.socket.sendall(f"{text}\n".encode())

    def hears(self, *lines: str) -> None:
        """These lines come next."""
        assert [self.lines.readline().decode() for _ in lines] == [f"{line}\n" for line in lines]

    def hears_nothing(self) -> None:
        """Whatever was said so far would come before the answer to this."""
        self.say("/who")
        assert self.lines.readline().startswith(b"-- in room: ")


@pytest.fixture
def watcher(daemon: Daemon) -> Iterator[Watcher]:
    one = Watcher(daemon)
    yield one
    one.lines.close()
    one.socket.close()


def sized(program: Program, *arguments: str) -> Process:
    """A program on a terminal that has a size."""
    command = ("sh", "-c", 'stty rows 24 cols 80; exec "$@"', "sh", *arguments)
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed (see .ci/run)")
    return program(*command, environment={"TERM": "xterm"}, terminal=True)


def prompted(seen: int, output: bytes) -> bool:
    """Whether telnet's own prompt came behind what was seen before."""
    return re.search(rb"telnet[a-z-]*> $", output[seen:]) is not None


def shows_again(telnet: Process, watcher: Watcher) -> None:
    """Waits until telnet shows what is said; what comes before the answer to Ctrl-C, it drops."""
    until = time.monotonic() + BOUND
    for number in itertools.count():
        watcher.say(f"again {number}")
        with suppress(AssertionError):
            telnet.expect(f"<watcher> again {number}\r$", 0.1)
            return
        assert time.monotonic() < until, telnet.text


def join(client: Process, watcher: Watcher) -> None:
    client.expect("you are in lobby")
    client.send("/join room\r/nick tel\r")
    client.expect("you are now tel")
    assert re.fullmatch(rb"-- guest\d+ joined\n", watcher.lines.readline())
    watcher.lines.readline()


@pytest.mark.parametrize("name", ["telnet", "telnet-ssl"])
def test_telnet(name: str, daemon: Daemon, watcher: Watcher, program: Program) -> None:
    """After Ctrl-C, each command and each mode it shows what others say, and is heard; Ctrl-D leaves."""
    telnet = program(name, "127.0.0.1", str(daemon.port("lobby")), terminal=True)
    join(telnet, watcher)
    telnet.send("\x03")
    shows_again(telnet, watcher)
    for number, command in enumerate(COMMANDS):
        seen = len(telnet.output)
        telnet.send("\x1d")
        telnet.until(partial(prompted, seen), "a prompt")
        telnet.send(f"{command}\r")
        telnet.send(f"{number}\r")
        watcher.hears(f"<tel> {number}")
        watcher.say(f"heard {number}")
        telnet.expect(f"<watcher> heard {number}\r$")
    telnet.send("\x1d")
    telnet.send("send ayt\r")
    telnet.expect("-- yes, the chat is there\r$")
    telnet.send("\x04")
    telnet.wait()
    watcher.hears("-- tel left: quit")


def test_window_sizes(daemon: Daemon, watcher: Watcher, program: Program) -> None:
    """PuTTY's telnet offers its options at once; refused them, it goes on, also in another size."""
    plink = sized(program, "plink", "-telnet", "-P", str(daemon.port("lobby")), "127.0.0.1")
    join(plink, watcher)
    for rows, columns in ((10, 10), (13, 2570), (255, 255)):
        fcntl.ioctl(plink.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        plink.send(f"{rows} rows\r")
        watcher.hears(f"<tel> {rows} rows")
    plink.send("\x04")
    plink.wait()
    watcher.hears("-- tel left: quit")


def test_rlwrap(daemon: Daemon, watcher: Watcher, program: Program) -> None:
    """A half-typed line is drawn again below what others say; Ctrl-D leaves."""
    client = sized(program, "rlwrap", "ncat", "127.0.0.1", str(daemon.port("lobby")))
    join(client, watcher)
    client.send("half a")
    client.expect("half a")
    seen = len(client.output)
    watcher.say("something else")
    client.until(lambda output: re.search(rb"something else\r.*half a", output[seen:], re.DOTALL), "both")
    client.send(" line\r")
    watcher.hears("<tel> half a line")
    client.send("\x04")
    client.wait()
    watcher.hears("-- tel left: closed the connection")


def test_socat_on_a_unix_socket(daemon: Daemon, watcher: Watcher, program: Program) -> None:
    """Telnet's language is understood there as well."""
    socat = program("socat", "-", f"UNIX-CONNECT:{daemon.runtime}/lobby.sock")
    socat.send(b"/join room\r\x00/nick tel\r\x00\xff\xfa\x1f\x00\x0a\x00\x0a\xff\xf0hi\r\x00\xff\xfd\x06")
    socat.expect(rb"you are now tel\r\n.*\xff\xfc\x06|\xff\xfc\x06(.|\n)*you are now tel")
    watcher.lines.readline()
    watcher.lines.readline()
    watcher.hears("<tel> hi")
    socat.send(b"\x04")
    assert socat.wait() == 0
    watcher.hears("-- tel left: quit")


def test_curl(daemon: Daemon, watcher: Watcher) -> None:
    """It gets status 400 and a text; no cookie, and no line of the body, is shown, run, or logged."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (see .ci/run)")
    url = f"http://127.0.0.1:{daemon.port('lobby')}/"
    body = "/nick boss\n/join room\nhello from SECRET\n"
    done = run(["curl", "--silent", "--include", "--cookie", "id=SECRET", "--data-binary", body, url])
    assert done.stdout.startswith("HTTP/1.1 400 Bad Request\n")
    assert done.stdout.rstrip().endswith("nc, telnet, rlwrap ncat.")
    watcher.hears_nothing()
    event = daemon.event("connection ended", end="refused by the protocol")
    assert event["why"] == "not a chat: it speaks HTTP"
    assert "SECRET" not in daemon.text


@pytest.mark.slow
def test_a_browser(daemon: Daemon, directory: Path, program: Program) -> None:
    """A page says what is there."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    url = f"http://127.0.0.1:{daemon.port('lobby')}/"
    browser = program("chromium", *options, f"--user-data-dir={directory}", "--dump-dom", url)
    browser.expect("This is a chat, not a web site")


def test_an_irc_client(daemon: Daemon, directory: Path, watcher: Watcher, program: Program) -> None:
    """It shows the reason; its password reaches neither the room nor the log."""
    port = str(daemon.port("lobby"))
    where = ("-c", "127.0.0.1", "-p", port, "-w", "SECRET", "-n", "boss")
    irssi = sized(program, "irssi", f"--home={directory}", *where)
    irssi.expect("This is a chat for nc, telnet or rlwrap ncat")
    watcher.hears_nothing()
    daemon.event("connection ended", why="not a chat: it speaks IRC")
    assert "SECRET" not in daemon.text


@pytest.mark.parametrize("name", ["nc.openbsd", "ncat", "telnet"])
def test_the_last_word(name: str, daemon: Daemon, program: Program) -> None:
    """A client whose connection is closed has been told why, by whatever closes it."""
    idle = program(name, "127.0.0.1", str(daemon.port("hasty")), terminal=True)
    idle.expect("-- this connection is closed: idle\r$")
    kicked = program(name, "127.0.0.1", str(daemon.port("lobby")), terminal=True)
    kicked.expect("you are in lobby")
    kicked.send(f"/nick kick-{name.partition('.')[0]}\r")
    kicked.expect("you are now kick")
    done = run([*SOCKD, "kick", f"kick-{name.partition('.')[0]}"], {"RUNTIME_DIRECTORY": str(daemon.runtime)})
    assert done.returncode == 0, done.stderr
    kicked.expect("-- this connection is closed: kicked\r$")
    assert daemon.event("connection ended", end="kicked", name=f"kick-{name.partition('.')[0]}")
