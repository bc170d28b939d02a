"""The log's three formats, what it cuts and escapes, and that nothing can make it wait."""

import errno
import json
import os
import pty
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel
from twisted.python import log as legacy
from twisted.python.failure import Failure

from sockd import log as log_module
from sockd.base.account import Account
from sockd.base.text import UNSAFE
from sockd.log import Observer, OwnLog, chosen_format, complain, destination, own_log, timestamp
from sockd.plan.plan import LogPlan
from sockd.process import log_destination
from sockd.process.log_destination import LINE_LIMIT, Destination

STYLES = ("text", "json", "journal")
TIME = 1795154400.1239  # 2026-11-20T06:00:00.123 UTC


class Log:
    """An observer that writes to a file, and a logger for it."""

    def __init__(self, path: Path, level: str = "info", style: str = "text") -> None:
        self.path = path
        self.destination = Destination(path)
        self.observer = Observer(self.destination, level, style)
        self.logger = Logger("sockd", observer=self.observe)  # type: ignore[arg-type]

    def observe(self, event: Any) -> None:
        event["log_time"] = TIME
        self.observer(event)

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(autouse=True)
def no_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A destination lives as long as its process; a test's is closed."""
    opened: list[Destination] = []
    initialise = Destination.__init__

    def remember(
        self: Destination,
        path: Path | None = None,
        descriptor: int | None = None,
        user: Account | None = None,
    ) -> None:
        initialise(self, path, descriptor, user)
        opened.append(self)

    monkeypatch.setattr(Destination, "__init__", remember)
    yield
    for one in opened:
        if one.descriptor > 2:
            with suppress(OSError):  # it was closed when the log moved
                one.close()


# -- formats


def test_text(path: Path) -> None:
    """Time, level, message."""
    log = Log(path)
    log.logger.info("{endpoint}: held", endpoint="applog")
    log.logger.error("stopped")
    assert log.lines() == [
        "2026-11-20T06:00:00.123Z info  applog: held",
        "2026-11-20T06:00:00.123Z error stopped",
    ]


def test_journal(path: Path) -> None:
    """The priority of syslog; the journal knows the time."""
    log = Log(path, "debug", "journal")
    for level in ("debug", "info", "warn", "error", "critical"):
        getattr(log.logger, level)(level)
    assert log.lines() == ["<7>debug", "<6>info", "<4>warn", "<3>error", "<2>critical"]


def test_json(path: Path) -> None:
    """The message, and each value it was made of."""
    log = Log(path, style="json")
    log.logger.info("{endpoint}: {count}", endpoint="é", count=3, ends={"done": 2}, up=True, odd=object())
    assert [json.loads(line) for line in log.lines()] == [
        {
            "time": "2026-11-20T06:00:00.123Z",
            "level": "info",
            "endpoint": "é",
            "count": 3,
            "ends": {"done": 2},
            "up": True,
            "message": "é: 3",
        }
    ]
    assert "é" in log.lines()[0]


def test_json_says_nothing_twice(path: Path) -> None:
    """What is only a piece of the message isn't a field; a number has the digits that it deserves."""
    log = Log(path, style="json")
    log.logger.info(
        "{text}: {summary} in {seconds:.1f}s", text="1 line", summary="3 x idle", seconds=0.1 + 0.2
    )
    log.logger.info("got it", text="of a third party", seconds=float("nan"))
    first, second = (json.loads(line) for line in log.lines())
    for fields in (first, second):
        del fields["time"], fields["level"]
    assert first == {"message": "1 line: 3 x idle in 0.3s", "seconds": 0.3}
    assert second == {"message": "got it", "text": "of a third party", "seconds": "nan"}


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", 5), ("info", 4), ("warn", 3), ("error", 2), ("critical", 1)]
)
def test_levels(level: str, shown: int, path: Path) -> None:
    """What is below isn't written."""
    log = Log(path, level)
    for one in ("debug", "info", "warn", "error", "critical"):
        getattr(log.logger, one)("x")
    assert len(log.lines()) == shown


def test_what_twisted_tells_of_itself(path: Path) -> None:
    """Its information is our detail; its warnings and errors are shown. Third parties' are their own."""
    log = Log(path)
    for namespace, level, shown in (
        ("twisted.internet.udp", LogLevel.info, False),
        ("log_legacy", LogLevel.info, False),
        ("twisted.internet.udp", LogLevel.critical, True),
        ("daytime", LogLevel.info, True),
    ):
        before = len(log.lines())
        log.observe({"log_namespace": namespace, "log_level": level, "log_format": "x"})
        assert (len(log.lines()) > before) == shown, (namespace, level)


def test_event_of_nobody_known(path: Path) -> None:
    """Twisted's old way of logging, and events without level or namespace, are written too."""
    log = Log(path, "debug")
    publisher = legacy.LogPublisher()
    seen: list[Any] = []
    publisher.addObserver(seen.append)
    publisher.msg("old")
    for event in (seen[0], {"log_format": "bare"}):
        log.observe(dict(event))
    assert log.lines()[-1].endswith("info  bare")


def failing() -> Failure:
    def within() -> None:
        raise ValueError("a\nb\x1b[31m")

    with pytest.raises(ValueError) as caught:
        within()
    return Failure(caught.value, None, caught.tb)


@pytest.mark.parametrize("style", STYLES)
def test_traceback_of_a_bug(style: str, path: Path) -> None:
    """It is shown, a line each, and can't forge one: continuation lines are marked as such."""
    log = Log(path, style=style)
    log.logger.failure("it broke", failing())
    lines = log.lines()
    text = "\n".join(lines)
    assert "ValueError: a" in text
    assert "within" in text
    assert "\x1b" not in text
    if style == "json":
        (only,) = lines
        assert json.loads(only)["message"].startswith("it broke: Traceback")
    elif style == "text":
        assert lines[0].startswith("2026")
        assert all(line.startswith("    ") for line in lines[1:])
    else:
        assert all(line.startswith("<2>") for line in lines)


@pytest.mark.parametrize("level", ["info", "debug"])
def test_traceback_of_a_protocol(level: str, path: Path) -> None:
    """A failure that the message describes in one line has its traceback where details are wanted."""
    log = Log(path, level)
    log.logger.failure("{why}", failing(), why="it raised", event="protocol failed", level=LogLevel.error)
    assert (len(log.lines()) > 1) == (level == "debug")


# -- forged lines and long ones


@given(text=st.text(st.characters(codec="utf-8")), style=st.sampled_from(STYLES))
def test_nothing_forges_a_line_or_drives_a_terminal(text: str, style: str) -> None:
    """One event is one line without a control character, whatever its values hold; JSON gives them back."""
    written: list[str] = []

    class Kept(Destination):
        def put(self, line: str, stands_for: int = 1) -> None:
            written.append(line)

    event = {"log_time": TIME, "log_format": "{why}", "why": text, "event": "x"}
    Observer(Kept(), "info", style)(event)
    (line,) = written
    assert not UNSAFE.search(line)
    if style == "json" and len(text) < 500:
        assert json.loads(line)["why"] == text


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("character", ["x", "é", "\\", '"', "\x00", "\u202e", "\U000e0001"])
def test_long_lines_are_cut(style: str, character: str, path: Path) -> None:
    """At what a pipe takes without blocking, marked, still UTF-8, and JSON where it was JSON."""
    log = Log(path, style=style)
    log.logger.error("{endpoint}: {why}", endpoint="applog", why=character * 100_000)
    (line,) = path.read_bytes().splitlines(keepends=True)
    assert LINE_LIMIT // 4 < len(line) <= LINE_LIMIT
    text = line.decode()
    if style == "json":
        fields = json.loads(text)
        assert fields["endpoint"] == "applog"
        assert fields["message"].startswith("applog: ")
        assert fields["message"].endswith(" [cut]")
    else:
        assert text.endswith(" [cut]\n")


def test_line_of_the_longest_length(path: Path) -> None:
    """One that just fits isn't cut."""
    log = Destination(path)
    log.write("x" * (LINE_LIMIT - 1))
    assert path.read_text() == "x" * (LINE_LIMIT - 1) + "\n"


def test_undecodable_names(path: Path) -> None:
    """A file name that isn't UTF-8 is shown escaped."""
    for style in STYLES:
        log = Log(path, style=style)
        log.logger.info("{path}", path=os.fsdecode(b"a\xff.sock"))
    assert all("a\\udcff.sock" in line for line in log.lines())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (TIME, "2026-11-20T06:00:00.123Z"),
        (0.9999, "1970-01-01T00:00:00.999Z"),
    ],
)
def test_timestamp(seconds: float, text: str) -> None:
    """UTC, milliseconds cut off, so that time never runs ahead."""
    assert timestamp(seconds) == text


# -- where it goes


@pytest.fixture
def piped(path: Path) -> Iterator[tuple[int, Destination]]:
    """A pipe nobody reads, and a destination that writes to it."""
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield reading, Destination(path)
    os.close(reading)


def read_all(descriptor: int) -> bytes:
    """What is in a pipe."""
    data = b""
    with suppress(BlockingIOError):
        while True:
            data += os.read(descriptor, 65536)
    return data


@pytest.mark.parametrize("style", STYLES)
def test_full_pipe_loses_and_counts(style: str, piped: tuple[int, Destination]) -> None:
    """It never blocks; once somebody reads, a line in the format of the rest says how many were lost."""
    reading, destination = piped
    log = Logger("sockd", observer=Observer(destination, "info", style))
    while not destination.lost:
        log.info("x" * 1000)
    for _ in range(9):
        log.info("lost")
    assert destination.lost == 10
    read_all(reading)
    log.info("heard")
    lines = read_all(reading).decode().splitlines()
    if style == "json":
        assert [json.loads(line)["event"] for line in lines[-2:-1]] == ["log lost"]
        assert json.loads(lines[-2])["lines"] == 10
    assert "10 lines of the log lost: there was no room to write them at once" in lines[-2]
    assert "heard" in lines[-1]
    assert destination.lost == 0


def test_pipe_that_fills_again(piped: tuple[int, Destination]) -> None:
    """While there is still no room, losses go on being counted."""
    _, destination = piped
    log = Logger("sockd", observer=Observer(destination, "info", "text"))
    for expected in (1, 2, 3):
        while destination.lost < expected:
            log.info("x" * 4000)
    assert destination.lost == 3


def test_closed_pipe_loses_and_counts(piped: tuple[int, Destination]) -> None:
    """A reader that went away ends nothing."""
    reading, destination = piped
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, reading)
    os.close(null)
    destination.write("one\ntwo")
    assert destination.lost == 2


def test_reopening(path: Path) -> None:
    """After logrotate moved the file, lines go to a fresh one."""
    log = Destination(path)
    log.write("one")
    path.rename(path.with_suffix(".1"))
    log.write("two")
    log.reopen()
    log.write("three")
    assert path.with_suffix(".1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


@pytest.mark.parametrize("rotated", [False, True])
def test_a_full_disk_tears_no_other_line(path: Path, rotated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was written in part is counted as lost, and ended before the next; a new file is new."""
    destination = Destination(path)
    room = iter([2, 0])
    really = os.write

    def some(descriptor: int, data: bytes) -> int:
        left = next(room, None)
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(descriptor, data[:left])

    monkeypatch.setattr(os, "write", some)
    destination.write("one\ntwo")
    assert destination.lost == 2
    if rotated:
        path.rename(path.with_suffix(".1"))
        destination.reopen()
    destination.write("three\nfour")
    assert path.read_text() == ("" if rotated else "on\n") + "three\nfour\n"


def test_mode_of_a_fresh_file(path: Path) -> None:
    """Whatever the umask, a reader of the log may read the next one; an older file keeps its mode."""
    before = os.umask(0o077)
    try:
        log = Destination(path)
        path.rename(path.with_suffix(".1"))
        log.reopen()
    finally:
        os.umask(before)
    assert path.with_suffix(".1").stat().st_mode & 0o777 == path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    Destination(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_reopening_that_fails(path: Path) -> None:
    """The old file stays in use."""
    log = Destination(path)
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        log.reopen()
    log.write("still")
    assert path.with_suffix(".1").read_text() == "still\n"


def test_a_fifo_that_nobody_reads(path: Path) -> None:
    """Opening it is an error, not a wait; the old file stays in use."""
    log = Destination(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        log.reopen()


def test_standard_output_is_not_reopened(capfd: pytest.CaptureFixture[str]) -> None:
    """There is nothing to open."""
    log = Destination()
    log.reopen()
    log.write("out")
    assert capfd.readouterr().out == "out\n"


def test_automatic_format(path: Path, piped: tuple[int, Destination]) -> None:
    """The journal's where systemd says it reads, text on a terminal, JSON otherwise; a choice is a choice."""
    automatic = LogPlan("info", "auto")
    _, pipe = piped
    status = os.fstat(pipe.descriptor)
    journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert chosen_format(automatic, pipe, journal) == "journal"
    assert chosen_format(automatic, pipe, {"JOURNAL_STREAM": "1:2"}) == "json"
    assert chosen_format(automatic, pipe, {}) == "json"
    assert chosen_format(LogPlan("info", "text"), pipe, journal) == "text"
    controlling, terminal = pty.openpty()
    assert chosen_format(automatic, Destination(Path(os.ttyname(terminal))), {}) == "text"
    os.close(controlling)
    os.close(terminal)


def test_destinations_of_twistds_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As twistd has it: a file named, its usual one for a daemon, standard output in the foreground."""
    monkeypatch.chdir(tmp_path)
    assert destination("a.log", True).path == tmp_path / "a.log"
    assert destination(None, False).path == tmp_path / "twistd.log"
    assert destination(None, True).path is None
    assert destination("-", True).path is None
    with pytest.raises(SystemExit, match="Daemons cannot log to stdout"):
        destination("-", False)
    with pytest.raises(
        SystemExit, match=f"^can't open the log file {tmp_path}/none/a.log: No such file or directory$"
    ):
        destination("none/a.log", True)


def test_destinations_of_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where the command line names none: standard output, standard error, or a file; else that counts."""
    for to in ("stdout", "stderr"):
        destination(None, True, to=to).write(to)
    assert capfd.readouterr() == ("stdout\n", "stderr\n")
    assert destination(None, True, to=f"{tmp_path}/b.log").path == tmp_path / "b.log"
    assert destination(None, False, to=f"{tmp_path}/b.log").path == tmp_path / "b.log"
    assert destination(f"{tmp_path}/a.log", True, to="stderr").path == tmp_path / "a.log"
    with pytest.raises(SystemExit, match="a daemon in the background has no stderr"):
        destination(None, False, to="stderr")
    with pytest.raises(SystemExit, match=f"can't open the log file {tmp_path}/none/a.log"):
        destination(None, True, to=f"{tmp_path}/none/a.log")


@pytest.mark.usefixtures("gone_directory")
@pytest.mark.parametrize("to", ["auto", "stdout", "stderr"])
def test_standard_output_needs_no_directory(to: str) -> None:
    """A daemon in the foreground starts and logs there where the working directory is gone, too."""
    assert destination(None, True, to=to).descriptor == (2 if to == "stderr" else 1)


def test_a_log_that_moves(tmp_path: Path) -> None:
    """A reload moves it, unless the command line says where it is; where it can't go it stays."""
    paths = [tmp_path / name for name in ("a.log", "b.log", "c.log")]
    for fixed, where in ((False, 1), (True, 0)):
        own = OwnLog(Destination(paths[0]), LogPlan("info", "text", str(paths[0])), True, {}, fixed=fixed)
        log = Logger("sockd", observer=own.observer)
        own.follow(LogPlan("info", "text", str(paths[1])))
        log.info("moved")
        assert "moved" in paths[where].read_text()
        if not fixed:
            with pytest.raises(FileNotFoundError):
                own.follow(LogPlan("debug", "text", f"{tmp_path}/none/c.log"))
            log.debug("stayed")
            assert "stayed" in paths[where].read_text()
        frozen = own.freeze()
        assert frozen is not None
        assert os.readlink(f"/proc/self/fd/{frozen['fd']}") == str(paths[where])
        assert frozen == {"fd": frozen["fd"], "path": str(paths[where]), "fixed": fixed}
        own.close()
        paths[where].write_text("")


def test_fields_of_ours_are_ours(path: Path) -> None:
    """An event that brings a `time` or a `level` of its own, as twisted.python.log does, changes neither."""
    event = {"log_time": TIME, "log_level": LogLevel.warn, "log_format": "odd"}
    own: dict[str, Any] = {"time": 5.0, "level": "harmless", "message": "else"}
    Observer(Destination(path), "info", "json")(event | own)
    written = json.loads(path.read_text())
    assert written == {"time": "2026-11-20T06:00:00.123Z", "level": "warn", "message": "odd"}


@pytest.mark.parametrize("foreground", [True, False])
def test_a_log_that_follows_the_plan(foreground: bool, path: Path) -> None:
    """A change of level and format holds from the next line on; a person reads what is text in front."""
    own = OwnLog(Destination(path), LogPlan("info", "json"), foreground, {})
    log = Logger("sockd", observer=own.observer)
    log.debug("one")
    assert not own.read_by_person
    own.follow(LogPlan("debug", "text"))
    log.debug("two")
    own.write("three\nfour")
    assert own.read_by_person == foreground
    first, *more = path.read_text().splitlines()
    assert first.endswith("debug two")
    assert more == ["three", "four"]


@pytest.mark.parametrize("other", ["syslog", "logger"])
def test_a_log_of_twistds(other: str) -> None:
    """Then there is none of the daemon's own."""
    assert own_log({other: "x"}, LogPlan("info", "auto"), None, {}) is None


def test_why_there_is_no_daemon(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason is a line, whatever is in a file's name; without a standard error nobody is told."""
    complain(["/tmp/a\x1b[2J\u202e\nforged: no such file", "two"], {})
    assert capsys.readouterr().err == "/tmp/a\\x1b[2J\\u{202e}\\x0aforged: no such file\ntwo\n"
    monkeypatch.setattr(sys, "stderr", None)
    complain(["one"], {})
    assert capsys.readouterr() == ("", "")


# -- a disk that doesn't answer


class Hanging:
    """write(2) on one file waits until the disk answers."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.asked = threading.Event()
        really, inode = os.write, path.stat().st_ino

        def write(descriptor: int, data: bytes) -> int:
            if os.fstat(descriptor).st_ino == inode and not self.answers.is_set():
                self.asked.set()
                self.answers.wait(60.0)
            return really(descriptor, data)

        monkeypatch.setattr(os, "write", write)


def own(path: Path) -> OwnLog:
    """A log whose process serves."""
    one = OwnLog(Destination(path), LogPlan("info", "text", str(path)), True, {})
    one.begin()
    return one


def test_a_log_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line waits. It can't be handed over, and is opened again, in its place, when the disk answers."""
    monkeypatch.setattr(log_destination, "ANSWER_LIMIT", 0.05)
    monkeypatch.setattr(log_module, "ANSWER_LIMIT", 0.05)
    one = own(path)
    disk = Hanging(path, monkeypatch)
    one.write("one")
    assert disk.asked.wait(60.0)
    path.rename(path.with_suffix(".1"))
    with pytest.raises(OSError, match="has not answered"):
        one.reopen()
    one.write("two")
    with pytest.raises(OSError, match="has not answered"):
        one.freeze()
    disk.answers.set()
    assert one.settle(60.0)
    assert path.with_suffix(".1").read_text() == "one\n"
    assert path.read_text() == "two\n"
    assert one.freeze()
    one.close()


def test_a_log_that_moves_away_from_a_disk_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload moves it at once; what waits for the old file is written there."""
    one = own(path)
    other = path.with_suffix(".2")
    disk = Hanging(path, monkeypatch)
    one.write("one")
    one.write("two")
    one.follow(LogPlan("info", "text", str(other)))
    one.write("three")
    assert one.settle(60.0)
    assert other.read_text() == "three\n"
    old = [thread for thread in threading.enumerate() if thread.name == "writes the log"]
    disk.answers.set()
    one.close()
    for thread in old:
        thread.join(60.0)
    assert path.read_text() == "one\ntwo\n"


def test_a_fork_writes_itself(path: Path) -> None:
    """A hosted protocol's child has no thread of its parent's, and loses nothing."""
    one = own(path)
    one.write("parent")
    assert one.settle(60.0)
    child = os.fork()
    if not child:
        try:
            one.write("child")
            assert one.settle(60.0)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    one.write("parent")
    assert one.settle(60.0)
    assert path.read_text() == "parent\nchild\nparent\n"
    one.close()
