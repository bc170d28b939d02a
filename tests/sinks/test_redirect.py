"""A sink that goes over to another file: what was accepted, what fails, and going back."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import reactor as installed
from twisted.logger import Logger

from sockd.sinks.appender import Appender
from sockd.sinks.file import HIGH_WATER, MOVE_LIMIT, FileSink
from sockd.sinks.opening import SinkError, Target
from tests.sinks.stepped import FakeSource, Stepped, result


def target(path: Path, mode: int = 0o640) -> Target:
    return Target(path, mode, lambda: b" (torn)\n")


def redirect(one: Stepped, path: Path) -> Any:
    done = one.sink.redirect(target(path))
    one.worker.steps()
    return result(done)


def test_what_was_accepted_before_goes_to_the_old_file(one: Stepped, tmp_path: Path) -> None:
    """And what comes after to the new one, which has the new mode."""
    one.start()
    one.sink.write(b"one\n")
    done = one.sink.redirect(target(tmp_path / "new.log", 0o600))
    one.sink.write(b"two\n")
    assert not done.called
    one.worker.steps()
    assert result(done) is None
    one.sink.write(b"three\n")
    one.worker.steps()
    assert one.content == b"one\ntwo\n"
    assert (tmp_path / "new.log").read_bytes() == b"three\n"
    assert (tmp_path / "new.log").stat().st_mode & 0o777 == 0o600
    assert one.sink.unwritten == 0
    assert not one.gathers
    assert not one.logged


def test_the_same_path_opens_nothing(one: Stepped) -> None:
    """Only the mark for a torn line and the mode of files to come are others."""
    one.start()
    assert result(one.sink.redirect(Target(one.path, 0o600, lambda: b"!\n"))) is None
    assert not one.worker.jobs
    one.path.rename(one.path.with_suffix(".1"))
    one.path.write_bytes(b"torn")
    one.sink.reopen()
    one.sink.write(b"one\n")
    one.worker.steps()
    assert one.content == b"torn!\none\n"


def test_a_path_that_cannot_be_opened_is_refused(one: Stepped, tmp_path: Path) -> None:
    """The old file is kept, with all that is written; another change can follow."""
    one.start()
    failure = redirect(one, tmp_path / "none" / "new.log")
    assert failure.check(SinkError)
    assert failure.getErrorMessage().endswith(f"the directory {tmp_path}/none does not exist")
    one.sink.write(b"one\n")
    one.worker.steps()
    assert one.content == b"one\n"
    assert one.failed == []
    assert result(one.sink.redirect(target(one.path))) is None
    assert redirect(one, tmp_path / "new.log") is None


def test_a_record_that_is_written_in_part_is_whole_in_the_new_file(one: Stepped, tmp_path: Path) -> None:
    """From the old file, whose disk is full, its part is taken back; sources go on once all is written."""
    one.start()
    source = FakeSource(one.sink)
    one.sink.attach(source)
    one.disk.room = 6
    one.sink.write(b"one\ntwo\n" + b"x" * HIGH_WATER + b"\n", source)
    one.worker.steps()
    assert len(one.failed) == 1
    assert source.paused
    accepted = one.sink.unwritten
    done = one.sink.redirect(target(tmp_path / "new.log"))
    one.worker.steps()
    assert result(done) is None
    assert one.sink.unwritten == accepted + 2
    assert one.content == b"one\n"
    one.disk.room = 1 << 30
    assert result(one.start()) is None
    assert (tmp_path / "new.log").read_bytes() == b"two\n" + b"x" * HIGH_WATER + b"\n"
    assert one.sink.unwritten == 0
    assert not source.paused


def test_another_name_of_the_same_file(one: Stepped, tmp_path: Path) -> None:
    """A record that is written in part goes on at the byte."""
    one.start()
    os.link(one.path, tmp_path / "link.log")
    one.disk.room = 2
    one.sink.write(b"one\n")
    one.worker.steps()
    assert redirect(one, tmp_path / "link.log") is None
    one.disk.room = 100
    one.start()
    assert one.content == b"one\n"


def test_a_failing_file_does_not_keep_from_going_over(tmp_path: Path) -> None:
    """The new one is open, and serves as soon as the service is started again."""
    one = Stepped(tmp_path / "none" / "app.log")
    one.sink.write(b"one\n")
    assert result(one.start()).check(SinkError)
    assert redirect(one, tmp_path / "new.log") is None
    assert result(one.start()) is None
    assert (tmp_path / "new.log").read_bytes() == b"one\n"


@pytest.mark.parametrize("started", [False, True])
def test_going_back_to_a_file_that_was_failing(tmp_path: Path, started: bool) -> None:
    """A reload that is undone leaves the sink as it was: failing, with what it had accepted."""
    one = Stepped(tmp_path / "none" / "app.log")
    assert result(one.start()).check(SinkError)
    assert redirect(one, tmp_path / "new.log") is None
    if started:
        assert result(one.start()) is None
    assert redirect(one, one.path) is None
    assert [str(problem) for problem in one.failed] == (
        [f"{one.path}: the directory {one.path.parent} does not exist"] if started else []
    )
    one.sink.write(b"one\n")
    assert result(one.start()).check(SinkError)
    one.path.parent.mkdir()
    assert result(one.start()) is None
    assert one.content == b"one\n"
    one.path.rename(tmp_path / "moved")
    one.path.parent.rmdir()
    assert redirect(one, tmp_path / "other.log") is None
    assert redirect(one, one.path).check(SinkError)


def test_going_back_to_a_file_that_was_moved_away(one: Stepped, tmp_path: Path) -> None:
    """It is made again, as logrotate would have it."""
    one.start()
    one.sink.write(b"one\n")
    assert redirect(one, tmp_path / "new.log") is None
    one.path.rename(tmp_path / "moved")
    assert redirect(one, one.path) is None
    one.sink.write(b"two\n")
    one.worker.steps()
    assert one.content == b"two\n"
    assert (tmp_path / "moved").read_bytes() == b"one\n"


def test_two_in_a_row(one: Stepped, tmp_path: Path) -> None:
    """Each takes its turn, also one that leads back, and one whose file is the one that is about to be."""
    one.start()
    first, second = tmp_path / "1.log", tmp_path / "2.log"
    done = [one.sink.redirect(target(path)) for path in (first, one.path, second, second)]
    one.sink.write(b"before\n")
    one.worker.steps()
    assert [result(each) for each in done] == [None] * 4
    one.sink.write(b"after\n")
    one.worker.steps()
    assert one.content == b"before\n"
    assert first.read_bytes() == b""
    assert second.read_bytes() == b"after\n"


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_disk_that_does_not_answer(one: Stepped, tmp_path: Path, cancelled: bool) -> None:
    """After MOVE_LIMIT, or when nobody waits any more, the change is refused, and stays refused."""
    one.start()
    done = one.sink.redirect(target(tmp_path / "new.log"))
    if cancelled:
        done.cancel()
    else:
        one.clock.advance(MOVE_LIMIT)
    failure = result(done)
    assert failure.check(SinkError)
    disk = f"its disk or that of {one.path} doesn't answer"
    assert failure.getErrorMessage() == f"{tmp_path}/new.log: not opened after 10 seconds: {disk}"
    same = one.sink.redirect(target(one.path))
    one.sink.write(b"one\n")
    one.worker.steps()
    assert result(same) is None
    assert one.content == b"one\n"
    assert (tmp_path / "new.log").read_bytes() == b""
    assert not one.gathers


def test_a_change_of_mode_that_comes_too_late(one: Stepped, tmp_path: Path) -> None:
    """One that had to wait its turn and was given up leaves the sink as it is."""
    one.start()
    first = one.sink.redirect(target(tmp_path / "new.log"))
    second = one.sink.redirect(target(tmp_path / "new.log", 0o600))
    second.cancel()
    one.worker.steps()
    assert result(first) is None
    assert result(second).check(SinkError)
    assert one.disk.target.mode == 0o640


def test_a_change_that_was_made_when_time_is_up(one: Stepped, tmp_path: Path) -> None:
    """The thread has decided; its word counts."""
    one.start()
    done = one.sink.redirect(target(tmp_path / "new.log"))
    job, answered = one.worker.jobs.popleft()
    job()
    one.clock.advance(MOVE_LIMIT)
    assert result(done) is None
    answered.callback(None)
    one.sink.write(b"one\n")
    one.worker.steps()
    assert (tmp_path / "new.log").read_bytes() == b"one\n"


def test_what_closing_the_old_file_reveals(one: Stepped, tmp_path: Path, monkeypatch: Any) -> None:
    """It is logged, and the new file is used."""
    one.start()
    really = os.close

    def no_room(closed: int) -> None:
        name = os.readlink(f"/proc/self/fd/{closed}")
        really(closed)
        if name == str(one.path):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", no_room)
        assert redirect(one, tmp_path / "new.log") is None
    assert one.logged == [f"applog: {one.path}: {os.strerror(errno.EDQUOT)}"]
    one.sink.write(b"one\n")
    one.worker.steps()
    assert (tmp_path / "new.log").read_bytes() == b"one\n"


def test_a_sink_that_has_stopped_stays_where_it_is(one: Stepped, tmp_path: Path) -> None:
    """Nothing is opened for it."""
    one.start()
    one.sink.stopService()
    one.worker.steps()
    assert result(one.sink.redirect(target(tmp_path / "new.log"))) is None
    assert not one.worker.jobs


def test_each_of_several_leaves_the_file_that_is_open_then(one: Stepped, tmp_path: Path) -> None:
    """A change that was refused leads to no file that one could go back to."""
    one.sink.startService()
    wrong = target(tmp_path / "none" / "app.log")
    done = [one.sink.redirect(each) for each in (wrong, target(tmp_path / "new.log"), wrong)]
    one.sink.write(b"one\n")
    one.worker.steps()
    first, second, third = map(result, done)
    assert first.check(SinkError)
    assert second is None
    assert third.check(SinkError)
    assert (one.content, (tmp_path / "new.log").read_bytes()) == (b"one\n", b"")


def test_the_last_word_counts(one: Stepped, tmp_path: Path) -> None:
    """To stay is a change too while one that leads away is to come, also after one that was refused."""
    one.start()
    refused = one.sink.redirect(target(tmp_path / "none" / "app.log"))
    away = one.sink.redirect(target(tmp_path / "new.log"))
    one.worker.step()
    back = one.sink.redirect(target(one.path))
    one.worker.steps()
    assert result(refused).check(SinkError)
    assert (result(away), result(back)) == (None, None)
    assert one.disk.path == one.path


def test_going_back_and_on(tmp_path: Path) -> None:
    """Back to a file that was failing, and on to another before the way back has ended."""
    one = Stepped(tmp_path / "none" / "app.log")
    assert result(one.start()).check(SinkError)
    assert redirect(one, tmp_path / "1.log") is None
    back = one.sink.redirect(target(one.path))
    on = one.sink.redirect(target(tmp_path / "2.log"))
    one.worker.steps()
    assert (result(back), result(on)) == (None, None)
    assert one.disk.path == tmp_path / "2.log"


def test_asked_to_stay_while_a_slow_disk_goes_over(one: Stepped, tmp_path: Path) -> None:
    """The thread has decided to go over, and closes the old file for longer than one waits."""
    one.start()
    away = one.sink.redirect(target(tmp_path / "new.log"))
    job, answered = one.worker.jobs.popleft()
    stays: list[Any] = []
    close = one.disk.close

    def slow() -> None:
        one.clock.advance(MOVE_LIMIT)
        assert result(away) is None
        stays.append(one.sink.redirect(target(one.path)))
        close()

    one.disk.close = slow  # type: ignore[method-assign]
    answered_with = job()
    one.disk.close = close  # type: ignore[method-assign]
    answered.callback(answered_with)
    one.worker.steps()
    assert result(stays[0]) is None
    assert one.disk.path == one.path


def test_a_change_during_a_stop_opens_nothing(one: Stepped, tmp_path: Path) -> None:
    """The file that is closed last is the one that is open, and nothing is left open."""
    one.start()
    before = set(os.listdir("/proc/self/fd"))
    stopped = one.sink.stopService()
    done = one.sink.redirect(target(tmp_path / "new.log"))
    one.worker.steps()
    assert (result(stopped), result(done)) == (None, None)
    assert len(set(os.listdir("/proc/self/fd"))) == len(before) - 1
    assert not (tmp_path / "new.log").exists()


STEP = st.one_of(
    st.binary(max_size=30).map(lambda data: ("write", data.replace(b"\n", b"") + b"\n")),
    st.tuples(st.just("room"), st.integers(0, 40)),
    st.tuples(st.sampled_from(["step", "start", "redirect", "unusable", "freeze"]), st.just(None)),
)


@given(st.lists(STEP, max_size=60))
@example(
    # The file that is left is the one that was open, not the one that was asked for before, in vain.
    [(what, None) for what in ("freeze", "unusable", "redirect", "unusable", "freeze")] + [("write", b"\n")]
)
def test_any_history_leaves_what_was_accepted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    """Writes, faults, changes of the path and new programs in any order: all is there once, in order.

    A record that was written in part before a change of the path is whole in the next file.
    """
    directory = tmp_path_factory.mktemp("history")
    one = Stepped(directory / "0.log")
    result(one.start())
    accepted = b""
    count = 1
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
        elif what == "redirect":
            one.sink.redirect(target(directory / f"{count}.log"))
            count += 1
        elif what == "unusable":
            result(one.sink.redirect(target(directory / "none" / "app.log")))
        elif what == "freeze":
            states: list[Any] = []
            one.sink.freeze().addCallback(states.append)
            while not states:
                one.worker.step()
            before, one = one, Stepped(one.disk.path)
            before.disk.close()
            one.disk.room = before.disk.room
            one.sink.thaw(states[0])
            result(one.begin())
    one.disk.room = 1 << 40
    one.worker.steps()
    done = one.sink.stopService()
    one.worker.steps()
    assert result(done) is None
    files = sorted(directory.iterdir(), key=lambda file: int(file.stem))
    whole = [file.read_bytes() for file in files]
    assert b"".join(data[: data.rfind(b"\n") + 1] for data in whole) == accepted


@pytest_twisted.ensureDeferred
async def test_on_a_real_thread(tmp_path: Path) -> None:
    """Under load, while its path changes again and again, every line is there once, in order."""
    failed: list[Exception] = []
    paths = [tmp_path / f"{number}.log" for number in range(5)]
    disk = Appender(paths[0], 0o640, lambda: b"")
    sink = FileSink(disk, endpoint="applog", reactor=installed, log=Logger(), fail=failed.append)
    await sink.startService()
    for number in range(2000):
        sink.write(b"%d\n" % number)
        if number % 400 == 399 and number < 1999:
            await sink.redirect(target(paths[number // 400 + 1]))
            assert set(await sink.freeze()) == {"unwritten", "offset", "inode", "end"}
    await sink.stopService()
    assert [path.read_bytes().count(b"\n") for path in paths] == [400] * 5
    assert b"".join(path.read_bytes() for path in paths) == b"".join(b"%d\n" % n for n in range(2000))
    assert failed == []
