"""Messages to systemd, without ever waiting for it: sd_notify(3).

A message is a datagram of assignments, with at most one descriptor, to the socket that $NOTIFY_SOCKET names.
systemd's queue is short (net.unix.max_dgram_qlen may be as low as 10), so that what it has no room for waits
here, in order, and is tried again after a while; of messages that replace one another only the last waits.
"""

import errno
import os
import socket
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.logger import Logger

from sockd.base.reactor import Clock, Timer
from sockd.base.text import visible

FIRST_RETRY = 0.002  # seconds until a message that systemd had no room for is tried again; then doubled
LAST_RETRY = 1.0  # seconds, at most
WAITING_LIMIT = 65_536  # messages that wait at a time; those beyond are lost, and counted
STATUS_LIMIT = 500  # characters; systemd ignores messages of more than 4096 bytes
# systemd's queue is full (each socket for the fd store is a message), or something has run out that comes
# back.
_BUSY = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, eq=False, slots=True)
class _Message:
    text: bytes
    sock: socket.socket | None


class Notify:
    """Sends messages to systemd, in order; nothing here blocks or raises.

    `pending` is how many wait for room, `lost` how many could not be sent at all. Without $NOTIFY_SOCKET it
    is not `active`, and does nothing.
    """

    def __init__(self, path: str, reactor: Clock, log: Logger) -> None:
        # Other forms (vsock:CID:PORT) are for the init of a virtual machine, not for a service.
        self.active = path.startswith(("/", "@")) and len(path) > 1
        self.lost = 0
        self._path = os.fsencode("\0" + path[1:] if path.startswith("@") else path)
        self._reactor = reactor
        self._log = log
        # It stays open: a daemon that has run out of descriptors must still be able to reset the watchdog.
        self._socket: socket.socket | None = None
        self._waiting: dict[object, _Message] = {}
        self._delay = FIRST_RETRY
        self._timer: Timer | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], reactor: Clock, log: Logger) -> "Notify":
        return cls(environ.get("NOTIFY_SOCKET", ""), reactor, log)

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def ready(self, status: str) -> None:
        """It serves: after a start, and after each reload, even one that was refused."""
        self._tell("READY=1", _status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`; of several that wait, the last is sent."""
        self._tell(_status(text), sort="status")

    def reloading(self) -> None:
        """A reload began; it ends with `ready`. systemd wants to know when (CLOCK_MONOTONIC)."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self._tell("STOPPING=1", _status(status))

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes this much longer, from now on: systemd is to wait for it."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}", sort="extend")

    def watchdog(self) -> None:
        self._tell("WATCHDOG=1", sort="watchdog")

    def watchdog_interval(self, seconds: float) -> None:
        """systemd is to wait this long for each `watchdog` from now on."""
        self._tell(f"WATCHDOG_USEC={round(seconds * 1_000_000)}", sort="watchdog interval")

    def store(self, sock: socket.socket, name: str) -> None:
        """Have systemd keep this socket open, and pass it to the next process of the unit under this name.

        It must stay open until it is sent: one that is closed by then is left out. Storing a socket again
        changes nothing.
        """
        # FDPOLL=0: systemd would drop a listening socket as soon as poll(2) reports an error or a hang-up.
        self._tell("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", sort=("store", name), sock=sock)

    def forget(self, name: str) -> None:
        """Have systemd close what it stores under this name."""
        self._tell("FDSTOREREMOVE=1", f"FDNAME={name}", sort=("store", name))

    def close(self) -> None:
        """Send what can be sent now, and forget the rest."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *assignments: str, sort: object = None, sock: socket.socket | None = None) -> None:
        """Send it, or have it wait behind the others, in place of one of its sort that waits."""
        if not self.active:
            return
        message = _Message("\n".join(assignments).encode("utf-8", "backslashreplace"), sock)
        if sort is not None:
            self._waiting.pop(sort, None)
        if len(self._waiting) >= WAITING_LIMIT:
            self._lose("too many messages wait for it")
            return
        self._waiting[message if sort is None else sort] = message
        if self._timer is None:
            self._flush()

    def _flush(self) -> None:
        self._timer = None
        moved = False
        while self._waiting:
            key = next(iter(self._waiting))
            try:
                self._send(self._waiting[key])
            except OSError as error:
                if error.errno in _BUSY:
                    delay = FIRST_RETRY if moved else self._delay
                    self._timer = self._reactor.callLater(delay, self._flush)
                    self._delay = min(2 * delay, LAST_RETRY)
                    return
                self._lose(error.strerror or str(error))
            moved = True
            del self._waiting[key]
        self._delay = FIRST_RETRY

    def _send(self, message: _Message) -> None:
        ancillary = []
        if message.sock is not None:
            number = message.sock.fileno()
            if number < 0:
                return
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [number])))
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.sendmsg([message.text], ancillary, socket.MSG_NOSIGNAL, self._path)

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost == 1:  # once: whatever is wrong would be logged again with each message
            self._log.warn("messages to systemd are lost: {why}", why=why, event="systemd")


def _status(text: str) -> str:
    return f"STATUS={visible(text)[:STATUS_LIMIT]}"


def fd_store_size(environ: Mapping[str, str]) -> int | None:
    """How many sockets systemd keeps for the unit ($FDSTORE); None where that isn't known.

    systemd sets the variable as of version 254; for older ones sockd's unit does.
    """
    return _number(environ.get("FDSTORE"))


class Watchdog:
    """Resets systemd's watchdog at every third of its interval: in time only if the reactor turns in time.

    However late a turn is, systemd alone judges it, by the interval that the administrator chose. A turn that
    is late by more than that third is logged. `interval` (seconds) is None where there is no watchdog.

    A program that takes over by exec resets nothing until it serves, which may take longer than the interval
    on a busy machine. So the program before it prolongs the interval, and the first reset restores it: that
    of the new program (`prolonged`), or of the old one if exec fails.
    """

    def __init__(
        self,
        notify: Notify,
        reactor: Clock,
        environ: Mapping[str, str],
        log: Logger,
        *,
        prolonged: bool = False,
    ) -> None:
        self.interval = _interval(environ) if notify.active else None
        self._notify = notify
        self._reactor = reactor
        self._log = log
        self._prolonged = prolonged
        self._timer: Timer | None = None

    def prolong(self, seconds: float) -> None:
        """Have systemd wait this long for the next reset, if its interval is shorter."""
        if self.interval is not None and self.interval < seconds:
            self._notify.watchdog_interval(seconds)
            self._prolonged = True

    def start(self) -> None:
        self.stop()
        if self.interval is not None:
            self._beat(self.interval, self._reactor.seconds())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self, interval: float, due: float) -> None:
        now = self._reactor.seconds()
        if self._prolonged:
            self._notify.watchdog_interval(interval)
            self._prolonged = False
        self._notify.watchdog()
        if now - due > interval / 3:
            self._log.warn(
                "the reactor was blocked for {late} s; at {interval} s systemd restarts sockd (WatchdogSec=)",
                late=round(now - due + interval / 3, 1),
                interval=round(interval, 1),
                event="watchdog",
            )
        self._timer = self._reactor.callLater(interval / 3, self._beat, interval, now + interval / 3)


def _interval(environ: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants to hear from this process (sd_watchdog_enabled(3))."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = _number(environ.get("WATCHDOG_USEC"))
    return microseconds / 1_000_000 if microseconds else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 20 else None
