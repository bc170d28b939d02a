"""The log: one event a line, in one of three formats, written without ever waiting."""

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, LogLevel, formatEvent
from zope.interface import implementer

from sockd.base import descriptors, paths
from sockd.base.account import Account
from sockd.base.errors import SockdError
from sockd.base.frozen import Frozen
from sockd.base.text import visible, visible_json
from sockd.base.units import counted
from sockd.plan.plan import LogPlan
from sockd.process.log_destination import (
    ANSWER_LIMIT,
    CUT_MARK,
    LINE_LIMIT,
    Destination,
    encoded,
    is_journal,
)
from sockd.sinks.lines import no_answer, open_in_time

_KEPT_FIELD = 200  # characters of JSON: a field that is no longer stays in a line that is cut
# Fields that are pieces of their message and nothing else: what they say is in other fields too.
_WORDING = ("text", "summary")
_DECIMALS = 3  # of a number in JSON, which is seconds
_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}  # syslog(3)
_LEVELS = list(_PRIORITIES)
_DESCRIPTORS = {"stdout": 1, "stderr": 2}
Event = dict[str, Any]  # of Twisted's. Any: the code that logs chooses names and values
# twistd's options as twisted.python.usage parses them. Any: text, numbers, or what its own converters make of
# them.
TwistdOptions = Mapping[str, Any]
Format = Callable[[Event, str, bool], str]  # of an event, its level, and whether details are wanted


def complain(lines: Iterable[str], environ: Mapping[str, str]) -> None:
    """Print on standard error why there is no daemon; in the journal these lines are errors."""
    if sys.stderr is None:
        return
    mark = ""
    with suppress(OSError, ValueError):  # it may be no file
        mark = f"<{_PRIORITIES['error']}>" if is_journal(os.fstat(sys.stderr.fileno()), environ) else ""
    with suppress(OSError, ValueError):  # nobody may be able to read it
        print("\n".join(mark + visible(line) for line in lines), file=sys.stderr, flush=True)  # noqa: T201


def chosen_format(plan: LogPlan, destination: Destination, environ: Mapping[str, str]) -> str:
    """The format that `auto` stands for: journal under systemd, text on a terminal, JSON otherwise."""
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
        # Which endpoints an event may come from that names none; asked only for events that are written.
        self.origin: Callable[[Event], Sequence[str]] = lambda _: ()
        self.change(level, style)

    def move(self, destination: Destination) -> None:
        """From now on write there."""
        self._destination = destination

    def change(self, level: str, style: str) -> None:
        """From now on write events of these levels in this format."""
        self._lowest = _LEVELS.index(level)
        self._line = _FORMATS[style]
        self._details = level == "debug"

    def __call__(self, event: Event) -> None:
        level = event.get("log_level", LogLevel.info).name
        if level == "info" and event.get("log_namespace", "").startswith(("twisted", "log_legacy")):
            level = "debug"  # what Twisted says of itself
        if _LEVELS.index(level) < self._lowest:
            return
        if self._destination.lost:
            self._report_lost(event["log_time"])
        if "event" not in event and "endpoint" not in event:
            event = self._with_origin(event)
        self._destination.write(self._line(event, level, self._details))

    def _with_origin(self, event: Event) -> Event:
        """The event, which may be a hosted protocol's, with the endpoint that it comes from."""
        names = self.origin(event)
        if not names:
            return event
        known = {"endpoint": names[0]} if len(names) == 1 else {}
        return {**event, **known, "log_origin": " or ".join(names)}

    def _report_lost(self, now: float) -> None:
        destination = self._destination
        lost, why = destination.take_lost()
        if not lost:  # another thread reports them
            return
        event = {
            "log_time": now,
            "log_format": "{text} of the log lost: {why}",
            "text": counted(lost, "line"),
            "lines": lost,
            "why": why,
            "event": "log lost",
        }
        destination.write(self._line(event, "warn", False), stands_for=lost)


def _message(event: Event, details: bool) -> list[str]:
    """The event in words: a line, then the traceback of a bug (of a protocol's: if details are wanted)."""
    parts = [event.get("log_origin"), formatEvent(event)]
    failure = event.get("log_failure")
    detailed = failure is not None and (details or "event" not in event)
    if failure is not None and detailed:
        parts.append(failure.getTraceback())
    message = ": ".join(part for part in parts if part)
    if detailed:
        return [visible(line) for line in message.rstrip().splitlines()]
    return [visible(message)]


def _text(event: Event, level: str, details: bool) -> str:
    return f"{timestamp(event['log_time'])} {level:<5} " + "\n    ".join(_message(event, details))


def _journal(event: Event, level: str, details: bool) -> str:
    return "\n".join(f"<{_PRIORITIES[level]}>{line}" for line in _message(event, details))


def _json(event: Event, level: str, details: bool) -> str:
    fields: Event = {"time": timestamp(event["log_time"]), "level": level}
    template = str(event.get("log_format", ""))
    fields |= {
        key: _number(value) if isinstance(value, float) else value
        for key, value in event.items()
        if key not in fields
        and not key.startswith("log_")
        and isinstance(value, str | int | float | bool | dict)
        and not (key in _WORDING and f"{{{key}}}" in template)
    }
    message = "\n".join(_message(event, details))
    line = _dumps(fields | {"message": message})
    if len(encoded(line)) < LINE_LIMIT:
        return line
    # Cut as other lines are, it would not be JSON. Escaped, a byte of the message becomes two at most.
    fields = {key: value for key, value in fields.items() if len(_dumps(value)) <= _KEPT_FIELD}
    room = (LINE_LIMIT - len(encoded(_dumps(fields))) - 50) // 2
    return _dumps(fields | {"message": encoded(message)[: max(0, room)].decode("utf-8", "ignore") + CUT_MARK})


def _number(value: float) -> float | str:
    """Seconds in as many digits as they deserve; JSON has no word for what isn't finite."""
    return round(value, _DECIMALS) if isfinite(value) else str(value)


def _dumps(value: object) -> str:
    """JSON that is as safe to look at as the text is, and gives back what it was made from."""
    return visible_json(json.dumps(value, ensure_ascii=False, default=str))


_FORMATS: dict[str, Format] = {"text": _text, "json": _json, "journal": _journal}


def timestamp(seconds: float) -> str:
    """UTC with milliseconds, as RFC 3339 has it."""
    # A float is hardly ever a whole millisecond: the time that such a text was read as must give the same
    # text.
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{microseconds // 1000:03d}Z"


def destination(
    logfile: str | None,
    foreground: bool,
    handed: Frozen | None = None,
    user: Account | None = None,
    to: str = "auto",
) -> Destination:
    """The destination that twistd's options name, or else the plan (`to`).

    SystemExit, as twistd has it, where there can be none. `handed` is what the program before in this process
    froze of its own.
    """
    if handed is not None:
        os.set_inheritable(handed["fd"], False)
        return Destination(Path(handed["path"]), handed["fd"])
    if logfile == "-" and not foreground:
        sys.exit("Daemons cannot log to stdout, exiting!")
    if not logfile and to in _DESCRIPTORS and not foreground:
        sys.exit(f"a daemon in the background has no {to}: set daemon.log.to, or --logfile, to a file")
    if logfile == "-":
        return Destination()
    try:
        place = str(paths.absolute(logfile)) if logfile else _meant(to, foreground)
    except SockdError as error:
        sys.exit(f"--logfile: {error}")
    try:
        return _open_place(place, user)
    except OSError as error:
        who = "" if user is None else f" as the user {user.name}"
        sys.exit(f"can't open the log file {visible(place)}{who}: {error.strerror}")


def _meant(to: str, foreground: bool) -> str:
    """`stdout`, `stderr` or the absolute path that a plan means; SockdError where that can't be found out."""
    if to != "auto":
        return to
    return "stdout" if foreground else str(paths.absolute("twistd.log"))


def _open_place(place: str, user: Account | None = None) -> Destination:
    """The destination at a place as `_meant` returns it; OSError where it can't be opened."""
    number = _DESCRIPTORS.get(place)
    return Destination(Path(place), user=user) if number is None else Destination(None, number)


class OwnLog:
    """The log of a daemon to which twistd leaves it.

    `read_by_person`: it is text, which a person looks at while the daemon runs in the foreground. `fixed`:
    the command line says where it goes, and not the plan.
    """

    def __init__(
        self,
        destination: Destination,
        plan: LogPlan,
        foreground: bool,
        environ: Mapping[str, str],
        *,
        fixed: bool = False,
    ) -> None:
        self._destination = destination
        self._fixed = fixed
        self._to = plan.to
        self._foreground = foreground
        self._environ = environ
        self._begun = False
        self.observer = Observer(destination, plan.level, self._style(plan))

    def _style(self, plan: LogPlan) -> str:
        style = chosen_format(plan, self._destination, self._environ)
        self.read_by_person = self._foreground and style == "text"
        return style

    def begin(self) -> None:
        """The process stays the one that it is: from the next line on, no disk holds it up."""
        self._begun = True
        self._destination.begin()

    def follow(self, plan: LogPlan) -> None:
        """From the next line on this plan holds.

        OSError, after level and format have changed, where what it names can't be opened: then the log stays
        where it is.
        """
        try:
            if plan.to != self._to and not self._fixed:
                self._move(plan.to)
        finally:
            self.observer.change(plan.level, self._style(plan))

    def _move(self, to: str) -> None:
        if to in _DESCRIPTORS and not self._foreground:
            raise OSError(errno.EBADF, f"a daemon in the background has no {to}")
        try:
            place = _meant(to, self._foreground)
        except SockdError as error:
            raise OSError(errno.ENOENT, str(error)) from error
        old = self._destination

        def opening() -> Destination:
            return descriptors.take(lambda: _open_place(place))

        if self._begun:
            new = open_in_time(opening, Destination.close, ANSWER_LIMIT)
            new.begin()
        else:
            new = opening()
        new.lose(*old.take_lost())
        self._destination, self._to = new, to
        self.observer.move(new)
        old.close()

    def width(self) -> int | None:
        """How many columns the terminal has that the log is written to; None where that isn't known."""
        return self._destination.width()

    def write(self, text: str) -> None:
        """Write lines that are no events."""
        self._destination.write("\n".join(map(visible, text.split("\n"))))

    def reopen(self) -> None:
        self._destination.reopen()

    def settle(self, limit: float) -> bool:
        """Wait until all is written, at most for so many seconds; whether it is."""
        return self._destination.settle(limit)

    def freeze(self) -> Frozen | None:
        """The open file, where all is written; OSError where its disk doesn't answer.

        exec would wait for the thread that it holds.
        """
        if not self.settle(ANSWER_LIMIT):
            raise no_answer(ANSWER_LIMIT)
        frozen = self._destination.freeze()
        return frozen and {**frozen, "fixed": self._fixed}

    def close(self) -> None:
        self._destination.close()


def own_log(
    options: TwistdOptions,
    plan: LogPlan,
    handed: Frozen | None,
    environ: Mapping[str, str],
    user: Account | None = None,
) -> OwnLog | None:
    """The log that twistd's options ask for; None where --syslog or --logger name another.

    `user` is the one that the daemon, while it is root, is going to be.
    """
    if options.get("syslog") or options.get("logger"):
        return None
    foreground = bool(options.get("nodaemon"))
    logfile = options.get("logfile")
    chosen = destination(logfile, foreground, handed, user, plan.to)
    # After an upgrade the command line always names a file that is open.
    fixed = bool(logfile) if handed is None else bool(handed.get("fixed", True))
    return OwnLog(chosen, plan, foreground, environ, fixed=fixed)
