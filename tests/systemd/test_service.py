"""sockd.service as an administrator lives with it: started, looked at, stopped, wrong, without its port."""

import itertools
import re
import time
from collections.abc import Callable

from tests.systemd.service import Service

ECHO = """
endpoints:
  echo:
    listen: ['tcp://127.0.0.1:7007', 'udp://127.0.0.1:7007', 'unix://echo.sock', 'unixgram://gram.sock']
    protocol: echo
"""
DRAINING = "daemon: {drain: 20s}\nendpoints: {echo: {listen: 'tcp://127.0.0.1:7007', protocol: echo}}\n"
REQUIRED = """
endpoints:
  echo:
    listen: tcp://127.0.0.1:7007
    protocol: echo
    required: {give_up_after: 300ms}
    restart: {delay: 100ms, max_delay: 100ms}
"""

START_TIMEOUT = 10  # seconds; within them a busy machine starts the program, which then asks for more


def test_start_returns_when_it_serves(service: Service) -> None:
    """After `systemctl start` every address answers, and the unit is active."""
    service.start(ECHO)
    assert service.show("ActiveState") == "active"
    assert service.echoes("tcp://127.0.0.1:7007")
    assert service.echoes("udp://127.0.0.1:7007")
    assert service.echoes("unix:///run/sockd/echo.sock")
    assert service.echoes("unixgram:///run/sockd/gram.sock")


def test_status_text(service: Service) -> None:
    """`systemctl status` says in words what runs."""
    service.start(ECHO)
    assert service.show("StatusText") == "1 endpoint, 4 listeners, 0 connections"


def test_a_listener_that_backs_off_is_in_the_status_text(service: Service) -> None:
    """It is ready all the same, and says what isn't as it should be."""
    with service.taken(7007):
        service.start(ECHO)
        assert service.show("StatusText") == "1 endpoint, 4 listeners, 1 backing off, 0 connections"
        assert service.echoes("udp://127.0.0.1:7007")


def test_enabled_it_starts_with_the_machine(service: Service) -> None:
    """`systemctl enable` hangs it below multi-user.target."""
    service.write(ECHO)
    service.machine.systemctl("enable", "sockd")
    try:
        service.machine.systemctl("start", "multi-user.target")
        service.says("Started sockd")
        assert service.echoes("tcp://127.0.0.1:7007")
    finally:
        service.machine.systemctl("disable", "sockd")


def test_it_runs_as_nobody_in_particular(service: Service) -> None:
    """A user that exists while it runs, without root's groups."""
    service.start(ECHO)
    uid, gid = service.status("Uid").split()[0], service.status("Gid").split()[0]
    assert 61184 <= int(uid) <= 65519  # what systemd gives to DynamicUser=
    assert service.status("Groups").split() in ([], [gid])
    assert service.machine.path("/run/sockd/echo.sock").stat().st_uid == int(uid)


def test_unix_sockets_can_be_reached_by_others(service: Service) -> None:
    """The way to a socket of mode 0666 is open for every user."""
    service.start("""
endpoints:
  echo: {listen: {address: 'unix://open.sock', socket: {mode: 0666}}, protocol: echo}
""")
    client = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/sockd/open.sock')"
    service.machine.run(
        "setpriv", "--reuid", "12345", "--clear-groups", "/opt/sockd/bin/python", "-c", client
    )


def test_stop_leaves_nothing(service: Service) -> None:
    """Status 0, and the directory of the sockets is gone."""
    service.start(ECHO)
    service.stop()
    assert service.show("ActiveState") == "inactive"
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    service.journal.says("sockd-runtime@sockd.service", "Stopped")
    assert not service.machine.path("/run/sockd").exists()


def test_stop_drains(service: Service) -> None:
    """The stop waits for a connection that has yet to leave, and ends with status 0 once it did."""
    service.start(DRAINING)
    with service.connect("tcp://127.0.0.1:7007") as one:
        one.sendall(b"before")
        assert one.recv(100) == b"before"
        service.machine.systemctl("stop", "--no-block", "sockd")
        service.says("stopping: 1 connection")
        assert service.show("SubState") == "stop-sigterm"
        assert one.recv(100) == b""
    service.says("Stopped sockd")
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")


def test_a_drain_may_take_longer_than_the_unit_allows(service: Service) -> None:
    """The daemon asks for the time that its file gives to connections, and gets it."""
    service.drop_in("[Service]\nTimeoutStopSec=1s\n")
    service.start(
        "daemon: {drain: 2s}\nendpoints: {echo: {listen: 'tcp://127.0.0.1:7007', protocol: echo}}\n"
    )
    with service.connect("tcp://127.0.0.1:7007"):
        service.stop()
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")


def test_a_wrong_file_is_not_tried_again(service: Service) -> None:
    """Status 78, each problem in the journal as an error, and no restart."""
    service.write("endpoints:\n  echo: {listen: 'tcp://127.0.0.1:70070', protocl: echo}\n")
    assert service.machine.systemctl("start", "sockd", check=False).returncode != 0
    assert service.show("ActiveState") == "failed"
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("78", "0")
    assert service.says("sockd.yaml:2:3: endpoints.echo: ") == 3
    lines = [one for one in service.logged(3) if one.startswith("/etc/sockd/sockd.yaml:2:")]
    assert len(lines) == 3
    assert not [line for line in service.logged() if "Traceback" in line]


def test_a_missing_file_is_one_line(service: Service) -> None:
    """There is nothing to serve before the administrator has written it."""
    assert service.machine.systemctl("start", "sockd", check=False).returncode != 0
    assert service.show("ExecMainStatus") == "78"
    assert service.says("/etc/sockd/sockd.yaml") == 3


def test_a_required_endpoint_gives_up(service: Service) -> None:
    """Status 69 where it never runs; systemd tries again, and it serves once the port is free."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    with service.taken(7007):
        service.write(REQUIRED)
        service.machine.systemctl("start", "--no-block", "sockd")
        service.says("required, and not running for 300ms")
        service.says("status=69/UNAVAILABLE")
        service.says("Scheduled restart job")
    service.says("Started sockd")
    assert service.echoes("tcp://127.0.0.1:7007")


def test_a_required_endpoint_that_is_late(service: Service) -> None:
    """The start waits for what is required, also for longer than the unit allows."""
    service.drop_in(f"[Service]\nTimeoutStartSec={START_TIMEOUT}s\n")
    with service.taken(7007):
        service.write("daemon: {log: {level: debug}}" + REQUIRED.replace("300ms", "60s"))
        service.machine.systemctl("start", "--no-block", "sockd")
        began = time.monotonic()
        for attempt in itertools.count(1):
            service.says("the address is in use", attempt)
            if time.monotonic() > began + 1.2 * START_TIMEOUT:
                break
        assert service.show("ActiveState") == "activating"
    service.says("Started sockd")
    assert service.echoes("tcp://127.0.0.1:7007")


def test_instances_live_side_by_side(service: Service, instance: Callable[[str], Service]) -> None:
    """Each has its file, its user, its sockets and its logs."""
    web = instance("web")
    service.start(ECHO)
    web.start(ECHO.replace("7007", "7008"))
    assert service.echoes("unix:///run/sockd/echo.sock")
    assert web.echoes("unix:///run/sockd-web/echo.sock")
    assert service.status("Uid") != web.status("Uid")
    service.stop()
    assert web.echoes("unix:///run/sockd-web/echo.sock")
    assert web.echoes("tcp://127.0.0.1:7008")


def test_line_log_writes_below_var_log(service: Service) -> None:
    """A relative path is in /var/log/sockd, which systemd made."""
    service.start(
        "endpoints: {log: {listen: 'unix://log.sock', protocol: line-log, options: {path: app.log}}}\n"
    )
    with service.connect("unix:///run/sockd/log.sock") as one:
        one.sendall(b"hello\n")
    service.stop()
    assert re.search(r" hello\n$", service.machine.run("cat", "/var/log/sockd/app.log").stdout)


def test_the_journal_has_the_levels(service: Service) -> None:
    """`journalctl -u sockd -p warning` of a day without incidents is empty; of a busy port it isn't."""
    service.start(ECHO)
    assert service.echoes("tcp://127.0.0.1:7007")
    service.stop()
    service.says("stopped")
    assert service.logged(4) == []
    with service.taken(7007):
        service.start()
        assert service.says("tcp://127.0.0.1:7007: the address is in use") == 4
    assert not [one for one in service.logged() if one.startswith("<")]
