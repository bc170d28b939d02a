"""The shipped example, each of its twelve listeners, and clients that nobody here wrote."""

import json
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end import example
from tests.end_to_end.harness import Daemon, receive, receive_all
from tests.end_to_end.programs import BOUND, Process

PORTS = example.free_ports()
ECHO, LOBBY, APPLOG = map(str, PORTS.values())
Program = Callable[..., Process]


@pytest.fixture(scope="module")
def shipped() -> Iterator[Daemon]:
    """One daemon on config/sockd.yaml, as it is but for ports in use, for all tests of this module."""
    directory = Path(tempfile.mkdtemp(prefix="sockd-"))
    daemon = Daemon(directory, example.write(directory, PORTS))
    try:
        yield daemon.serving()
        status = daemon.stop()
        assert "Traceback" not in daemon.text, daemon.text
        assert "Unhandled" not in daemon.text, daemon.text
        assert status == 0
        assert not list(daemon.runtime.iterdir())  # its Unix sockets are gone
    finally:
        daemon.end()
        shutil.rmtree(directory)


def record(shipped: Daemon, ending: str) -> str:
    """The line of app.log that ends so, a regular expression; it is written soon, but not at once."""
    tail = Process(["/usr/bin/tail", "-n", "+1", "-F", shipped.logs / "app.log"])
    try:
        return tail.expect(rf"^.*{ending}$").group().decode()
    finally:
        tail.end()


def test_it_listens_on_twelve_addresses(shipped: Daemon) -> None:
    """Each endpoint is on TCP, UDP, Unix stream and Unix datagram, at the addresses in the file."""
    listening = {
        (one["endpoint"], one["address"]) for one in shipped.events if one.get("event") == "listening"
    }
    files = {"echo": "echo", "lobby": "lobby", "applog": "log"}
    assert listening == {
        (name, address)
        for name, port in PORTS.items()
        for address in (
            f"tcp://127.0.0.1:{port}",
            f"udp://127.0.0.1:{port}",
            f"unix://{shipped.runtime}/{files[name]}.sock",
            f"unixgram://{shipped.runtime}/{files[name]}-dgram.sock",
        )
    }


def test_echo_over_tcp_with_ncat(shipped: Daemon, program: Program) -> None:
    """ncat gets its bytes back, ends its side, and is let go."""
    ncat = program("ncat", "127.0.0.1", ECHO)
    ncat.send("hello\n")
    ncat.close_input()
    assert ncat.wait() == 0
    assert ncat.output == b"hello\n"


def test_echo_over_udp_with_socat(shipped: Daemon, program: Program) -> None:
    """A datagram comes back as it was, a zero byte in it too."""
    socat = program("socat", "-", f"UDP:127.0.0.1:{ECHO}")
    socat.send(b"one\x00two\n")
    assert socat.expect(rb"one\x00two\n")


def test_echo_over_udp_with_ncat(shipped: Daemon, program: Program) -> None:
    """ncat's datagrams come back one for one."""
    ncat = program("ncat", "-u", "127.0.0.1", ECHO)
    ncat.send("first\n")
    ncat.expect("^first$")
    ncat.send("second\n")
    ncat.expect("^second$")
    assert ncat.output == b"first\nsecond\n"


def test_echo_over_a_unix_socket_with_socat(shipped: Daemon, program: Program) -> None:
    """A whole file goes through a Unix socket and back."""
    data = b"".join(b"line %d\n" % number for number in range(5000))
    socat = program("socat", "-t", str(BOUND), "-", f"UNIX-CONNECT:{shipped.runtime}/echo.sock")
    socat.send(data)
    socat.close_input()
    assert socat.wait() == 0
    assert socat.output == data


def test_echo_over_a_unix_socket_with_ncat(shipped: Daemon, program: Program) -> None:
    """ncat -U is served like ncat over TCP."""
    ncat = program("ncat", "-U", shipped.runtime / "echo.sock")
    ncat.send("hello\n")
    ncat.close_input()
    assert ncat.wait() == 0
    assert ncat.output == b"hello\n"


def test_echo_over_unix_datagrams_with_socat(shipped: Daemon, program: Program) -> None:
    """A datagram socket with a path of its own gets the answer there."""
    mine = shipped.directory / "mine.sock"
    socat = program("socat", "-", f"UNIX-SENDTO:{shipped.runtime}/echo-dgram.sock,bind={mine}")
    socat.send("hello\n")
    socat.expect("^hello$")


def test_echo_keeps_datagrams_whole(shipped: Daemon) -> None:
    """The longest datagram that IPv4 carries comes back in one piece."""
    data = bytes(range(256)) * 255 + bytes(227)
    assert len(data) == 65507
    with shipped.connect("echo", "udp") as one:
        one.send(data)
        assert one.recv(65536) == data


def test_echo_over_tcp_with_telnet(shipped: Daemon, program: Program) -> None:
    """What is typed into telnet comes back."""
    telnet = program("telnet", "127.0.0.1", ECHO)
    telnet.expect("Escape character")
    telnet.send("hello\n")
    telnet.expect("^hello\r?$")


def test_a_chat_across_all_four_kinds(shipped: Daemon, program: Program) -> None:
    """telnet, socat on both Unix sockets and ncat over UDP are in one room and hear one another."""
    telnet = program("telnet", "127.0.0.1", LOBBY)
    telnet.expect("Escape character")
    telnet.send("/nick tel\n")
    telnet.expect("tel")
    unix = program("socat", "-", f"UNIX-CONNECT:{shipped.runtime}/lobby.sock")
    unix.send("/nick stream\n")
    telnet.expect("stream")
    mine = shipped.directory / "member.sock"
    gram = program("socat", "-", f"UNIX-SENDTO:{shipped.runtime}/lobby-dgram.sock,bind={mine}")
    gram.send("/nick gram\n")
    telnet.expect("gram")
    udp = join_by_udp(program)
    udp.send("/nick wanderer\n")
    telnet.expect("wanderer")
    members = {"tel": telnet, "stream": unix, "gram": gram, "wanderer": udp}
    for name, one in members.items():
        one.send(f"this is {name}\n")
        for other, reader in members.items():
            if other != name:
                reader.expect(f"^<{name}> this is {name}\r?$")
    telnet.send("/quit\n")
    unix.expect("tel left")


def join_by_udp(program: Program) -> Process:
    """A member by ncat -u, which did with the token what the challenge asks for."""
    udp = program("ncat", "-u", "127.0.0.1", LOBBY)
    udp.send("hello\n")
    code = udp.expect(r"/prove (\S+) without the dashes")[1]
    udp.send(b"/prove " + code.replace(b"-", b"") + b"\n")
    udp.expect("guest")
    return udp


def test_lines_over_tcp_with_logger(shipped: Daemon, program: Program) -> None:
    """logger -T's line is a record with the time, the endpoint and the peer before it."""
    logger = program("logger", "-T", "-n", "127.0.0.1", "-P", APPLOG, "-t", "tests", "by tcp")
    assert logger.wait() == 0
    line = record(shipped, "tests .*by tcp")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z applog 127\.0\.0\.1:\d+ <13>", line)


def test_lines_over_udp_with_logger(shipped: Daemon, program: Program) -> None:
    """logger -d's datagram is a record."""
    logger = program("logger", "-d", "-n", "127.0.0.1", "-P", APPLOG, "-t", "tests", "by udp")
    assert logger.wait() == 0
    assert " applog 127.0.0.1:" in record(shipped, "tests .*by udp")


def test_lines_over_unix_datagrams_with_logger(shipped: Daemon, program: Program) -> None:
    """logger -u's datagram is a record that names who sent it, as the kernel knows it."""
    logger = program("logger", "-u", shipped.runtime / "log-dgram.sock", "-t", "tests", "by unixgram")
    assert logger.wait() == 0
    assert re.search(r" applog uid=\d+,pid=\d+ <13>", record(shipped, "tests: by unixgram"))


def test_lines_over_a_unix_socket_with_socat(shipped: Daemon, program: Program) -> None:
    """Lines of a Unix stream are records that name the peer's uid and pid."""
    socat = program("socat", "-u", "-", f"UNIX-CONNECT:{shipped.runtime}/log.sock")
    socat.send("by unix\nno newline")
    socat.close_input()
    assert socat.wait() == 0
    assert re.search(rf" applog uid=\d+,pid={socat.pid} by unix$", record(shipped, "by unix"))
    assert "no newline" in record(shipped, r"\\{no newline}")


def test_lines_forwarded_by_rsyslog(shipped: Daemon, program: Program) -> None:
    """rsyslog's own forwarding by TCP ends up in the file."""
    source = shipped.directory / "rsyslog.sock"
    file = shipped.directory / "rsyslog.conf"
    file.write_text(
        f'module(load="imuxsock" SysSock.Use="off")\n'
        f'input(type="imuxsock" Socket="{source}" CreatePath="on")\n'
        f'action(type="omfwd" target="127.0.0.1" port="{APPLOG}" protocol="tcp")\n'
    )
    rsyslog = program("rsyslogd", "-n", "-f", file, "-i", shipped.directory / "rsyslog.pid")
    # rsyslog says nothing when it is up, so the first message is offered until its socket takes it
    while True:
        logger = program("logger", "-u", source, "-t", "forwarded", "--socket-errors=on", "through rsyslog")
        if logger.wait() == 0:
            break
        assert rsyslog.process.poll() is None, rsyslog.text
    assert " applog 127.0.0.1:" in record(shipped, "forwarded: through rsyslog")


def test_sockets_of_python(shipped: Daemon) -> None:
    """create_connection, sendall, shutdown, recv: the plainest client there is."""
    with socket.create_connection(("127.0.0.1", PORTS["echo"]), BOUND) as one:
        one.sendall(b"over tcp")
        assert receive(one, 8) == b"over tcp"
        one.shutdown(socket.SHUT_WR)
        assert receive_all(one) == b""


def test_each_connection_is_logged_once_at_its_end(shipped: Daemon) -> None:
    """The end of a connection says endpoint, listener, peer, how long, bytes each way, and why."""
    with socket.create_connection(("127.0.0.1", PORTS["echo"]), BOUND) as one:
        mine = "{}:{}".format(*one.getsockname())
        one.sendall(b"12345")
        receive(one, 5)
    end = shipped.event("connection ended", peer=mine)
    assert json.dumps(end)  # plain values
    assert end["endpoint"] == "echo"
    assert end["listener"] == f"tcp://127.0.0.1:{ECHO}"
    assert (end["bytes_in"], end["bytes_out"], end["end"]) == (5, 5, "peer closed")
    assert end["seconds"] >= 0
