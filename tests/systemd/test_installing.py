"""docs/systemd.md, word for word: its commands install the service, and open its sandbox."""

import re
from collections.abc import Iterator

import pytest

from tests.end_to_end.harness import ROOT
from tests.systemd.harness import Machine
from tests.systemd.service import Service, install_units

PAGE = (ROOT / "docs" / "systemd.md").read_text()
# They need a network; the machine has what they make.
ELSEWHERE = ("python3 -m venv /opt/sockd", "/opt/sockd/bin/pip install .")
TO_LOGS = """
endpoints:
  log: {listen: 'unix://log.sock', protocol: line-log, options: {path: /srv/logs/app.log}}
"""
FOR_A_GROUP = """
daemon: {control_group: adm}
endpoints: {echo: {listen: {address: 'unix://echo.sock', socket: {group: adm}}, protocol: echo}}
"""
CONNECT = "import socket; socket.socket(socket.AF_UNIX).connect('/run/sockd/echo.sock')"


def commands(heading: str, number: int = 0) -> list[str]:
    """The commands of a section's indented blocks."""
    section = re.split(rf"^#+ {heading}\n", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^\n((?:    .*\n)+)", section, re.MULTILINE)
    return [line.strip() for line in blocks[number].splitlines()]


def shell(machine: Machine, lines: list[str]) -> str:
    output: str = machine.run("sh", "-exc", "\n".join(lines)).stdout
    return output


@pytest.fixture
def bare(service: Service) -> Iterator[Service]:
    """A machine without our units; what a wheel installs is in /opt/sockd/share/sockd."""
    machine = service.machine
    units = "/etc/systemd/system/sockd*.service /etc/systemd/system/*.socket"
    shell(machine, ["mkdir -p /opt/sockd/share/sockd", f"rm {units}", "systemctl daemon-reload"])
    for name in ("config", "systemd"):
        for path in (ROOT / name).iterdir():
            machine.write(f"/opt/sockd/share/sockd/{name}/{path.name}", path.read_text())
    yield service
    machine.systemctl(
        "disable", "--now", "sockd.service", "sockd@web.service", "sockd-web.socket", check=False
    )
    shell(machine, ["rm -rf /etc/sockd /etc/logrotate.d/sockd /usr/local/bin/sockd", "mkdir /etc/sockd"])
    install_units(machine)


def test_from_nothing(bare: Service) -> None:
    """The commands in their order; then the example is served, and `sockd status` shows it."""
    lines = commands("Install")
    assert lines[-1] == "systemctl enable --now sockd"
    assert set(ELSEWHERE) <= set(lines)
    shell(bare.machine, [line for line in lines if line not in ELSEWHERE])
    assert bare.echoes("tcp://127.0.0.1:7007")
    assert bare.show("StatusText") == "3 endpoints, 12 listeners, 0 connections"
    assert "tcp://127.0.0.1:7070" in bare.machine.run("/usr/local/bin/sockd", "status").stdout
    assert bare.machine.systemctl("is-enabled", "sockd").stdout == "enabled\n"
    assert bare.logged(4) == []


def test_an_instance(bare: Service) -> None:
    """As the page has it, `sockd status` included."""
    shell(bare.machine, commands("Install")[3:-1])
    shell(bare.machine, ["cp /etc/sockd/sockd.yaml /etc/sockd/web.yaml"])
    assert "/run/sockd-web/echo.sock" in shell(bare.machine, commands("Several instances"))


def test_socket_activation(bare: Service) -> None:
    """The example is copied and enabled; its first client is served."""
    shell(bare.machine, commands("Install")[3:])
    (file,) = re.findall(r"^```yaml\n(endpoints:\n  web:.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    bare.write(file)
    shell(bare.machine, commands("Sockets that systemd opens"))
    assert bare.show("ActiveState") == "inactive"
    assert bare.echoes("tcp://127.0.0.1:8007")


def test_logs_elsewhere(service: Service) -> None:
    """A directory that a drop-in opens; without it, the endpoint is held and says why."""
    service.machine.run("mkdir", "-p", "/srv/logs")
    service.start(TO_LOGS)
    assert service.says("/srv/logs/app.log") == 4
    try:
        shell(service.machine, commands("What the sandbox forbids, and how to allow it"))
        with service.connect("unix:///run/sockd/log.sock") as one:
            one.sendall(b"hello\n")
        service.stop()
        assert service.machine.run("cat", "/srv/logs/app.log").stdout.endswith(" hello\n")
    finally:
        shell(service.machine, ["rm -f /etc/systemd/system/sockd.service.d/logs.conf"])
        shell(service.machine, ["groupdel sockd-logs || true", "systemctl daemon-reload"])


def test_a_group_of_its_own(service: Service) -> None:
    """With SupplementaryGroups=, adm may use a socket and the sockd command, and others may not."""
    service.drop_in("[Service]\nSupplementaryGroups=adm\n")
    service.start(FOR_A_GROUP)
    other = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
    member = ("setpriv", "--reuid", "12345", "--regid", "12345", "--groups", "adm")
    for command in (("/opt/sockd/bin/python", "-c", CONNECT), ("/opt/sockd/bin/sockd", "status")):
        service.machine.run(*member, *command)
        assert service.machine.run(*other, *command, check=False).returncode != 0


def test_rotated_by_logrotate(service: Service) -> None:
    """The shipped rules move the file below /var/log/private and sockd writes to a new one."""
    if service.machine.run("which", "logrotate", check=False).returncode:
        pytest.skip("logrotate is not installed (see .ci/run)")
    text = (ROOT / "systemd" / "logrotate.example").read_text()
    service.machine.write("/etc/logrotate.d/sockd", text)
    service.start(TO_LOGS.replace("/srv/logs/", ""))
    with service.connect("unix:///run/sockd/log.sock") as one:
        for line in ("first", "second"):
            one.sendall(f"{line}\n".encode())
            seen = ""
            while line not in seen:
                seen = service.machine.run("cat", "/var/log/sockd/app.log", check=False).stdout
            service.machine.run("logrotate", "-f", "/etc/logrotate.d/sockd")
            # The rules don't wait for the signal to be handled; lines that come first go to the moved file.
            while service.machine.run("test", "-e", "/var/log/sockd/app.log", check=False).returncode:
                pass
    service.stop()
    files = service.machine.run("sh", "-c", "cd /var/log/sockd && zcat -f app.log.2* app.log.1*").stdout
    assert [line.split()[-1] for line in files.splitlines()] == ["first", "second"]
