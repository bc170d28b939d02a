"""Sockets that systemd opened: TCP, UDP, Unix stream and Unix datagram, all by one name."""

import stat
from collections.abc import Iterator

import pytest

from tests.systemd.service import UNITS, Service

FILE = "endpoints: {web: {listen: 'systemd://web', protocol: echo}}\n"
ALL = """
[Socket]
ListenDatagram=127.0.0.1:8007
ListenStream=/run/sockd-web.sock
ListenDatagram=/run/sockd-web-dgram.sock
SocketMode=0640
"""
DATAGRAMS = ("udp://127.0.0.1:8007", "unixgram:///run/sockd-web-dgram.sock")
STREAMS = ("tcp://127.0.0.1:8007", "unix:///run/sockd-web.sock")


@pytest.fixture
def web(service: Service) -> Iterator[Service]:
    """The shipped example, with the kinds that it has in comments; the sockets are there, sockd isn't."""
    service.drop_in(ALL, "sockd-web.socket")
    service.write(FILE)
    service.machine.systemctl("start", "sockd-web.socket")
    yield service
    service.machine.systemctl("stop", "sockd.service", "sockd-web.socket")
    for name in ("sockd-web.sock", "sockd-web-dgram.sock"):
        service.machine.path(f"/run/{name}").unlink(missing_ok=True)


@pytest.mark.parametrize("address", STREAMS)
def test_the_first_client_starts_it(web: Service, address: str) -> None:
    """The connection that woke it is served."""
    assert web.show("ActiveState") == "inactive"
    assert web.echoes(address)
    assert web.show("ActiveState") == "active"


def test_the_first_datagram_starts_it(web: Service) -> None:
    """The datagram that woke it is answered."""
    assert web.echoes("udp://127.0.0.1:8007")
    assert web.show("ActiveState") == "active"


def test_all_sockets_of_the_name_are_served(web: Service) -> None:
    """Four kinds, one endpoint, one line in the file."""
    web.start()
    assert all(web.echoes(address) for address in STREAMS)
    assert all(web.echoes(address) for address in DATAGRAMS)
    assert web.show("StatusText") == "1 endpoint, 4 listeners, 0 connections"


def test_they_stay_as_systemd_made_them(web: Service) -> None:
    """Neither mode, owner nor file changes, at the start, at the stop, and at the next start."""
    path = web.machine.path("/run/sockd-web.sock")

    def looks() -> tuple[int, int, int, int]:
        found = path.stat()
        return found.st_ino, found.st_mode, found.st_uid, found.st_gid

    before = looks()
    assert stat.S_IMODE(before[1]) == 0o640
    web.start()
    assert looks() == before
    web.stop()
    assert looks() == before
    assert all(web.echoes(address) for address in STREAMS)  # which starts it again
    assert all(web.echoes(address) for address in DATAGRAMS)
    assert looks() == before


def test_a_restart_and_a_crash_keep_them(web: Service) -> None:
    """They come from the .socket unit each time, and only once."""
    web.drop_in("[Service]\nRestartSec=100ms\n")
    web.start()
    web.machine.systemctl("restart", "sockd")
    assert all(web.echoes(address) for address in STREAMS)
    web.machine.systemctl("kill", "--signal=KILL", "--kill-whom=main", "sockd")
    web.says("Scheduled restart job")
    assert all(web.echoes(address) for address in STREAMS)
    assert all(web.echoes(address) for address in DATAGRAMS)
    assert web.show("StatusText") == "1 endpoint, 4 listeners, 0 connections"


def test_sockets_that_nobody_claims_are_told(web: Service) -> None:
    """A name that the file doesn't have is a warning, with the name."""
    web.start("endpoints: {echo: {listen: 'tcp://127.0.0.1:7007', protocol: echo}}\n")
    assert web.says("no endpoint listens on systemd://web") == 4


def test_a_name_that_systemd_does_not_give(service: Service) -> None:
    """The listener backs off and says what is missing."""
    service.start("endpoints: {web: {listen: 'systemd://web', protocol: echo}}\n")
    assert service.says("systemd passed no socket named web") == 4


def test_the_example_is_enabled_as_it_is(service: Service) -> None:
    """systemd/sockd-web.socket, unchanged: port 8007 of this machine."""
    assert "\nListenStream=127.0.0.1:8007\n" in (UNITS / "sockd-web.socket").read_text()
    service.write(FILE)
    service.machine.systemctl("start", "sockd-web.socket")
    try:
        assert service.echoes("tcp://127.0.0.1:8007")
    finally:
        service.machine.systemctl("stop", "sockd.service", "sockd-web.socket")
