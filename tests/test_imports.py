"""What each program loads: nothing that it doesn't need, as that is most of the time it takes to start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NO_TLS = {
    "OpenSSL",
    "cryptography",
    "service_identity",
    "sockd.plan.certificates",
    "sockd.plan.pem",
    "sockd.transports.tls",
}
NO_NETWORK = NO_TLS | {"asyncio", "ssl", "twisted", "zope", "sockd.daemon", "sockd.tree", "sockd.tap"}
NO_FILE = NO_NETWORK | {"importlib.metadata", "pydantic", "yaml", "sockd.plan.plan"}
NO_CLIENT = {"click", "sockd.cli.main", "sockd.cli"}
NO_PLUGINS = {"twisted.conch", "twisted.plugins", "twisted.trial", "twisted.words", "unittest"}

FILE = """\
endpoints:
  echo: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0', 'unix://e', 'unixgram://f'], protocol: echo}
  chat: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0'], protocol: chat}
  log: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0'], protocol: line-log, options: {path: app.log}}
"""
COMMAND = "from sockd.cli.main import main as run\n"
TWISTD = "from twisted.scripts.twistd import run\n"
# What is to be served has been opened, and so loaded, when the reactor is to run.
DAEMON = """\
from twisted.application import app
app.runReactorWithLogging = lambda *_: None
run()
"""


def loaded(directory: Path, program: str, *words: str, **environ: str) -> set[str]:
    """The modules that a program has loaded at its end, and the packages that they are in."""
    say = "print(*sys.modules, file=err)"
    code = f"import atexit, sys\nerr = sys.__stderr__\natexit.register(lambda: {say})\n{program}"
    # What measures the tests' branches has modules of its own.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    here = {name: str(directory) for name in ("RUNTIME_DIRECTORY", "LOGS_DIRECTORY")}
    result = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=directory,
        env={**unmeasured, **here, **environ},
        capture_output=True,
        check=False,
        timeout=60,
    )
    return set(result.stderr.decode().splitlines()[-1].split())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the file is."""
    (tmp_path / "my.yaml").write_text(FILE)
    return tmp_path


def test_check_needs_no_network(directory: Path) -> None:
    """Looking at a file loads nothing of Twisted, nor how a protocol runs."""
    modules = loaded(directory, COMMAND + "run()", "check", "-c", "my.yaml")
    assert "sockd.protocols.chat.specification" in modules
    unused = {"sockd.protocols.chat.stream", "sockd.protocols.factory", "sockd.upgrade"}
    assert modules & (NO_NETWORK | unused) == set()


@pytest.mark.parametrize("words", [["--help"], ["status", "--json"], ["reload"], ["kick", "1"]])
def test_clients_read_no_file(words: list[str], directory: Path) -> None:
    """Asking a daemon needs neither what runs it nor what reads its file."""
    modules = loaded(directory, COMMAND + "run()", *words)
    assert "sockd.cli.status" in modules
    assert modules & NO_FILE == set()


def test_completion_reads_no_file(directory: Path) -> None:
    """What a shell completes comes while somebody waits with a finger on a key."""
    asked = {"_SOCKD_COMPLETE": "bash_complete", "COMP_WORDS": "sockd suspend e", "COMP_CWORD": "2"}
    modules = loaded(directory, COMMAND + "run()", **asked)
    assert "sockd.cli.control" in modules
    assert modules & NO_FILE == set()


def test_no_tls_without_tls_addresses(directory: Path) -> None:
    """A daemon whose file has no `tls` loads nothing that reads certificates, nor what commands need."""
    words = ("-n", "--pidfile=", "sockd", "-c", "my.yaml")
    modules = loaded(directory, TWISTD + DAEMON, *words)
    assert {"sockd.daemon", "sockd.protocols.chat.stream", "sockd.protocols.line_log.stream"} <= modules
    assert modules & (NO_TLS | NO_CLIENT) == set()


def test_run_loads_no_plugins(directory: Path) -> None:
    """`sockd run` is for sockd alone; there are dozens of plugins in Twisted, and others may be broken."""
    modules = loaded(directory, COMMAND + DAEMON, "run", "-c", "my.yaml")
    assert "sockd.protocols.chat.stream" in modules
    assert modules & (NO_TLS | NO_PLUGINS) == set()
