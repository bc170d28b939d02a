"""`systemctl reload`: it returns when the reload is done, and fails where the file was refused."""

from tests.systemd.service import Service

FILE = "endpoints: {echo: {listen: ['tcp://127.0.0.1:%d', 'unix://echo.sock'], protocol: echo}}\n"


def test_reload_returns_when_it_is_done(service: Service) -> None:
    """The new address answers at once, the old one no more; the process and the others' connections stay."""
    service.start(FILE % 7007)
    pid = service.pid
    with service.connect("unix:///run/sockd/echo.sock") as one:
        service.write(FILE % 7008)
        service.machine.systemctl("reload", "sockd")
        assert service.echoes("tcp://127.0.0.1:7008")
        one.sendall(b"hello")
        assert one.recv(5) == b"hello"
    assert service.pid == pid
    assert service.show("ActiveState") == "active"


def test_a_refused_reload_fails(service: Service) -> None:
    """A wrong file: `systemctl reload` fails, the journal says why, what ran goes on."""
    service.start(FILE % 7007)
    service.write(FILE % 70070)
    assert service.machine.systemctl("reload", "sockd", check=False).returncode != 0
    assert service.show("ActiveState") == "active"
    assert service.says("endpoints.echo.listen[0]: port 70070") <= 4
    assert service.echoes("tcp://127.0.0.1:7007")


def test_a_reload_without_its_port_is_undone(service: Service) -> None:
    """An address in use: `systemctl reload` fails with its reason, and the old address answers."""
    service.start(FILE % 7007)
    with service.taken(7008):
        service.write(FILE % 7008)
        assert service.machine.systemctl("reload", "sockd", check=False).returncode != 0
    assert service.says("tcp://127.0.0.1:7008: the address is in use") <= 4
    assert service.echoes("tcp://127.0.0.1:7007")


def test_the_unit_is_reloading_meanwhile(service: Service) -> None:
    """SIGHUP, which nobody waits for: systemd sees RELOADING and READY, and the unit is active again."""
    service.start(FILE % 7007)
    pid = service.pid
    for port, outcome in ((70070, "reload refused"), (7008, "reloaded: 1 rebound")):
        service.write(FILE % port)
        service.machine.systemctl("kill", "--signal=HUP", "--kill-whom=main", "sockd")
        service.says(outcome)
    assert service.echoes("tcp://127.0.0.1:7008")
    assert (service.show("ActiveState"), service.pid) == ("active", pid)


def test_a_control_socket_that_is_elsewhere(service: Service) -> None:
    """`systemctl reload` finds it by the file; where it is off, or about to move, SIGHUP does the same."""
    service.start("daemon: {control: other.sock}\n" + FILE % 7007)
    for control, port in (("off", 7008), ("control.sock", 7009)):
        service.write(f"daemon: {{control: {control}}}\n" + FILE % port)
        service.machine.systemctl("reload", "sockd")
        service.says("reloaded: 1 rebound")
        assert service.echoes(f"tcp://127.0.0.1:{port}")
    assert "tcp://127.0.0.1:7009" in service.machine.run("/opt/sockd/bin/sockd", "status").stdout


def test_what_a_reload_opens_is_kept_and_what_it_closes_is_not(service: Service) -> None:
    """A crash after a reload: the new address comes back as the same socket, the old one doesn't."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    service.start(FILE % 7007)
    service.write(FILE % 7008)
    service.machine.systemctl("reload", "sockd")
    stored = service.show("NFileDescriptorStore")
    service.machine.systemctl("kill", "--signal=KILL", "--kill-whom=main", "sockd")
    service.says("Scheduled restart job")
    assert service.echoes("tcp://127.0.0.1:7008")
    assert service.show("NFileDescriptorStore") == stored


def test_the_sockd_command_finds_the_service(service: Service) -> None:
    """`sockd status`, `diff` and `reload` by root, without any option."""
    service.start(FILE % 7007)
    assert "tcp://127.0.0.1:7007" in service.machine.run("/opt/sockd/bin/sockd", "status").stdout
    service.write(FILE % 7008)
    assert "+" in service.machine.run("/opt/sockd/bin/sockd", "diff").stdout
    service.machine.run("/opt/sockd/bin/sockd", "reload")
    assert service.echoes("tcp://127.0.0.1:7008")


def test_without_the_service_it_is_one_line(service: Service) -> None:
    """Status 69 where nothing runs."""
    one = service.sockd("status", check=False)
    assert (one.returncode, one.stdout) == (69, "")
    assert len(one.stderr.splitlines()) == 1
