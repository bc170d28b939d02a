"""`sockd upgrade` of the service: another program in the same process, in the same sandbox."""

from tests.systemd.service import Service

FILE = """
endpoints:
  echo: {listen: ['tcp://127.0.0.1:80', 'unix://echo.sock'], protocol: echo}
  attempt: {listen: 'tcp://127.0.0.1:7001', protocol: attempt}
"""
QUICK = "[Service]\nRestartSec=100ms\n"


def test_an_upgrade_keeps_the_process_and_its_connections(service: Service) -> None:
    """systemd sees the same main process, ready again; a client notices nothing."""
    service.start(FILE)
    pid, stored = service.pid, service.show("NFileDescriptorStore")
    with service.connect("tcp://127.0.0.1:80") as one:
        one.sendall(b"before")
        assert one.recv(100) == b"before"
        service.sockd("upgrade")
        one.sendall(b"after")
        assert one.recv(100) == b"after"
        assert service.show("StatusText") == "2 endpoints, 3 listeners, 1 connection"
    assert service.echoes("unix:///run/sockd/echo.sock")
    assert (service.pid, service.show("ActiveState"), service.show("NRestarts")) == (pid, "active", "0")
    assert service.show("NFileDescriptorStore") == stored
    assert service.logged(4) == []


def test_the_sandbox_survives(service: Service) -> None:
    """The new program may not do more than the old one, and still open ports below 1024."""
    service.start(FILE)
    before = [service.status(field) for field in ("CapEff", "CapAmb", "NoNewPrivs", "Seccomp", "Uid")]
    service.sockd("upgrade")
    assert [service.status(field) for field in ("CapEff", "CapAmb", "NoNewPrivs", "Seccomp", "Uid")] == before
    service.write(FILE.replace(":80", ":81"))
    service.machine.systemctl("reload", "sockd")
    assert service.echoes("tcp://127.0.0.1:81")


def test_by_signal(service: Service) -> None:
    """`systemctl kill --signal=USR2` is the way without a control socket."""
    service.start(FILE)
    pid = service.pid
    service.machine.systemctl("kill", "--signal=USR2", "--kill-whom=main", "sockd")
    service.says("upgraded from")
    assert service.pid == pid
    assert service.echoes("tcp://127.0.0.1:80")


def test_a_crash_after_an_upgrade_keeps_the_sockets(service: Service) -> None:
    """What the old program stored, the next one gets."""
    service.drop_in(QUICK)
    service.start(FILE)
    service.sockd("upgrade")
    service.machine.systemctl("kill", "--signal=KILL", "--kill-whom=main", "sockd")
    service.says("Scheduled restart job")
    assert service.echoes("tcp://127.0.0.1:80")
    assert service.echoes("unix:///run/sockd/echo.sock")


def test_the_watchdog_is_fed_afterwards(service: Service) -> None:
    """The new program goes on where the old one stopped, and is killed in its turn when it hangs."""
    service.drop_in(f"{QUICK}WatchdogSec=1s\nTimeoutAbortSec=100ms\n")
    service.start(FILE)
    service.sockd("upgrade")
    pid = service.pid
    fed: set[str] = set()
    while len(fed) < 5:
        fed.add(service.show("WatchdogTimestampMonotonic"))
    assert service.pid == pid
    with service.connect("tcp://127.0.0.1:7001") as one:
        one.sendall(b"while True: pass\n#end\n")
        service.says("Watchdog timeout")
    assert service.echoes("tcp://127.0.0.1:80")
