"""The sink as a service: faults, back-pressure, stopping, reopening, on a worker that is stepped by hand."""

import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sockd.sinks.appender import Appender
from sockd.sinks.file import FLOOD, GATHER_SIZE, GATHER_TIME, HIGH_WATER, LOW_WATER, RETRY_DELAY, FileSink
from sockd.sinks.hanging import HANGS_AFTER, LOOK_INTERVAL
from sockd.sinks.opening import SinkError, Target
from sockd.sinks.thread import ThreadError
from tests.sinks.stepped import FakeSource, Stepped, result


def test_start_opens_in_the_thread(one: Stepped) -> None:
    """Nothing happens at construction; the service is up when the file is open."""
    assert not one.worker.jobs
    done = one.sink.startService()
    assert not one.path.exists()
    one.worker.steps()
    assert result(done) is None
    assert one.path.exists()


def test_a_file_that_cannot_be_opened_fails_the_start(tmp_path: Path) -> None:
    """With one clear line; a later start works once the directory is there."""
    one = Stepped(tmp_path / "none" / "app.log")
    failure = result(one.start())
    assert failure.check(SinkError)
    assert failure.getErrorMessage() == f"{one.path}: the directory {one.path.parent} does not exist"
    one.path.parent.mkdir()
    assert result(one.start()) is None


def test_what_comes_during_a_write_goes_out_as_the_next(one: Stepped) -> None:
    """One job at a time, however many chunks come."""
    one.start()
    for number in range(5):
        one.sink.write(b"%d\n" % number)
        assert len(one.worker.jobs) == 1
    one.worker.step()
    assert one.content == b"0\n1\n2\n3\n4\n"
    assert one.sink.unwritten == 0
    one.sink.write(b"5\n")
    job, done = one.worker.jobs.popleft()
    job()
    one.sink.write(b"6\n")  # the thread has done its work, but the reactor doesn't know yet
    done.callback(None)
    one.worker.steps()
    assert one.content == b"0\n1\n2\n3\n4\n5\n6\n"


def test_little_waits_for_more(one: Stepped) -> None:
    """After a quiet time records are written immediately, then none before GATHER_TIME has passed."""
    one.start()
    one.clock.advance(GATHER_TIME)
    one.sink.write(b"0\n")
    one.worker.jobs[0][0]()
    one.sink.write(b"1\n")
    one.worker.jobs.popleft()[1].callback(None)
    one.sink.write(b"2\n")
    one.clock.advance(GATHER_TIME / 2)
    one.sink.write(b"3\n")
    assert not one.worker.jobs
    one.clock.advance(GATHER_TIME / 2)
    assert len(one.worker.jobs) == 1
    one.worker.step()
    assert one.content == b"0\n1\n2\n3\n"
    assert not one.gathers
    one.clock.advance(GATHER_TIME)
    one.sink.write(b"4\n")
    assert len(one.worker.jobs) == 1


def just_written(one: Stepped) -> None:
    """It has written, and more was accepted, which waits."""
    one.start()
    one.clock.advance(GATHER_TIME)
    one.sink.write(b"first\n")
    job, done = one.worker.jobs.popleft()
    job()
    done.callback(None)
    one.sink.write(b"second\n")
    assert not one.worker.jobs
    assert one.clock.getDelayedCalls()


def test_enough_does_not_wait(one: Stepped) -> None:
    """These many bytes are handed over immediately, also those that came while others were written."""
    just_written(one)
    one.sink.write(bytes(GATHER_SIZE - 1) + b"\n")
    assert not one.gathers
    job, done = one.worker.jobs.popleft()
    job()
    one.sink.write(bytes(GATHER_SIZE - 1) + b"\n")
    done.callback(None)
    assert len(one.worker.jobs) == 1


def test_what_waits_goes_to_the_old_file(one: Stepped) -> None:
    """A reopening comes after what was accepted before it."""
    just_written(one)
    one.path.rename(one.path.with_suffix(".1"))
    one.sink.reopen()
    one.worker.steps()
    assert one.path.with_suffix(".1").read_bytes() == b"first\nsecond\n"
    assert one.content == b""


def test_a_stop_does_not_wait(one: Stepped) -> None:
    """It writes what waits immediately, and leaves no timer behind."""
    just_written(one)
    done = one.sink.stopService()
    while one.worker.jobs:
        job, told = one.worker.jobs.popleft()
        job()
        told.callback(None)
    assert result(done) is None
    assert one.content == b"first\nsecond\n"
    assert not one.gathers


def test_a_clock_that_was_set_back(one: Stepped) -> None:
    """Nothing waits for longer than GATHER_TIME on a reactor whose clock is the wall's."""
    just_written(one)
    one.clock.advance(GATHER_TIME)
    one.worker.step()
    one.clock.rightNow -= 3600.0
    one.sink.write(b"third\n")
    one.clock.advance(GATHER_TIME)
    assert len(one.worker.jobs) == 1


def test_a_failed_write_is_reported_and_goes_on_at_the_byte(one: Stepped) -> None:
    """The service is down until startService writes again; nothing is lost, doubled or out of order."""
    one.start()
    one.disk.room = 4
    one.sink.write(b"first\nsecond\n")
    one.worker.steps()
    assert [str(problem) for problem in one.failed] == [f"{one.path}: No space left on device"]
    assert one.content == b"firs"
    one.sink.write(b"third\n")
    assert not one.worker.jobs
    assert result(one.start()).check(SinkError)
    assert len(one.failed) == 1
    one.disk.room = 100
    assert result(one.start()) is None
    assert one.content == b"first\nsecond\nthird\n"
    one.sink.write(b"fourth\n")
    one.worker.steps()
    assert one.content == b"first\nsecond\nthird\nfourth\n"


def test_a_start_that_the_failure_report_makes_at_once(one: Stepped) -> None:
    """`fail` may call startService itself; the writing goes on."""
    one.start()
    started: list[Deferred[None]] = []

    def again() -> None:
        one.disk.room = 100
        started.append(one.sink.startService())

    one.after_failure = again
    one.disk.room = 4
    one.sink.write(b"first\n")
    one.worker.steps()
    assert result(started[0]) is None
    one.sink.write(b"second\n")
    one.worker.steps()
    assert one.content == b"first\nsecond\n"


def test_who_writes_pauses_when_it_is_too_much(one: Stepped) -> None:
    """Above the high-water mark a source that writes is paused, and a new one; the others are not."""
    one.start()
    first, second, third = (FakeSource(one.sink) for _ in range(3))
    for source in (first, second):
        one.sink.attach(source)
    one.sink.write(b"x" * (HIGH_WATER - 1) + b"\n", first)
    assert not one.sink.full
    assert not first.paused
    one.sink.write(b"y\n", first)
    assert one.sink.full
    assert first.paused
    assert not second.paused
    one.sink.attach(third)
    assert third.paused
    first.paused = False  # somebody else let it go on
    one.sink.write(b"z\n", first)
    assert first.paused
    one.sink.write(b"a datagram\n")
    one.worker.steps()
    assert not one.sink.full
    assert not any(source.paused for source in (first, second, third))
    assert one.sink.unwritten == 0


def test_all_pause_when_it_is_far_too_much(one: Stepped) -> None:
    """Those that are attached, be they silent: otherwise thousands might each bring one more read."""
    one.start()
    loud, silent, left = (FakeSource(one.sink) for _ in range(3))
    for source in (loud, silent, left):
        one.sink.attach(source)
    one.sink.write(b"x" * HIGH_WATER + b"\n", left)
    one.sink.detach(left)
    left.paused = False
    one.sink.write(b"x" * (FLOOD - HIGH_WATER) + b"\n", loud)
    assert loud.paused
    assert silent.paused
    assert not left.paused
    one.sink.write(b"y\n", loud)
    one.worker.steps()
    assert not loud.paused
    assert not silent.paused


def test_sources_go_on_at_the_low_water_mark(one: Stepped) -> None:
    """Not before: what gathered during a long write counts."""
    one.start()
    source = FakeSource(one.sink)
    one.sink.attach(source)
    one.sink.write(b"x" * HIGH_WATER + b"\n", source)
    job, done = one.worker.jobs.popleft()
    job()
    one.sink.write(b"y" * LOW_WATER + b"\n")
    done.callback(None)
    assert source.paused
    one.worker.steps()
    assert not source.paused


def test_a_source_that_fills_it_again_stops_the_others_going_on(one: Stepped) -> None:
    """The bound holds with any number of connections: one too much, and the rest stay paused."""
    one.start()
    sources = [FakeSource(one.sink) for _ in range(1000)]
    for source in sources:
        source.burst = b"x" * (HIGH_WATER // 4) + b"\n"
        one.sink.attach(source)
    one.sink.write(b"x" * FLOOD + b"\n")
    assert all(source.paused for source in sources)
    one.worker.step()
    assert one.sink.full
    assert [source.paused for source in sources[:6]] == [False] * 3 + [True] * 3
    assert one.sink.unwritten < HIGH_WATER + HIGH_WATER // 4 + 2


def test_who_fills_it_goes_on_last(one: Stepped) -> None:
    """One that writes without end does not keep the others from being heard."""
    one.start()
    resumed: list[str] = []

    class Named(FakeSource):
        def __init__(self, name: str) -> None:
            super().__init__(one.sink)
            self.name = name

        def resumeProducing(self) -> None:
            resumed.append(self.name)
            super().resumeProducing()

    loud, *others = [Named(name) for name in ("loud", "a", "b")]
    for source in (loud, *others):
        one.sink.attach(source)
    one.sink.write(b"x" * FLOOD + b"\n")
    loud.burst = b"x" * HIGH_WATER + b"\n"
    one.worker.step()
    assert resumed == ["loud"]
    loud.burst = b""
    one.worker.steps()
    assert resumed == ["loud", "a", "b", "loud"]


def test_a_sink_that_is_down_stays_full(one: Stepped) -> None:
    """Until it writes again, sources stay paused and memory is bounded."""
    one.start()
    source = FakeSource(one.sink)
    one.sink.attach(source)
    one.disk.room = 10
    one.sink.write(b"x" * HIGH_WATER + b"\n", source)
    one.worker.steps()
    assert source.paused
    one.disk.room = 1 << 30
    one.start()
    assert not source.paused
    assert one.content == b"x" * HIGH_WATER + b"\n"


def test_stop_writes_all(one: Stepped) -> None:
    """What was accepted is in the file when the Deferred fires."""
    one.start()
    one.sink.write(b"one\n")
    one.sink.write(b"two\n")
    done = one.sink.stopService()
    one.worker.steps()
    assert result(done) is None
    assert one.content == b"one\ntwo\n"
    assert one.worker.ended
    assert one.logged == []


def test_stop_of_a_sink_that_never_started(tmp_path: Path) -> None:
    """A file that could never be opened, and nothing accepted: it is reopened and stopped quietly."""
    one = Stepped(tmp_path / "none" / "app.log")
    assert result(one.start()).check(SinkError)
    one.sink.reopen()
    done = one.sink.stopService()
    one.worker.steps()
    assert result(done) is None
    assert one.logged == []


def test_stop_waits_for_room(one: Stepped) -> None:
    """While the disk is full it tries again and again, saying so once, and writes all when there is room."""
    one.start()
    one.disk.room = 2
    one.sink.write(b"one\n")
    done = one.sink.stopService()
    one.worker.steps()
    for _ in range(3):
        one.clock.advance(RETRY_DELAY)
        one.worker.steps()
    assert not done.called
    assert one.failed == []
    one.sink.write(b"two\n")
    one.disk.room = 100
    one.clock.advance(RETRY_DELAY)
    one.worker.steps()
    assert result(done) is None
    assert one.content == b"one\ntwo\n"
    why = f"{one.path}: No space left on device: 2 bytes are not written yet"
    assert one.logged == [f"applog: {why}; trying again until the deadline for stopping"]


def test_a_stop_that_begins_while_the_disk_is_full(one: Stepped) -> None:
    """What is not written yet is said when connections begin to drain, and not again."""
    one.start()
    one.sink.drain()
    assert one.logged == []
    one.disk.room = 2
    one.sink.write(b"one\n")
    one.worker.steps()
    one.sink.drain()
    told = [f"applog: {one.path}: 2 bytes are not written yet; trying again until the deadline for stopping"]
    assert one.logged == told
    one.sink.drain()
    done = one.sink.stopService()
    one.worker.steps()
    assert one.logged == told
    one.disk.room = 100
    one.clock.advance(RETRY_DELAY)
    one.worker.steps()
    assert result(done) is None
    assert one.content == b"one\n"


def test_the_deadline_of_a_stop(one: Stepped) -> None:
    """Cancelled, it says how many lines are lost and gives up; what still comes is lost as well."""
    one.start()
    one.disk.room = 6
    one.sink.write(b"one\ntwo\nthree\n")
    done = one.sink.stopService()
    one.worker.steps()
    done.cancel()
    assert result(done) is None
    assert one.logged[1:] == [f"applog: {one.path}: 2 lines were lost: the deadline for stopping has passed"]
    one.sink.write(b"four\n")
    assert one.logged[2:] == [f"applog: {one.path}: 1 line was lost: the endpoint has stopped"]
    assert result(one.sink.reopen()) is None
    assert not one.worker.jobs
    assert not one.gathers


def test_the_deadline_of_a_stop_with_a_stuck_disk(one: Stepped) -> None:
    """A thread that hangs is given up as well, also one that still opens the file."""
    starting = one.sink.startService()
    one.sink.write(b"one\n")
    done = one.sink.stopService()
    done.cancel()
    assert result(done) is None
    assert one.logged == [f"applog: {one.path}: 1 line was lost: the deadline for stopping has passed"]
    one.worker.steps()
    assert result(starting).check(SinkError)
    assert not one.worker.jobs


def test_a_start_that_ends_after_the_stop(one: Stepped) -> None:
    """The sink does not come back to life."""
    starting = one.sink.startService()
    one.worker.step()
    one.sink.stopService().cancel()
    one.worker.steps()
    assert result(starting) is None
    one.sink.write(b"late\n")
    assert one.logged == [f"applog: {one.path}: 1 line was lost: the endpoint has stopped"]
    assert not one.worker.jobs


def test_what_only_closing_reveals_is_logged(one: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop logs it and goes on."""
    one.start()

    def no_room() -> None:
        raise SinkError("app.log: Disk quota exceeded")

    monkeypatch.setattr(one.disk, "close", no_room)
    done = one.sink.stopService()
    one.worker.steps()
    assert result(done) is None
    assert one.logged == ["applog: app.log: Disk quota exceeded"]
    monkeypatch.undo()
    one.disk.close()


def test_reopening_comes_between_two_writes(one: Stepped) -> None:
    """What was accepted goes to either file, once; a failure is logged, once, and the old file kept."""
    one.start()
    old = one.path.with_suffix(".1")
    one.sink.write(b"one\n")
    one.path.rename(old)
    done = one.sink.reopen()
    one.sink.write(b"two\n")
    one.worker.steps()
    one.sink.write(b"three\n")
    one.worker.steps()
    assert result(done) is None
    assert old.read_bytes() + one.content == b"one\ntwo\nthree\n"
    one.path.rename(one.path.with_suffix(".2"))
    one.path.mkdir()
    done = one.sink.reopen()
    one.sink.write(b"four\n")
    one.worker.steps()
    assert result(done) is None
    assert one.logged == [
        f"applog: {one.path} reopened",
        f"applog: {one.path}: Is a directory; the old file is kept",
    ]
    assert one.path.with_suffix(".2").read_bytes().endswith(b"four\n")


STEP = st.one_of(
    st.binary(max_size=30).map(lambda data: ("write", data.replace(b"\n", b"") + b"\n")),
    st.tuples(st.just("room"), st.integers(0, 40)),
    st.tuples(st.sampled_from(["step", "start", "move", "reopen"]), st.just(None)),
)


@given(st.lists(STEP, max_size=60))
def test_any_history_leaves_what_was_accepted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    """Writes, faults, retries and rotations in any order: at the end all is there once, in order."""
    one = Stepped(tmp_path_factory.mktemp("history") / "app.log")
    result(one.start())
    accepted = b""
    moved: list[Path] = []
    for what, value in steps:
        if what == "write":
            one.sink.write(value)
            accepted += value
        elif what == "room":
            one.disk.room = value
        elif what == "step" and one.worker.jobs:
            one.worker.step()
        elif what == "start" and not one.up:
            result(one.begin())
        elif what == "move" and one.path.exists():
            moved.append(one.path.rename(one.path.with_suffix(f".{len(moved)}")))
            result(one.sink.reopen())
        elif what == "reopen":
            result(one.sink.reopen())
    one.disk.room = 1 << 40
    one.worker.steps()
    done = one.sink.stopService()
    one.worker.steps()
    assert result(done) is None
    files = [*moved, *([one.path] if one.path.exists() else [])]
    assert b"".join(file.read_bytes() for file in files) == accepted


@pytest_twisted.ensureDeferred
async def test_on_a_real_thread(tmp_path: Path) -> None:
    """Under load, while its file is moved again and again, every line is there once, in order."""
    path = tmp_path / "app.log"
    failed: list[Exception] = []
    disk = Appender(path, 0o640, lambda: b"")
    sink = FileSink(disk, endpoint="applog", reactor=installed, log=Logger(), fail=failed.append)
    await sink.startService()
    files = []
    for number in range(2000):
        sink.write(b"%d\n" % number)
        if number % 400 == 399:
            files.append(path.rename(tmp_path / str(number)))
            await sink.reopen()
    await sink.stopService()
    text = b"".join(file.read_bytes() for file in [*files, path])
    assert text == b"".join(b"%d\n" % number for number in range(2000))
    assert failed == []


# -- a disk that doesn't answer


def looks(one: Stepped, count: int = 1) -> None:
    for _ in range(count):
        one.clock.advance(LOOK_INTERVAL)


def test_a_write_that_does_not_come_back_is_reported(one: Stepped) -> None:
    """After some seconds, once; then that it has come back."""
    one.start()
    one.sink.write(b"one\n")
    looks(one, HANGS_AFTER + 1)  # the first one sees that the start has moved
    why = f"{one.path}: its disk, file server or reader has not answered for 3 seconds"
    assert one.hangs == [why]
    looks(one, 30)
    assert one.hangs == [why]
    one.worker.steps()
    looks(one)
    assert one.hangs == [why, ""]
    assert one.content == b"one\n"
    looks(one)
    assert not one.clock.getDelayedCalls()


@pytest.mark.parametrize("job", ["open", "reopen", "redirect"])
def test_so_is_any_other_call(one: Stepped, job: str, tmp_path: Path) -> None:
    """Opening the file at a start, opening it anew, going over to another."""
    if job == "open":
        one.begin()
    else:
        one.start()
        looks(one)
        if job == "reopen":
            one.sink.reopen()
        else:
            one.sink.redirect(Target(tmp_path / "new.log", 0o640, lambda: b""))
    looks(one, HANGS_AFTER + 1)
    assert len(one.hangs) == 1


def test_a_slow_disk_does_not_hang(one: Stepped) -> None:
    """Where job after job, or byte after byte, goes on, nothing is reported."""
    one.start()
    for _ in range(10):
        one.sink.write(b"one\n")
        looks(one, HANGS_AFTER - 1)
        one.worker.step()
    one.sink.write(b"one\n")
    for _ in range(10):
        looks(one)
        one.disk.written += 1  # as the thread does, portion by portion
    assert not one.hangs


def test_a_process_that_was_stopped_blames_nobody(one: Stepped) -> None:
    """However long that was, it is one look."""
    one.start()
    one.sink.write(b"one\n")
    one.clock.advance(1000.0)
    assert not one.hangs


def test_a_stop_while_the_disk_hangs(one: Stepped) -> None:
    """It says immediately what waits, then how much is lost at its deadline, and asks no more."""
    one.start()
    one.sink.write(b"one\n")
    looks(one, HANGS_AFTER + 1)
    one.sink.drain()
    stopping = one.sink.stopService()
    stopping.cancel()
    assert result(stopping) is None
    assert "4 bytes are not written yet" in one.logged[0]
    assert "1 line was lost" in one.logged[1]
    assert not one.clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_a_thread_that_can_not_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start fails with the reason, as with a disk that is full; the next one has a thread."""
    failed: list[Exception] = []
    disk = Appender(tmp_path / "app.log", 0o640, lambda: b"")
    sink = FileSink(disk, endpoint="applog", reactor=installed, log=Logger(), fail=failed.append)

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        for _ in range(2):
            with pytest.raises(ThreadError):
                await sink.startService()
            sink.write(b"one\n")
    await sink.startService()
    await sink.stopService()
    assert disk.path.read_bytes() == b"one\none\n"
