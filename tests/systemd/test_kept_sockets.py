"""Listening sockets that outlive the daemon: through restarts, crashes and a watchdog that bit."""

from tests.systemd.service import Service

FILE = """
endpoints:
  attempt: {listen: 'tcp://127.0.0.1:7001', protocol: attempt}
  echo:
    listen: ['tcp://127.0.0.1:7007', 'udp://127.0.0.1:7007', 'unix://echo.sock', 'unixgram://gram.sock', 'unix://@echo']
    protocol: echo
"""
STREAMS = ("tcp://127.0.0.1:7007", "unix:///run/sockd/echo.sock")
DATAGRAMS = ("udp://127.0.0.1:7007", "unixgram:///run/sockd/gram.sock")
QUICK = "[Service]\nRestartSec=100ms\n"


def inodes(service: Service) -> set[str]:
    """Of the listening sockets of FILE: they tell a kept one from a new one at the same address."""
    tables = service.machine.run("cat", "/proc/net/tcp", "/proc/net/udp", "/proc/net/unix").stdout
    found = set()
    for line in tables.splitlines():
        fields = line.split()
        if "sl" in fields[:1] or "Num" in fields[:1]:
            continue
        if line.rstrip().endswith(("/run/sockd/echo.sock", "/run/sockd/gram.sock", "@echo")):
            found.add(fields[6])
        elif fields[1].endswith((":1B5F", ":1B59")) and fields[2].endswith(":0000"):
            found.add(fields[9])
    return found


def serves(service: Service) -> bool:
    return all(service.echoes(address) for address in (*STREAMS, *DATAGRAMS))


def test_a_restart_keeps_the_sockets(service: Service) -> None:
    """After `systemctl restart` a new process serves the very same sockets."""
    service.start(FILE)
    before, pid = inodes(service), service.pid
    assert len(before) == 6
    service.machine.systemctl("restart", "sockd")
    assert service.pid != pid
    assert inodes(service) == before
    assert serves(service)


def test_a_client_that_comes_during_a_restart_waits(service: Service) -> None:
    """Nobody is refused while no process is there: the connection is in the backlog, and served later."""
    service.drop_in("[Service]\nExecStartPre=/bin/sh -c 'while [ ! -e /run/sockd/go ]; do :; done'\n")
    service.machine.run("mkdir", "-p", "/run/sockd")
    service.write(FILE)
    service.machine.systemctl("start", "--no-block", "sockd")
    service.journal.says("sockd-runtime@sockd.service", "Finished")
    go = service.machine.path("/run/sockd/go")
    go.touch()
    service.says("Started sockd")
    go.unlink()
    service.machine.systemctl("restart", "--no-block", "sockd")
    service.says("Stopped sockd")
    connections = [service.connect(address) for address in STREAMS]
    assert service.show("ActiveState") == "activating"
    go.touch()
    for one in connections:
        one.sendall(b"hello")
        assert one.recv(5) == b"hello"
        one.close()


def test_a_crash_keeps_the_sockets(service: Service) -> None:
    """SIGKILL: clients that come before systemd has started it again are served by the next."""
    service.drop_in(QUICK)
    service.start(FILE)
    before = inodes(service)
    service.machine.systemctl("kill", "--signal=KILL", "--kill-whom=main", "sockd")
    service.says("Scheduled restart job")
    assert all(service.echoes(address) for address in STREAMS)
    assert inodes(service) == before
    assert serves(service)
    assert service.show("NRestarts") == "1"


def test_a_watchdog_that_bites_keeps_the_sockets(service: Service) -> None:
    """A reactor that hangs is killed and started again; a client that connects in between is served then."""
    service.drop_in(f"{QUICK}WatchdogSec=700ms\nTimeoutAbortSec=100ms\n")
    service.start(FILE)
    before = inodes(service)
    with service.connect("tcp://127.0.0.1:7001") as one:
        one.sendall(b"while True: pass\n#end\n")
        service.says("Watchdog timeout")
    assert all(service.echoes(address) for address in STREAMS)
    assert inodes(service) == before
    assert service.show("NRestarts") == "1"
    assert [one for one in service.logged() if "'watchdog'" in one]


def test_a_daemon_at_work_feeds_the_watchdog(service: Service) -> None:
    """Longer than the watchdog's time without a bite."""
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.start(FILE)
    pid = service.pid
    fed: set[str] = set()
    while len(fed) < 6:  # times, each a third of the watchdog's after the one before
        fed.add(service.show("WatchdogTimestampMonotonic"))
    assert service.pid == pid
    assert service.show("NRestarts") == "0"


def test_a_stop_gives_the_sockets_back(service: Service) -> None:
    """Nothing listens after `systemctl stop`, and a later start opens anew."""
    service.start(FILE)
    before = inodes(service)
    service.stop()
    assert inodes(service) == set()
    service.start()
    assert not inodes(service) & before
    assert serves(service)


def test_an_address_that_left_the_file_is_not_kept(service: Service) -> None:
    """A restart with a smaller file closes what nobody wants any more."""
    service.start(FILE)
    service.write(FILE.replace("'udp://127.0.0.1:7007', ", "").replace(", 'unix://@echo'", ""))
    service.machine.systemctl("restart", "sockd")
    assert len(inodes(service)) == 4
    assert service.echoes("tcp://127.0.0.1:7007")


def test_more_listeners_than_the_unit_keeps(service: Service) -> None:
    """A warning says so; the daemon serves all of them."""
    service.drop_in("[Service]\nFileDescriptorStoreMax=2\nEnvironment=FDSTORE=2\n")
    service.start(FILE)
    assert service.says("FileDescriptorStoreMax") == 4
    assert serves(service)
