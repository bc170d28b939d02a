"""twistd's own options work with sockd: identity, pid file, log file, umask, daemonizing, reopening."""

import grp
import os
import pwd
import select
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockd.process.pid_file import PidFile, PidFileError
from tests.end_to_end.conftest import Serve, write
from tests.end_to_end.harness import ROOT, SCRIPTS, SOCKD, events, receive
from tests.end_to_end.programs import BOUND, Process, run

ECHO = "endpoints: {echo: {listen: 'tcp://127.0.0.1:0', protocol: echo}}\n"
FOREGROUND = (str(SCRIPTS / "twistd"), "-n")
IMPORTS = "import sockd.tap, twisted.internet.reactor"
TAIL = "/usr/bin/tail"
Door = tuple[tuple[str, ...], dict[str, str]]
Follow = Callable[[Path], Process]

root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


@pytest.fixture
def of_nobody() -> Door:
    """A twistd, and its environment, that the user nobody may enter: by our Python or by the system's."""
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])}
    for python in (sys.executable, "/usr/bin/python3"):
        # -S: without the system's own packages, which are others than ours
        try:
            one = run([python, "-S", "-c", IMPORTS], environment, user="nobody", cwd="/", extra_groups=[])
        except OSError:
            continue
        if one.returncode == 0:
            return (python, "-S", str(SCRIPTS / "twistd"), "-n", "--pidfile="), environment
    pytest.skip("the user nobody can't enter the checkout or a Python for it: run the tests where it may")


@pytest.fixture
def follow() -> Iterator[Callable[[Path], Process]]:
    """Shows a file as it grows, and again from its beginning when it is replaced."""
    tails: list[Process] = []

    def start(path: Path) -> Process:
        tails.append(Process([TAIL, "-n", "+1", "-F", path]))
        return tails[-1]

    yield start
    for one in tails:
        one.end()


@root
def test_ports_below_1024_and_a_lesser_user(serve: Serve, of_nobody: Door) -> None:
    """--uid and --gid: a privileged port is bound first, then the user nobody serves it."""
    port = free_privileged_port()
    daemon = serve(
        f"endpoints: {{echo: {{listen: 'tcp://127.0.0.1:{port}', protocol: echo}}}}\n",
        "--uid=nobody",
        "--gid=nogroup",
        door=of_nobody[0],
        environment=of_nobody[1],
    )
    with socket.create_connection(("127.0.0.1", port), BOUND) as one:
        one.sendall(b"hello")
        assert receive(one, 5) == b"hello"
    assert set(daemon.status("Uid").split()) == {str(nobody().pw_uid)}
    assert set(daemon.status("Gid").split()) == {str(grp.getgrnam("nogroup").gr_gid)}
    assert b"running as root" not in daemon.output
    told = run([*SOCKD, "status", "--control", daemon.runtime / "control.sock"]).stdout
    assert f"{port}: open, but couldn't be opened again: ports below 1024 need root" in told
    assert daemon.stop() == 0


def free_privileged_port() -> int:
    for port in range(1023, 600, -1):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


@root
def test_a_file_that_the_lesser_user_can_not_read(serve: Serve, directory: Path, of_nobody: Door) -> None:
    """The start is refused, in one line, rather than the first reload."""
    (directory / "more.yaml").touch(mode=0o600)
    daemon = serve(
        f"{ECHO}include: more.yaml\n",
        "--uid=nobody",
        door=of_nobody[0],
        environment=of_nobody[1],
        wait=False,
    )
    assert daemon.wait() == 77
    assert daemon.text == (
        f"{directory}/more.yaml: the file can't be read: Permission denied"
        " (as the user nobody, which sockd is to become)\n"
    )


@root
def test_a_user_who_is_not_there(serve: Serve) -> None:
    """One line says so."""
    daemon = serve(ECHO, "--uid=4242424", wait=False)
    assert (daemon.wait(), daemon.text) == (77, "--uid=4242424: there is no such user\n")


@root
def test_root_that_stays_root(serve: Serve) -> None:
    """The log warns of it, once."""
    daemon = serve(ECHO)
    assert daemon.event("root")["level"] == "warn"
    assert daemon.stop() == 0
    assert daemon.output.count(b'"event": "root"') == 1


@root
def test_files_of_a_lesser_user(serve: Serve, directory: Path, of_nobody: Door) -> None:
    """With --uid, line-log's file belongs to that user, and a Unix socket is removed at stop all the same."""
    for name in ("run", "log"):
        (directory / name).mkdir()
        os.chown(directory / name, nobody().pw_uid, -1)
    daemon = serve(
        "endpoints: {log: {listen: ['unix://log.sock'], protocol: line-log, options: {path: app.log}}}\n",
        "--uid=nobody",
        "--gid=nogroup",
        door=of_nobody[0],
        environment=of_nobody[1],
    )
    with daemon.connect("log", "unix") as one:
        one.sendall(b"hello\n")
    assert daemon.stop() == 0
    assert (directory / "log" / "app.log").read_text().endswith(" hello\n")
    assert (directory / "log" / "app.log").stat().st_uid == nobody().pw_uid
    assert list((directory / "run").iterdir()) == []


@root
def test_upgraded_where_the_lesser_user_may_not_be(serve: Serve, directory: Path, of_nobody: Door) -> None:
    """Root started it in its own home: the new program can't be there, and needn't."""
    (directory / "home").mkdir(mode=0o700)
    daemon = serve(
        ECHO,
        "--uid=nobody",
        f"--rundir={directory}/home",
        f"--pidfile={directory}/sockd.pid",
        door=of_nobody[0],
        environment=of_nobody[1],
    )
    assert run([*SOCKD, "upgrade", "--control", daemon.runtime / "control.sock"]).returncode == 0
    with pytest.raises(PidFileError, match=f"a daemon runs already, as process {daemon.pid} "):
        PidFile.take(directory / "sockd.pid", 0o644, None)  # the lock has gone on with the process
    assert daemon.stop() == 0
    assert '"event": "upgraded"' in daemon.text


@root
def test_what_a_lesser_user_prepares(serve: Serve, directory: Path, of_nobody: Door, follow: Follow) -> None:
    """Its log and pid file are its own; a link that it makes later leads only where it may go itself."""
    for name in ("run", "log"):
        (directory / name).mkdir()
        os.chown(directory / name, nobody().pw_uid, -1)
    secret = directory / "secret"
    secret.touch(mode=0o600)
    log, pid = directory / "log" / "sockd.log", directory / "run" / "sockd.pid"
    pid.write_text(str(os.getpid()))  # as if a program had the pid now that a daemon had before
    daemon = serve(
        ECHO,
        "--uid=nobody",
        f"--logfile={log}",
        f"--pidfile={pid}",
        door=of_nobody[0],
        environment=of_nobody[1],
        wait=False,
    )
    tail = follow(log)
    tail.expect('"serving"')
    assert pid.read_text() == str(daemon.pid)
    assert {one.stat().st_uid for one in (log, pid)} == {nobody().pw_uid}
    log.unlink()
    log.symlink_to(secret)
    daemon.signal(signal.SIGUSR1)
    assert daemon.stop() == 0
    assert not pid.exists()
    assert (secret.stat().st_uid, secret.stat().st_size) == (0, 0)


def test_the_pid_file(serve: Serve, directory: Path) -> None:
    """--pidfile holds the pid while it runs and is gone afterwards."""
    pid = directory / "sockd.pid"
    daemon = serve(ECHO, f"--pidfile={pid}", door=FOREGROUND)
    assert pid.read_text() == str(daemon.pid)
    assert daemon.stop() == 0
    assert not pid.exists()


def test_without_a_pid_file(serve: Serve, directory: Path) -> None:
    """--pidfile= leaves none in the working directory."""
    daemon = serve(ECHO)
    assert daemon.stop() == 0
    assert not list(directory.glob("*.pid"))


def test_the_log_file_and_its_reopening(serve: Serve, directory: Path, follow: Follow) -> None:
    """--logfile gets the log; moved away and SIGUSR1 sent, it is opened again, as logrotate wants it."""
    log = directory / "sockd.log"
    daemon = serve(ECHO, f"--logfile={log}", wait=False)
    tail = follow(log)
    tail.expect('"serving"')
    log.rename(directory / "sockd.log.1")
    daemon.signal(signal.SIGUSR1)
    tail.expect(b"has appeared|has been replaced|following new file")
    assert daemon.stop() == 0
    assert daemon.output == b""
    before = events((directory / "sockd.log.1").read_bytes())
    after = events(log.read_bytes())
    assert "serving" in {one.get("event") for one in before}
    assert after
    assert "serving" not in {one.get("event") for one in after}


@pytest.mark.parametrize("umask", ["077", "0"])
def test_the_umask(serve: Serve, umask: str) -> None:
    """--umask is the process's; a Unix socket has the mode that the file says regardless."""
    daemon = serve(
        "endpoints: {echo: {listen: {address: 'unix://echo.sock', socket: {mode: 0606}}, protocol: echo}}\n",
        f"--umask={umask}",
    )
    path = daemon.runtime / "echo.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o606
    assert int(daemon.status("Umask"), 8) == int(umask, 8)
    assert daemon.stop() == 0


def test_daemonizing(directory: Path, follow: Follow) -> None:
    """Without -n it goes to the background, serves there, and stops by the pid file."""
    write(directory, ECHO)
    log, pid = directory / "sockd.log", directory / "sockd.pid"
    one = subprocess.run(
        [FOREGROUND[0], f"--pidfile={pid}", f"--logfile={log}", "sockd", "-c", "sockd.yaml"],
        cwd=directory,
        env={**os.environ, "RUNTIME_DIRECTORY": str(directory), "LOGS_DIRECTORY": str(directory)},
        timeout=BOUND,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (one.returncode, one.stdout, one.stderr) == (0, "", "")
    tail = follow(log)
    tail.expect('"serving"')
    number = int(pid.read_text())
    gone = os.pidfd_open(number)
    try:
        address = next(one for one in events(log.read_bytes()) if one.get("event") == "listening")["address"]
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), BOUND) as client:
            client.sendall(b"hello")
            assert receive(client, 5) == b"hello"
    finally:
        os.kill(number, signal.SIGTERM)
        wait_for_end(gone)
    assert not pid.exists()
    assert "Traceback" not in log.read_text()


def wait_for_end(pidfd: int) -> None:
    """A pidfd becomes readable when its process ends."""
    try:
        assert select.select([pidfd], [], [], BOUND)[0]
    finally:
        os.close(pidfd)


def test_a_wrong_file_does_not_daemonize(directory: Path) -> None:
    """The caller of a twistd that would daemonize learns of a wrong file by its status."""
    write(directory, "endpoints: {echo: {listen: 'tcp://127.0.0.1:70070', protocol: echo}}\n")
    one = subprocess.run(
        [FOREGROUND[0], "--pidfile=sockd.pid", "--logfile=sockd.log", "sockd", "-c", "sockd.yaml"],
        cwd=directory,
        timeout=BOUND,
        capture_output=True,
        text=True,
        check=False,
    )
    assert one.returncode == 78
    assert one.stderr.startswith("sockd.yaml:2:28: ")
    assert not (directory / "sockd.pid").exists()
