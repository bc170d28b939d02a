"""What the log looks like, and where it goes: one event a line, in three formats, never blocking."""

import json
import os
import re
import select
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, LogLevel, formatEvent
from zope.interface import implementer

from sockd.base import descriptors
from sockd.base.text import UNSAFE, visible
from sockd.plan.plan import LogPlan

# A pipe that polls writable takes so much without blocking (PIPE_BUF, pipe(7)); longer lines are cut.
LONGEST = 4096
_CUT = " [cut]"
MODE = 0o640  # of a log file that we create
_SHORT = 200  # fields of a JSON line that are no longer (in characters) stay when it is cut
_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}  # syslog(3)
_LEVELS = list(_PRIORITIES)
Event = dict[str, Any]


class Destination:
    """A file descriptor that is never waited for: what can't be written at once is counted as lost.

    With a path it is a file, which `reopen` opens anew; without, it is standard output. A `descriptor` is
    that of a file at the path that is open already.
    """

    def __init__(self, path: Path | None = None, descriptor: int | None = None) -> None:
        self.path = path
        self.lost = 0
        if descriptor is None:
            descriptor = 1 if path is None else _open(path)
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, text: str) -> None:
        """Write a line or several, the last newline excluded."""
        for line in text.split("\n"):
            if not self.put(line):
                self.lost += 1

    def put(self, line: str) -> bool:
        """Write one line, if that is possible at once."""
        data = _encoded(line) + b"\n"
        if len(data) > LONGEST:
            data = data[: LONGEST - len(_CUT) - 1].decode("utf-8", "ignore").encode() + _CUT.encode() + b"\n"
        try:
            ready = self._poll.poll(0)
            return bool(ready and ready[0][1] & select.POLLOUT) and os.write(self._descriptor, data) > 0
        except OSError:
            return False

    def reopen(self) -> None:
        """Open the file at the path anew (logrotate moved it); OSError leaves the old one in use."""
        if self.path is not None:
            path = self.path
            fresh = descriptors.take(lambda: _open(path))
            self._poll.unregister(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = fresh
            self._poll.register(fresh, select.POLLOUT)

    def give_to(self, uid: int | None, gid: int | None) -> None:
        """The daemon will run as another user, who must be able to write and reopen the file."""
        if self.path is not None:
            os.fchown(self._descriptor, -1 if uid is None else uid, -1 if gid is None else gid)

    def freeze(self) -> dict[str, Any] | None:
        """The open file, for the program that goes on with it; None for standard output."""
        return None if self.path is None else {"fd": self._descriptor, "path": str(self.path)}

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def is_journal(self, environ: Mapping[str, str]) -> bool:
        """Whether systemd's journal reads it."""
        return _is_journal(self._descriptor, environ)


def _is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """$JOURNAL_STREAM has the journal's device and inode (systemd.exec(5))."""
    status = os.fstat(descriptor)
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def complain(text: str, environ: Mapping[str, str]) -> None:
    """Say on standard error why there is no daemon; in the journal these lines are errors."""
    mark = ""
    with suppress(OSError, ValueError):  # there may be no standard error
        mark = f"<{_PRIORITIES['error']}>" if _is_journal(sys.stderr.fileno(), environ) else ""
    print("\n".join(mark + line for line in text.splitlines()), file=sys.stderr)  # noqa: T201


def _open(path: Path) -> int:
    # Non-blocking for the sake of FIFOs: one that nobody reads is an error at once (ENXIO), not a wait.
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT, MODE)  # it may be a link to nothing yet
    os.fchmod(descriptor, MODE)  # whatever the umask: who reads the log is to read the next one too
    return descriptor


def chosen_format(plan: LogPlan, destination: Destination, environ: Mapping[str, str]) -> str:
    """What `auto` comes to: journal under systemd, text on a terminal, JSON otherwise."""
    if plan.format != "auto":
        return plan.format
    if destination.is_journal(environ):
        return "journal"
    return "text" if destination.isatty() else "json"


@implementer(ILogObserver)
class Observer:
    """Writes Twisted's log events of at least `level` in one of the formats."""

    def __init__(self, destination: Destination, level: str, style: str) -> None:
        self._destination = destination
        self.change(level, style)

    def change(self, level: str, style: str) -> None:
        """From now on write these."""
        self._least = _LEVELS.index(level)
        self._line = _FORMATS[style]
        self._details = level == "debug"

    def __call__(self, event: Event) -> None:
        level = event.get("log_level", LogLevel.info).name
        if level == "info" and event.get("log_namespace", "").startswith(("twisted", "log_legacy")):
            level = "debug"  # what Twisted tells of itself
        if _LEVELS.index(level) < self._least:
            return
        if self._destination.lost:
            self._tell_lost(event["log_time"])
        self._destination.write(self._line(event, level, self._details))

    def _tell_lost(self, now: float) -> None:
        event = {
            "log_time": now,
            "log_format": "{lines} lines of the log were lost: nobody read them",
            "lines": self._destination.lost,
            "event": "log lost",
        }
        if self._destination.put(self._line(event, "warn", False)):
            self._destination.lost = 0


def _message(event: Event, details: bool) -> list[str]:
    """The event in words: one line, and the traceback of a bug (of a protocol's: if details are wanted)."""
    message = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None and (details or "event" not in event):
        message = f"{message}: {failure.getTraceback()}"
        return [visible(line) for line in message.rstrip().splitlines()]
    return [visible(message)]


def _text(event: Event, level: str, details: bool) -> str:
    return f"{timestamp(event['log_time'])} {level:<5} " + "\n    ".join(_message(event, details))


def _journal(event: Event, level: str, details: bool) -> str:
    return "\n".join(f"<{_PRIORITIES[level]}>{line}" for line in _message(event, details))


def _json(event: Event, level: str, details: bool) -> str:
    fields: dict[str, Any] = {"time": timestamp(event["log_time"]), "level": level}
    fields |= {
        key: value
        for key, value in event.items()
        if key not in fields
        and not key.startswith("log_")
        and isinstance(value, str | int | float | bool | dict)
    }
    message = "\n".join(_message(event, details))
    line = _dumps(fields | {"message": message})
    if len(_encoded(line)) < LONGEST:
        return line
    # Cut as other lines are, it would be no JSON. Escaped, no byte of the message becomes more than two.
    fields = {key: value for key, value in fields.items() if len(_dumps(value)) <= _SHORT}
    room = (LONGEST - len(_encoded(_dumps(fields))) - 50) // 2
    return _dumps(fields | {"message": _encoded(message)[: max(0, room)].decode("utf-8", "ignore") + _CUT})


def _dumps(value: Any) -> str:
    """JSON that is as safe to look at as the text is; unlike there, nothing needs to be shown otherwise."""
    return UNSAFE.sub(_json_escape, json.dumps(value, ensure_ascii=False, default=str))


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else json.dumps(found[0])[1:-1]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


_FORMATS: dict[str, Callable[[Event, str, bool], str]] = {"text": _text, "json": _json, "journal": _journal}


def timestamp(seconds: float) -> str:
    """UTC with milliseconds, as RFC 3339 has it."""
    # A float is hardly ever a whole millisecond: what was read from such a text is to give the same text.
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{microseconds // 1000:03d}Z"


def destination(
    logfile: str | None, foreground: bool, handed: Mapping[str, Any] | None = None
) -> Destination:
    """Where twistd's options send the log. SystemExit, as twistd has it, where that can't be.

    `handed` is what the program before froze of its own.
    """
    if handed is not None:
        os.set_inheritable(handed["fd"], False)
        return Destination(Path(handed["path"]), handed["fd"])
    if logfile == "-" and not foreground:
        sys.exit("Daemons cannot log to stdout, exiting!")
    if logfile == "-" or (foreground and not logfile):
        return Destination()
    path = Path(logfile or "twistd.log").absolute()
    try:
        return Destination(path)
    except OSError as error:
        sys.exit(f"can't open the log file {path}: {error.strerror}")
