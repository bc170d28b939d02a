"""line-log on a real disk: rotated under load, full, torn, and in every format."""

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockd.transports.datagrams.port import DATAGRAMS_PER_EVENT
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import ROOT, Daemon, receive
from tests.end_to_end.programs import BOUND, Process

FILE = """
daemon: {drain: %s, log: {format: json}}
endpoints:
  applog:
    listen: ['tcp://127.0.0.1:0', 'unix://log.sock', 'unixgram://gram.sock']
    protocol: line-log
    restart: {delay: 50ms, max_delay: 200ms}
    options: {path: app.log, format: %s}
  echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}
"""
TEXT = FILE % ("10s", "text")
RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z applog (\S+) (.*)")


def texts(*files: Path) -> list[str]:
    """The lines that the records of these files hold, each record checked for its form."""
    found = []
    for file in files:
        content = file.read_text()
        assert content == "" or content.endswith("\n")
        for line in content.splitlines():
            match = RECORD.fullmatch(line)
            assert match is not None, line
            found.append(match[2])
    return found


def rotation_rules(daemon: Daemon) -> str:
    """systemd/logrotate.example for this daemon: its directory, and a signal without systemd."""
    example = (ROOT / "systemd" / "logrotate.example").read_text()
    rules = example.replace("/var/log/sockd/", f"{daemon.logs}/")
    rules = re.sub(r"systemctl kill .*", f"kill -USR1 {daemon.pid}", rules)
    assert rules.count(str(daemon.logs)) == 1
    assert f"kill -USR1 {daemon.pid}" in rules
    return rules


def test_logrotate_under_load_loses_nothing(
    serve: Serve, directory: Path, program: Callable[..., Process]
) -> None:
    """The shipped rules rotate five times while lines pour in: each line is there once, in order."""
    daemon = serve(TEXT)
    log = daemon.logs / "app.log"
    rules = directory / "rotate.conf"
    rules.write_text(rotation_rules(daemon))
    stop = threading.Event()
    count = 0

    def pour() -> None:
        nonlocal count
        with daemon.connect("applog") as one, daemon.connect("echo") as pace:
            while not stop.is_set():
                one.sendall(b"".join(b"line %d\n" % number for number in range(count, count + 10)))
                count += 10
                pace.sendall(b"x")
                assert receive(pace, 1) == b"x"

    sender = threading.Thread(target=pour)
    sender.start()
    try:
        with daemon.connect("echo") as echo:
            for _ in range(5):
                while not log.exists() or not log.stat().st_size:  # opened anew, and written to
                    echo.sendall(b"x")
                    assert receive(echo, 1) == b"x"
                rotate = program("logrotate", "-f", "-s", directory / "state", rules)
                assert rotate.wait() == 0, rotate.text
                assert b"error" not in rotate.output
    finally:
        stop.set()
        sender.join(BOUND)
    assert daemon.stop() == 0
    old = sorted(daemon.logs.glob("app.log.*"), key=lambda path: -int(path.name.split(".")[2]))
    assert len(old) == 5
    for path in old:
        if path.suffix == ".gz":
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    assert texts(*(path.with_suffix("") if path.suffix == ".gz" else path for path in old), log) == [
        f"line {number}" for number in range(count)
    ]


def test_a_flood_of_datagrams_leaves_the_others_their_turn(serve: Serve) -> None:
    """Of many datagrams that arrived first, only a batch is read before a line that came after them."""
    daemon = serve("""
endpoints:
  applog:
    listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0']
    protocol: line-log
    options: {path: app.log}
""")
    log = daemon.logs / "app.log"
    with daemon.connect("applog") as one, daemon.connect("applog", "udp") as flood:
        one.sendall(b"served\n")
        while not log.read_bytes():
            continue
        daemon.signal(signal.SIGSTOP)
        os.waitpid(daemon.pid, os.WUNTRACED)  # it has stopped
        for number in range(3 * DATAGRAMS_PER_EVENT):
            flood.send(b"%d" % number)
        one.sendall(b"my turn\n")
        daemon.signal(signal.SIGCONT)
        # A stop would take in what is queued.
        while log.read_bytes().count(b"\n") < 3 * DATAGRAMS_PER_EVENT + 2:
            continue
    assert daemon.stop() == 0
    found = texts(log)
    turn = found.index("my turn")
    assert 1 <= turn <= 1 + DATAGRAMS_PER_EVENT
    del found[turn]
    assert found == ["served", *map(str, range(3 * DATAGRAMS_PER_EVENT))]


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    """The logs directory as a file system of one megabyte, of which a ballast takes all but a little."""
    logs = directory / "log"
    logs.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.getuid() != 0:
        pytest.skip("a small file system needs root and mount")
    one = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(logs)], capture_output=True, check=False
    )
    if one.returncode:
        pytest.skip(f"no small file system here: {one.stderr.decode().strip()}")
    (logs / "ballast").write_bytes(bytes(960 * 1024))
    yield logs
    subprocess.run(["umount", str(logs)], check=True)


def numbered(count: int) -> bytes:
    return b"".join(b"line %d of many that fill the disk\n" % number for number in range(count))


def test_a_full_disk_loses_nothing(serve: Serve, small_disk: Path) -> None:
    """Senders wait while the disk is full, others are served; with room again, every line is there once."""
    daemon = serve(TEXT)
    with daemon.connect("applog") as one:
        one.sendall(numbered(3000))
        daemon.expect("No space left on device")
        with daemon.connect("echo") as other:
            other.sendall(b"hello")
            assert receive(other, 5) == b"hello"
        assert daemon.process.poll() is None
        (small_disk / "ballast").unlink()
        daemon.event("recovered", endpoint="applog")
    assert daemon.stop() == 0
    assert texts(daemon.logs / "app.log") == numbered(3000).decode().splitlines()


def test_a_stop_while_the_disk_is_full_says_what_is_lost(serve: Serve, small_disk: Path) -> None:
    """It waits until the drain's deadline, then tells how many lines it could not write."""
    daemon = serve(FILE % ("300ms", "text"))
    with daemon.connect("applog") as one:
        one.sendall(numbered(3000))
        daemon.expect("No space left on device")
        assert daemon.stop() == 0
    match = daemon.expect(rb"(\d+) lines were lost")
    written = (daemon.logs / "app.log").read_bytes().count(b"\n")
    assert 0 < int(match[1]) <= 3000 - written


def test_a_write_that_hangs_is_a_state_on_which_required_acts(serve: Serve, directory: Path) -> None:
    """Nobody reads the FIFO: the endpoint is reported, and goes on; the second time sockd gives up."""
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    daemon = serve(f"""
daemon: {{drain: 300ms, log: {{format: json}}}}
endpoints:
  applog:
    listen: 'tcp://127.0.0.1:0'
    protocol: line-log
    required: {{give_up_after: 2s}}
    restart: {{delay: 10ms, max_delay: 10ms}}
    options: {{path: {fifo}, format: raw}}
""")
    with daemon.connect("applog") as one:
        lines = numbered(4000)
        one.sendall(lines)
        event = daemon.event("not responding", endpoint="applog")
        assert event["why"] == f"{fifo}: its disk, file server or reader has not answered for 3 seconds"
        got = 0
        while got < len(lines):
            with contextlib.suppress(BlockingIOError):
                got += len(os.read(reader, 1 << 20))
        daemon.event("recovered", endpoint="applog")
        one.sendall(lines)
        assert daemon.wait() == os.EX_UNAVAILABLE
    assert daemon.event("gave up")["why"] == event["why"]
    os.close(reader)


def test_a_torn_line_is_ended_and_marked(serve: Serve) -> None:
    """After a kill -9 that tore the last line, the next start ends it, marks it, and goes on below."""
    daemon = serve(TEXT)
    log = daemon.logs / "app.log"
    with daemon.connect("applog") as one:
        one.sendall(b"whole\ntorn in two\n")
        wait_for(log, "two$")
        daemon.signal(signal.SIGKILL)
        daemon.wait()
    os.truncate(log, log.stat().st_size - len(" two\n"))  # as a crash in mid-write leaves it
    daemon = serve(TEXT)
    with daemon.connect("applog") as one:
        one.sendall(b"after\n")
    assert daemon.stop() == 0
    assert texts(log) == ["whole", r"torn in \{torn}", "after"]


def wait_for(file: Path, pattern: str) -> None:
    tail = Process(["/usr/bin/tail", "-n", "+1", "-F", file])
    try:
        tail.expect(pattern)
    finally:
        tail.end()


def test_what_came_before_the_stop_is_written(serve: Serve) -> None:
    """Lines sent just before SIGTERM, the last without its newline, are all in the file."""
    daemon = serve(TEXT)
    with daemon.connect("applog") as one:
        one.sendall(numbered(5000) + b"unfinished")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    lines = texts(daemon.logs / "app.log")
    assert lines == [*numbered(5000).decode().splitlines(), r"unfinished\{no newline}"]


@pytest.mark.parametrize(("ended", "drain"), [("drained", "10s"), ("closed by sockd", "200ms")])
def test_what_the_kernel_acknowledged_is_recorded_or_counted(serve: Serve, ended: str, drain: str) -> None:
    """A sender that never looks whether it is still heard loses, in a stop, only what its own kernel has."""
    daemon = serve(FILE % (drain, "raw"))
    with daemon.connect("applog") as one:
        daemon.signal(signal.SIGTERM)
        if ended == "drained":  # closed as it is silent, it goes on
            assert one.recv(1) == b""
        with contextlib.suppress(OSError):
            while True:
                one.sendall(b"line\n" * 100)
                time.sleep(0.001)  # a flood would fill the disk
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    assert daemon.wait() == 0
    event = daemon.event("connection ended", endpoint="applog")
    recorded = (daemon.logs / "app.log").stat().st_size
    acknowledged = int.from_bytes(info[120:128], "little") - 1  # tcpi_bytes_acked (tcp(7)), and a SYN
    assert event["end"] == ended
    assert recorded - event["bytes_in"] in (0, 1)  # the newline of the last line
    assert event["bytes_in"] + event.get("dropped", 0) >= acknowledged > 0
    assert ended != "drained" or "dropped" not in event


def test_the_formats(serve: Serve) -> None:
    """json has the same fields as text, raw only the line."""
    daemon = serve(FILE % ("10s", "json"))
    send(daemon)
    records = [json.loads(line) for line in (daemon.logs / "app.log").read_text().splitlines()]
    assert [one.get("text", one.get("base64")) for one in records] == ["naïve\x1b[31m", "/w=="]
    assert all(one["endpoint"] == "applog" and one["peer"].startswith("uid=") for one in records)
    (daemon.logs / "app.log").unlink()
    send(serve(FILE % ("10s", "raw")))
    assert (daemon.logs / "app.log").read_bytes() == "naïve\x1b[31m\n".encode() + b"\xff\n"
    (daemon.logs / "app.log").unlink()
    send(serve(TEXT))
    assert texts(daemon.logs / "app.log") == [r"naïve\x1b[31m", r"\xff"]


def send(daemon: Daemon) -> None:
    with daemon.connect("applog", "unix") as one:
        one.sendall("naïve\x1b[31m\r\n".encode() + b"\xff\n")
    assert daemon.stop() == 0


def test_a_long_line_is_cut_and_goes_on(serve: Serve) -> None:
    """A line over `max_line` is kept in pieces, each but the last marked."""
    daemon = serve(TEXT)
    with daemon.connect("applog") as one:
        one.sendall(b"x" * 200_000 + b"\n")
    assert daemon.stop() == 0
    pieces = texts(daemon.logs / "app.log")
    assert all(piece.endswith(r"\{cut}") for piece in pieces[:-1])
    assert "".join(piece.removesuffix(r"\{cut}") for piece in pieces) == "x" * 200_000
