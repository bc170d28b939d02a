"""The pages of docs/hosting as they stand, but for ports and directories: each with its real client."""

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import made
from tests.end_to_end.conftest import Serve
from tests.end_to_end.harness import ROOT, SOCKD, Daemon
from tests.end_to_end.programs import run

PAGES = ROOT / "docs" / "hosting"
SIZE = 10_000_000  # bytes that go each way through the port forward


def page(name: str, directory: Path, **places: str) -> str:
    """The page's YAML file; its modules and other files are written."""
    text = (PAGES / f"{name}.md").read_text()
    for file, content in re.findall(r"^`([\w.]+)`:\n\n```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        (directory / file).write_text(content)
    (wanted,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    wanted = re.sub(r"(tcp|tls|udp)://(\*|127\.0\.0\.1):\d+", r"\1://127.0.0.1:0", wanted)
    for certificate in re.findall(r"certificate: (\w+)\.pem", wanted):
        made("localhost").write(directory, certificate)
    for old, new in places.items():
        assert old.replace("_", "/") in wanted
        wanted = wanted.replace(old.replace("_", "/"), new)
    return wanted


def ask(daemon: Daemon, *command: str) -> str:
    """What the sockd command says, after it has succeeded."""
    one = run([*SOCKD, *command, "--control", daemon.runtime / "control.sock"])
    assert one.returncode == 0, one
    return one.stdout + one.stderr


def through(daemon: Daemon, works: Callable[[], None]) -> None:
    """It works from the start, after a reload, after an upgrade; then the daemon drains in order."""
    works()
    ask(daemon, "reload")
    works()
    assert "upgraded" in ask(daemon, "upgrade")
    works()
    assert daemon.stop() == 0


def need(program: str) -> str:
    """The program, or the test is skipped."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (see .ci/run)")
    return program


def said(program: str, *arguments: str) -> str:
    """What the program prints, after it has succeeded."""
    one = run([need(program), *arguments])
    assert one.returncode == 0, one
    return one.stdout


def test_every_page_is_tried() -> None:
    """And listed."""
    pages = {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    listed = re.findall(r"^\| \[([a-z]+\.md)\]\(\1\)", (PAGES / "README.md").read_text(), re.MULTILINE)
    assert pages == set(listed)
    tried = set(re.findall(r'page\("([a-z]+)"', Path(__file__).read_text()))
    assert pages == {f"{name}.md" for name in tried}


def test_web(serve: Serve, directory: Path) -> None:
    """curl in clear and over TLS, ab with connections that stay."""
    (directory / "www").mkdir()
    (directory / "www" / "index.html").write_text("a page\n")
    daemon = serve(page("web", directory, _srv_www=f"{directory}/www"), door=SOCKD)

    def works() -> None:
        clear = f"http://127.0.0.1:{daemon.port('web')}"
        secure = f"https://127.0.0.1:{daemon.port('web', 'tls')}"
        assert said("curl", "-sS", f"{clear}/hello", f"{clear}/") == "hello 127.0.0.1, in clear\na page\n"
        assert said("curl", "-sSk", f"{secure}/hello") == "hello 127.0.0.1, in TLS\n"
        report = said("ab", "-q", "-c", "10", "-n", "200", f"{clear}/hello")
        assert re.search(r"Complete requests: +200\nFailed requests: +0\n", report)

    through(daemon, works)


def test_dns(serve: Serve, directory: Path) -> None:
    """dig over UDP and TCP."""
    daemon = serve(page("dns", directory), door=SOCKD)

    def works() -> None:
        for kind, option in (("udp", "+notcp"), ("tcp", "+tcp")):
            port = str(daemon.port("dns", kind))
            answer = said("dig", option, "+short", "@127.0.0.1", "-p", port, "www.example.org")
            assert answer == "192.0.2.1\n"

    through(daemon, works)


def test_mail(serve: Serve, directory: Path) -> None:
    """swaks starts TLS and delivers."""
    daemon = serve(page("mail", directory, _srv_mail_box=f"{directory}/box"), door=SOCKD)
    sent: list[str] = []

    def works() -> None:
        port = str(daemon.port("mail"))
        sent.append(f"mail {len(sent)}")
        talk = said(
            "swaks", "--server", "127.0.0.1", "--port", port, "--tls", "--to", "ann@example.org",
            "--from", "bob@example.org", "--body", sent[-1],
        )  # fmt: skip
        assert "TLS started with cipher" in talk
        assert [line for line in (directory / "box").read_text().splitlines() if line in sent] == sent

    through(daemon, works)


def test_forward(serve: Serve, directory: Path) -> None:
    """Ten megabytes each way, to an echo server that closes after them."""
    there = socket.create_server(("127.0.0.1", 0))

    def echo() -> None:
        while True:
            try:
                one, _ = there.accept()
            except OSError:
                return
            with one:
                left = (directory / "much").stat().st_size
                while left:
                    data = one.recv(1 << 16)
                    one.sendall(data)
                    left -= len(data)

    (directory / "much").write_bytes(bytes(range(256)) * (SIZE // 256))
    threading.Thread(target=echo, daemon=True).start()
    text = page("forward", directory).replace("192.0.2.7:22", f"127.0.0.1:{there.getsockname()[1]}")
    daemon = serve(text, door=SOCKD)

    def works() -> None:
        with (directory / "much").open("rb") as much, (directory / "back").open("wb") as back:
            arguments = [need("socat"), "-,ignoreeof", f"tcp:127.0.0.1:{daemon.port('forward')}"]
            assert subprocess.call(arguments, stdin=much, stdout=back, timeout=60) == 0
        assert (directory / "back").read_bytes() == (directory / "much").read_bytes()

    try:
        through(daemon, works)
    finally:
        there.close()


def test_program(serve: Serve, directory: Path) -> None:
    """nc has its input in capitals."""
    daemon = serve(page("program", directory), door=SOCKD)

    def works() -> None:
        (directory / "input").write_text("hello\n")
        with (directory / "input").open() as given:
            one = run([need("nc"), "-N", "127.0.0.1", str(daemon.port("upper"))], stdin=given)
        assert (one.returncode, one.stdout) == (0, "HELLO\n")

    through(daemon, works)


CALL = """
import sys
from twisted.internet import defer, endpoints, task
from twisted.protocols import amp
sys.path.insert(0, sys.argv[2])
import mycalls

async def call(reactor):
    where = endpoints.UNIXClientEndpoint(reactor, sys.argv[1])
    client = await endpoints.connectProtocol(where, amp.AMP())
    print((await client.callRemote(mycalls.Sum, a=3, b=4))["total"])

task.react(lambda reactor: defer.ensureDeferred(call(reactor)))
"""


def test_amp(serve: Serve, directory: Path) -> None:
    """A call by Twisted's own client."""
    daemon = serve(page("amp", directory), door=SOCKD)

    def works() -> None:
        done = run([sys.executable, "-c", CALL, daemon.runtime / "calls.sock", directory])
        assert (done.stdout, done.stderr) == ("7\n", "")

    through(daemon, works)
