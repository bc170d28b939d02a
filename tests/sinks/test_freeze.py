"""What a sink hands on to the next program."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from sockd.sinks.file import HIGH_WATER
from tests.sinks.stepped import FakeSource, Stepped, result


def frozen(one: Stepped) -> Any:
    state = result(one.sink.freeze())
    assert isinstance(state, dict)
    return state


def test_an_idle_sink_tells_at_once(one: Stepped) -> None:
    """It has nothing to hand on, and goes on as before."""
    one.start()
    one.sink.write(b"one\n")
    one.worker.steps()
    assert frozen(one)["unwritten"] == b""
    one.sink.write(b"two\n")
    one.worker.steps()
    assert one.content == b"one\ntwo\n"


def test_the_present_write_ends_first(one: Stepped) -> None:
    """What it leaves, and what came in between, is in the state before the next write begins."""
    one.start()
    one.sink.write(b"one\n")
    states: list[Any] = []
    one.sink.freeze().addCallback(states.append)
    job, done = one.worker.jobs[0]
    job()
    one.sink.write(b"two\n")
    one.worker.jobs[0] = (lambda: None, done)
    assert not states
    one.worker.step()
    assert [state["unwritten"] for state in states] == [b"two\n"]
    assert one.worker.jobs


def test_waiting_can_be_given_up(one: Stepped) -> None:
    """The write ends all the same."""
    one.start()
    one.sink.write(b"one\n")
    waits = one.sink.freeze()
    waits.cancel()
    assert result(waits).check(CancelledError)
    one.worker.steps()
    assert one.content == b"one\n"


def test_a_record_that_is_written_in_part_goes_on_at_the_byte(one: Stepped) -> None:
    """The next program writes the rest, and no mark of a crash."""
    one.start()
    one.disk.room = 6
    one.sink.write(b"one\ntwo\nthree\n")
    one.worker.steps()
    one.sink.write(b"four\n")
    state = frozen(one)
    assert (state["unwritten"], state["offset"]) == (b"two\nthree\nfour\n", 2)
    other = Stepped(one.path)
    other.sink.thaw(state)
    assert other.sink.unwritten == 13
    assert frozen(other) == state
    other.start()
    assert other.content == b"one\ntwo\nthree\nfour\n"
    assert other.sink.unwritten == 0


def test_a_full_sink_is_full_in_the_next_program(one: Stepped) -> None:
    """Its sources pause as they come, until it has written."""
    one.sink.write(b"x" * HIGH_WATER + b"\n")
    other = Stepped(one.path)
    other.sink.thaw(frozen(one))
    source = FakeSource(other.sink)
    other.sink.attach(source)
    assert source.paused
    other.start()
    assert not source.paused
    assert other.content == b"x" * HIGH_WATER + b"\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"unwritten": "text"},
        {"unwritten": b"one\n", "offset": 5},
        {"unwritten": b"one\n", "offset": -1},
        {"unwritten": b"", "offset": 0, "inode": [1]},
    ],
)
def test_what_cannot_be_used_is_refused(one: Stepped, wrong: dict[str, Any]) -> None:
    """So that the rehearsal finds it out."""
    with pytest.raises((LookupError, TypeError, ValueError)):
        one.sink.thaw({"offset": 0, "inode": [0, 0], **wrong})
