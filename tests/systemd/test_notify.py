"""What systemd hears: each message as sd_notify(3) has it, in order, and none of them ever waited for."""

import array
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger
from zope.interface import implementer

from sockd.systemd import notify as module
from sockd.systemd.notify import FIRST_RETRY, LAST_RETRY, STATUS_LIMIT, Notify, Watchdog, fd_store_size

LINES = 1000  # more than any system's net.unix.max_dgram_qlen


class Systemd:
    """The socket that systemd reads, whole messages at a time, each with the sockets that came with it."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(path)
        self.inodes: list[int] = []

    def heard(self) -> list[str]:
        messages: list[str] = []
        while True:
            try:
                text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return messages
            messages.append(text.decode())
            for _, _, data in ancillary:
                (number,) = array.array("i", data)
                self.inodes.append(os.fstat(number).st_ino)
                os.close(number)


@implementer(ILogObserver)
class Said:
    """A log observer's memory: the events' texts."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self.log = Logger("test", observer=self)

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)


class House:
    """One daemon's Notify, systemd at its other end, a clock and a log."""

    def __init__(self, path: str) -> None:
        self.systemd = Systemd("\0" + path[1:] if path.startswith("@") else path)
        self.clock = Clock()
        self.said = Said()
        self.notify = Notify.from_environment({"NOTIFY_SOCKET": path}, self.clock, self.said.log)

    def fill(self) -> int:
        """Make systemd's queue full; how many messages are to come."""
        for number in range(LINES):
            self.notify.ready(str(number))
        assert self.notify.pending
        return self.notify.pending

    def all_heard(self) -> list[str]:
        """Everything that was said, once systemd reads."""
        messages = self.systemd.heard()
        while self.notify.pending:
            self.clock.advance(LAST_RETRY)
            messages += self.systemd.heard()
        return messages


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(str(tmp_path / "notify"))
    yield house
    house.notify.close()
    house.systemd.socket.close()
    assert not house.clock.getDelayedCalls()


def test_says_what_sd_notify_has(house: House) -> None:
    """Each method is one message, in systemd's words."""
    before = time.monotonic_ns() // 1000
    house.notify.ready("3 endpoints")
    house.notify.status("4 endpoints")
    house.notify.reloading()
    house.notify.extend(2.5)
    house.notify.watchdog()
    house.notify.stopping("draining")
    house.notify.forget("sockd-listener-7")
    ready, status, reloading, *others = house.systemd.heard()
    assert ready == "READY=1\nSTATUS=3 endpoints"
    assert status == "STATUS=4 endpoints"
    word, _, when = reloading.partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(when) <= time.monotonic_ns() // 1000
    assert others == [
        "EXTEND_TIMEOUT_USEC=2500000",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=draining",
        "FDSTOREREMOVE=1\nFDNAME=sockd-listener-7",
    ]


def test_speaks_to_an_abstract_socket(tmp_path: Path) -> None:
    """`@name` is Linux's abstract namespace."""
    house = House(f"@{tmp_path}")
    house.notify.watchdog()
    assert house.notify.active
    assert house.systemd.heard() == ["WATCHDOG=1"]
    house.notify.close()
    house.systemd.socket.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_does_nothing_without_systemd(environ: dict[str, str]) -> None:
    """Started by hand, the daemon reports to nobody, and nothing fails for it."""
    clock, said = Clock(), Said()
    notify = Notify.from_environment(environ, clock, said.log)
    notify.ready("ready")
    notify.watchdog()
    watchdog = Watchdog(notify, clock, {"WATCHDOG_USEC": "3000000"}, said.log)
    watchdog.start()
    watchdog.stop()
    notify.close()
    assert not notify.active
    assert watchdog.interval is None
    assert (notify.lost, notify.pending, said.events, clock.getDelayedCalls()) == (0, 0, [], [])


def test_stores_a_socket_under_its_name(house: House) -> None:
    """The socket itself goes along, and systemd is asked not to drop it when it looks hung up."""
    with socket.socket() as sock:
        inode = os.fstat(sock.fileno()).st_ino
        house.notify.store(sock, "sockd-listener-7")
        assert house.systemd.heard() == ["FDSTORE=1\nFDNAME=sockd-listener-7\nFDPOLL=0"]
    assert house.systemd.inodes == [inode]


def test_waits_for_a_busy_systemd_without_blocking(house: House) -> None:
    """What finds no room is said later, nothing is left out or out of order."""
    house.fill()
    assert house.all_heard() == [f"READY=1\nSTATUS={number}" for number in range(LINES)]
    assert house.notify.lost == 0


def test_asks_a_busy_systemd_less_and_less(house: House) -> None:
    """Tries grow rarer while there is no room, and are as close as before once there is."""
    house.fill()
    waits = []
    while LAST_RETRY not in waits:
        (call,) = house.clock.getDelayedCalls()
        waits.append(call.getTime() - house.clock.seconds())
        house.clock.advance(waits[-1])
    assert waits == [pytest.approx(min(FIRST_RETRY * 2**n, LAST_RETRY)) for n in range(len(waits))]
    house.systemd.heard()
    house.clock.advance(LAST_RETRY)
    (call,) = house.clock.getDelayedCalls()
    assert call.getTime() - house.clock.seconds() == pytest.approx(FIRST_RETRY)


def test_of_what_waits_the_last_word_counts(house: House) -> None:
    """Of several status texts, watchdog resets and stores of one name that wait, one is sent, the last."""
    house.fill()
    with socket.socket() as one, socket.socket() as other:
        house.notify.store(one, "sockd-listener-1")
        house.notify.store(other, "sockd-listener-2")
        house.notify.forget("sockd-listener-1")
        for number in range(3):
            house.notify.watchdog()
            house.notify.status(f"status {number}")
            house.notify.extend(number)
        assert house.all_heard()[LINES:] == [
            "FDSTORE=1\nFDNAME=sockd-listener-2\nFDPOLL=0",
            "FDSTOREREMOVE=1\nFDNAME=sockd-listener-1",
            "WATCHDOG=1",
            "STATUS=status 2",
            "EXTEND_TIMEOUT_USEC=2000000",
        ]


def test_a_socket_that_was_closed_while_it_waited_is_passed_over(house: House) -> None:
    """Its number may be another file's by then, which systemd must not get."""
    house.fill()
    with socket.socket() as sock:
        house.notify.store(sock, "sockd-listener-1")
    assert len(house.all_heard()) == LINES
    assert house.systemd.inodes == []
    assert house.notify.lost == 0


def test_what_waits_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound messages are lost and counted, and the log has one line about it."""
    pending = house.fill()
    monkeypatch.setattr(module, "WAITING_LIMIT", pending)
    house.notify.ready("too much")
    house.notify.ready("too much")
    assert (house.notify.pending, house.notify.lost) == (pending, 2)
    assert [event["why"] for event in house.said.events] == ["too many messages wait for it"]


@pytest.mark.parametrize("there", [True, False])
def test_a_socket_that_nobody_reads(there: bool, tmp_path: Path) -> None:
    """A systemd that is not there costs a line in the log, once, and messages that are counted."""
    house = House(str(tmp_path / "notify"))
    house.systemd.socket.close()
    if not there:
        (tmp_path / "notify").unlink()
    house.notify.ready("ready")
    house.notify.watchdog()
    assert (house.notify.pending, house.notify.lost) == (0, 2)
    (event,) = house.said.events
    assert event["why"] == os.strerror(errno.ECONNREFUSED if there else errno.ENOENT)
    house.notify.close()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """An error that is not the kernel's is logged as well."""
    said = Said()
    notify = Notify("/" + "x" * 200, Clock(), said.log)
    notify.watchdog()
    assert [event["why"] for event in said.events] == ["AF_UNIX path too long"]
    notify.close()


def test_status_is_one_bounded_line(house: House) -> None:
    """No text can add an assignment of its own, and none is so long that systemd ignores it."""
    house.notify.status("a\nWATCHDOG=trigger\udcff")
    house.notify.status("é" * 5000)
    assert house.systemd.heard() == [
        "STATUS=a\\x0aWATCHDOG=trigger\\udcff",
        f"STATUS={'é' * STATUS_LIMIT}",
    ]


def test_close_says_what_can_be_said(house: House) -> None:
    """At the end the rest goes out as far as systemd has room; what it has none for is forgotten."""
    house.fill()
    heard = house.systemd.heard()
    house.notify.close()
    assert house.notify.pending == 0
    assert house.systemd.heard()[0] == f"READY=1\nSTATUS={len(heard)}"
    assert not house.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("text", "size"),
    [(None, None), ("0", 0), ("512", 512), ("", None), ("-1", None), ("many", None), ("٣", None)],
)
def test_size_of_the_store(text: str | None, size: int | None) -> None:
    """$FDSTORE where it is a number, else nothing is known."""
    assert fd_store_size({} if text is None else {"FDSTORE": text}) == size


def watchdog(house: House, environ: dict[str, str]) -> Watchdog:
    return Watchdog(house.notify, house.clock, environ, house.said.log)


def test_watchdog_hears_thrice_an_interval(house: House) -> None:
    """One reset at the start and one every third of the interval, until it is stopped."""
    dog = watchdog(house, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())})
    assert dog.interval == 3.0
    dog.start()
    assert len(house.systemd.heard()) == 1
    house.clock.pump([0.5] * 6)
    assert house.systemd.heard() == ["WATCHDOG=1"] * 3
    dog.stop()
    house.clock.advance(10)
    assert house.systemd.heard() == []
    assert house.said.events == []


def test_watchdog_started_again_beats_once(house: House) -> None:
    """Starting what runs leaves one timer."""
    dog = watchdog(house, {"WATCHDOG_USEC": "3000000"})
    dog.start()
    dog.start()
    house.systemd.heard()
    house.clock.advance(1)
    assert house.systemd.heard() == ["WATCHDOG=1"]
    dog.stop()


def test_a_reactor_that_stands_still_resets_nothing(house: House) -> None:
    """While there is no turn systemd hears nothing; the log says how late the next one was."""
    dog = watchdog(house, {"WATCHDOG_USEC": "3000000"})
    dog.start()
    house.systemd.heard()
    house.clock.rightNow += 2.5
    assert house.systemd.heard() == []
    house.clock.advance(0)
    assert house.systemd.heard() == ["WATCHDOG=1"]
    (event,) = house.said.events
    assert (event["late"], event["interval"], event["log_level"].name) == (2.5, 3.0, "warn")
    house.clock.advance(1)
    assert len(house.said.events) == 1
    dog.stop()


def test_the_interval_is_longer_while_programs_change(house: House) -> None:
    """The old program prolongs it, and the first reset restores it: the new program's, or its own."""
    old = watchdog(house, {"WATCHDOG_USEC": "3000000"})
    new = Watchdog(house.notify, house.clock, {"WATCHDOG_USEC": "3000000"}, house.said.log, prolonged=True)
    for dog in (new, old):
        old.prolong(30)
        assert house.systemd.heard() == ["WATCHDOG_USEC=30000000"]
        dog.start()
        assert house.systemd.heard() == ["WATCHDOG_USEC=3000000", "WATCHDOG=1"]
        house.clock.advance(1)
        assert house.systemd.heard() == ["WATCHDOG=1"]
        dog.stop()


@pytest.mark.parametrize("environ", [{"WATCHDOG_USEC": "60000000"}, {}])
def test_an_interval_that_is_long_enough_stays(house: House, environ: dict[str, str]) -> None:
    """As does none at all."""
    watchdog(house, environ).prolong(30)
    assert house.systemd.heard() == []


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "me"},
    ],
)
def test_no_watchdog(house: House, environ: dict[str, str]) -> None:
    """None asked for, or another process's: nothing is sent."""
    dog = watchdog(house, environ)
    dog.start()
    dog.stop()
    assert dog.interval is None
    assert house.systemd.heard() == []
