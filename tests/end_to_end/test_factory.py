"""What others wrote for Twisted, without a package: real clients, through reload and upgrade."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Serve, write
from tests.end_to_end.harness import ROOT, SOCKD, TWISTD, Daemon, receive
from tests.end_to_end.programs import Process, run

Program = Callable[..., Process]

SITE = """\
from twisted.web import server, static

def make_site(root: str):
    return server.Site(static.{what})
"""
TALK = """\
from twisted.internet.protocol import Protocol
from sockd.api import DatagramProtocol, Duration, Host

class Talk(Protocol):
    def __init__(self, greeting: str, host: Host, wait: Duration = 60):
        self.greeting, self.wait, self.host = greeting, wait, host

    def connectionMade(self):
        self.transport.write(f"{self.greeting} from {self.host.endpoint} in {self.wait:g}s\\n".encode())

    def dataReceived(self, data):
        self.transport.write(data.upper())

    def freeze(self):
        return {"greeting": self.greeting}

    def thaw(self, state):
        self.greeting = state["greeting"]

class Back(DatagramProtocol):
    def datagram(self, data, peer):
        self.transport.send(data.upper(), peer)
"""
ECHO = "  echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}\n"


def command(daemon: Daemon, *words: str) -> str:
    """What a command of the running daemon's prints, after it has succeeded."""
    one = run([*SOCKD, *words, "--control", daemon.runtime / "control.sock"])
    assert one.returncode == 0, one
    return one.stdout + one.stderr


def site(path: str, root: str) -> str:
    return (
        f"  web: {{listen: 'tcp://127.0.0.1:0', protocol: factory,"
        f" options: {{factory: 'mysite:make_site', path: {path}, arguments: {{root: {root}}}}}}}\n"
    )


def test_the_page(serve: Serve, directory: Path, program: Program) -> None:
    """The module and the file of docs/protocols/factory.md, word for word but for port and directory."""
    page = (ROOT / "docs" / "protocols" / "factory.md").read_text()
    ((name, module),) = re.findall(r"^`([\w.]+)`:\n\n```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (directory / name).write_text(module)
    (directory / "www").mkdir()
    (directory / "www" / "index.html").write_text("it works\n")
    daemon = serve(text.replace(":8080", ":0").replace("/srv/www", "www"), door=SOCKD)
    curl = program("curl", "-sS", f"http://127.0.0.1:{daemon.port('web')}/")
    assert (curl.wait(), curl.text) == (0, "it works\n")
    assert daemon.stop() == 0


def test_a_site_and_curl(serve: Serve, directory: Path, program: Program) -> None:
    """Changed arguments hold for the next request after a reload, changed code after an upgrade."""
    for name in ("www", "www2", "code"):
        (directory / name).mkdir()
    for name in ("www", "www2"):
        (directory / name / "index.html").write_text(f"this is {name}\n")
    module = directory / "code" / "mysite.py"
    module.write_text(SITE.format(what="File(root)"))
    (directory / "plain").symlink_to("code")
    daemon = serve("endpoints:\n" + site("plain", f"{directory}/www"), door=SOCKD)
    url = f"http://127.0.0.1:{daemon.port('web')}/"

    def fetched() -> str:
        curl = program("curl", "-sS", url)
        assert curl.wait() == 0, curl.text
        return curl.text

    assert fetched() == "this is www\n"
    write(directory, "endpoints:\n" + site("plain", f"{directory}/www2"))
    assert f"options.arguments.root: {directory}/www -> {directory}/www2" in command(daemon, "diff")
    assert "updated" in command(daemon, "reload")
    assert fetched() == "this is www2\n"
    module.write_text(SITE.format(what="File(root.removesuffix('2'))"))
    said = command(daemon, "reload")
    assert "mysite has changed since it was imported and is in use: sockd upgrade takes it" in said
    assert fetched() == "this is www2\n"
    command(daemon, "upgrade")
    assert fetched() == "this is www\n"
    assert re.search(r"^web +\(factory mysite:make_site\) +running", command(daemon, "status"), re.MULTILINE)
    assert daemon.stop() == 0


def test_a_protocol_class_and_nc(serve: Serve, directory: Path, program: Program) -> None:
    """Over a stream and over datagrams, with arguments; a connection that can freeze outlives an upgrade."""
    (directory / "talk.py").write_text(TALK)
    daemon = serve(
        "endpoints:\n  talk:\n    listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']\n    protocol: factory\n"
        "    options: {factory: 'talk:Talk', datagram: 'talk:Back', path: ., arguments: {greeting: hi,"
        " wait: 1m}}\n",
        door=SOCKD,
    )
    nc = program("nc", "127.0.0.1", str(daemon.port("talk")))
    nc.expect("hi from talk in 60s\n")
    nc.send("abc\n")
    nc.expect("ABC\n")
    with daemon.connect("talk", "udp") as one:
        one.send(b"datagram")
        assert one.recv(100) == b"DATAGRAM"
    command(daemon, "upgrade")
    nc.send("still here\n")
    nc.expect("STILL HERE\n")
    with daemon.connect("talk") as other:
        assert receive(other, 20) == b"hi from talk in 60s\n"
    nc.end()
    assert daemon.stop() == 0


def test_an_import_that_takes_long(serve: Serve, directory: Path) -> None:
    """A reload waits for it, and everybody is served in between."""
    os.mkfifo(directory / "fifo")
    (directory / "slow.py").write_text(
        f"open({str(directory / 'fifo')!r}).read()\n"
        "from twisted.internet.protocol import Factory\nfrom twisted.protocols.wire import Echo\n"
        "def make(): return Factory.forProtocol(Echo)\n"
    )
    daemon = serve("endpoints:\n" + ECHO, door=SOCKD)
    slow = (
        "  slow: {listen: 'tcp://127.0.0.1:0', protocol: factory, options: {factory: 'slow:make', path: .}}\n"
    )
    write(directory, "endpoints:\n" + ECHO + slow)
    said: list[str] = []
    reload = threading.Thread(target=lambda: said.append(command(daemon, "reload")))
    reload.start()
    with open(directory / "fifo", "w") as fifo:  # comes back once the module has opened it
        with daemon.connect("echo") as one:
            one.sendall(b"served")
            assert receive(one, 6) == b"served"
        fifo.write("slow")
    reload.join()
    assert "slow" in said[0]
    with daemon.connect("slow") as one:
        one.sendall(b"at last")
        assert receive(one, 7) == b"at last"
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import sys\nprint('noise')\nsys.exit(0)\n", "can't be imported: SystemExit: 0"),
        (
            "print('noise')\nfrom twisted.internet import reactor\nreactor.run()\n",
            "can't be imported: it calls reactor.run(), which is sockd's alone",
        ),
        (
            "from twisted.internet import asyncioreactor\nasyncioreactor.install()\ndef make(): ...\n",
            "can't be served: it installs a reactor of its own, AsyncioSelectorReactor",
        ),
    ],
)
def test_check_runs_nothing(module: str, why: str, directory: Path) -> None:
    """A module that ends, runs or takes the process is refused in one line; what it prints isn't shown."""
    (directory / "odd.py").write_text(module)
    (directory / "odd.yaml").write_text(
        "endpoints:\n  odd:\n    listen: unix://odd\n    protocol: factory\n"
        "    options: {factory: 'odd:make', path: .}\n"
    )
    one = run([*SOCKD, "check", "odd.yaml"], cwd=directory)
    assert (one.returncode, one.stdout) == (78, "")
    (line,) = one.stderr.splitlines()
    assert line.startswith(f"odd.yaml:5:24: endpoints.odd.options.factory: odd {why}")


def test_what_it_returns_is_no_factory(serve: Serve, directory: Path) -> None:
    """The endpoint is held with the reason, the others run, and a reload takes the module as it is now."""
    (directory / "none.py").write_text("def make(): return None\n")
    text = (
        "endpoints:\n" + ECHO + "  none: {listen: 'tcp://127.0.0.1:0', protocol: factory, options: {factory:"
        " 'none:make', path: .}, restart: {delay: 10ms}}\n"
    )
    daemon = serve(text, door=SOCKD)
    daemon.expect(r"none: service: TypeError: none:make returned an object of the type NoneType")
    (directory / "none.py").write_text(
        "from twisted.internet.protocol import Factory\nfrom twisted.protocols.wire import Echo\n"
        "def make(): return Factory.forProtocol(Echo)\n"
    )
    command(daemon, "reload")
    with daemon.connect("none") as one:
        one.sendall(b"up")
        assert receive(one, 2) == b"up"
    assert daemon.stop() == 0


VERSIONS = """\
from twisted.internet.protocol import Factory, Protocol

class Version(Protocol):
    def connectionMade(self):
        self.transport.write(b"{version}")
        self.transport.loseConnection()

factory = Factory.forProtocol(Version)
def make(): return Factory.forProtocol(Version)
"""


@pytest.mark.parametrize("name", ["make", "factory", "Version"])
def test_new_code_for_an_endpoint_that_had_gone(name: str, serve: Serve, directory: Path) -> None:
    """Once nothing of the old module is left, a reload takes the new one without an upgrade."""
    (directory / "versioned.py").write_text(VERSIONS.format(version="old"))
    options = f"{{factory: 'versioned:{name}', path: .}}"
    gone = "endpoints:\n" + ECHO
    there = f"{gone}  it: {{listen: 'tcp://127.0.0.1:0', protocol: factory, options: {options}}}\n"
    daemon = serve(there, door=SOCKD)
    with daemon.connect("it") as one:
        assert receive(one, 10) == b"old"
    daemon.event("connection ended", endpoint="it")
    write(directory, gone)
    command(daemon, "reload")
    (directory / "versioned.py").write_text(VERSIONS.format(version="brand new"))
    write(directory, there)
    assert "has changed" not in command(daemon, "reload")
    with daemon.connect("it") as one:
        assert receive(one, 10) == b"brand new"
    assert daemon.stop() == 0


def test_an_upgrade_to_code_that_is_wrong(serve: Serve, directory: Path) -> None:
    """It is refused with the reason, and the old code goes on."""
    (directory / "versioned.py").write_text(VERSIONS.format(version="old"))
    daemon = serve(
        "endpoints:\n  it: {listen: 'tcp://127.0.0.1:0', protocol: factory,"
        " options: {factory: 'versioned:make', path: .}}\n",
        door=SOCKD,
    )
    (directory / "versioned.py").write_text("import nowhere_to_be_found\n")
    one = run([*SOCKD, "upgrade", "--control", daemon.runtime / "control.sock"])
    assert one.returncode != 0
    assert "versioned imports nowhere_to_be_found, which isn't installed" in one.stderr
    with daemon.connect("it") as client:
        assert receive(client, 10) == b"old"
    assert daemon.stop() == 0


def test_what_holds_up_the_reactor_is_named(serve: Serve, directory: Path) -> None:
    """Also a timer of the module's, which belongs to no connection."""
    (directory / "blocking.py").write_text(
        "import time\nfrom twisted.internet.protocol import Factory\nfrom sockd.api import Host\n"
        "def block(): time.sleep(0.4)\n"
        "def make(host: Host):\n    host.reactor.callLater(0, block)\n    return Factory()\n"
    )
    daemon = serve(
        "endpoints:\n  it: {listen: 'tcp://127.0.0.1:0', protocol: factory,"
        " options: {factory: 'blocking:make', path: .}}\n",
        door=SOCKD,
    )
    daemon.expect(r"it: held the loop for 0\.\d+s, in block \(blocking\.py:4\)")
    assert daemon.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize(("mode", "file_mode"), [(0o700, 0o644), (0o755, 0o600)])
def test_as_the_user_that_the_daemon_becomes(mode: int, file_mode: int, directory: Path) -> None:
    """What root has imported already is looked at once more: that user would have to import it."""
    site = directory / "site"
    site.mkdir(mode=mode)
    (site / "versioned.py").write_text(VERSIONS.format(version="old"))
    (site / "versioned.py").chmod(file_mode)
    file = directory / "sockd.yaml"
    file.write_text(
        "endpoints:\n  it:\n    listen: tcp://127.0.0.1:0\n    protocol: factory\n"
        "    options: {factory: 'versioned:make', path: site}\n"
    )
    what = "site: this directory" if mode == 0o700 else "site/versioned.py"
    said = f"{file}:5:48: endpoints.it.options.path: {directory}/{what} can't be read (as the user nobody"
    one = run([*SOCKD, "check", file, "--as", "nobody"])
    assert one.returncode == 77
    assert one.stderr.startswith(said)
    start = run([*TWISTD, "--uid=nobody", "sockd", "-c", file], cwd=directory)
    assert start.returncode == 77
    assert said in start.stderr + start.stdout
