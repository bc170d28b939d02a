"""The clients of the load tests count what they say they count."""

import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.end_to_end import load
from tests.end_to_end.load import Visits, destination
from tests.end_to_end.programs import BOUND
from tests.end_to_end.resident import Numbers, line
from tests.end_to_end.traffic import until

VISITS = 3


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        one.settimeout(BOUND)
        yield one


def visits_of(listening: socket.socket) -> Visits:
    return Visits([f"tcp://127.0.0.1:{listening.getsockname()[1]}"], workers=1)


def reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


ANSWERS: dict[str, Callable[[socket.socket, bytes], object]] = {
    "wrong": lambda one, data: one.sendall(data[:-1] + bytes([data[-1] ^ 1])),
    "more": lambda one, data: one.sendall(data + b"x"),
    "cut": lambda one, data: one.sendall(data[:-1]),
    "reset": lambda one, _: reset(one),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_miss_has_its_name(answer: str, listening: socket.socket) -> None:
    """An echo that errs each time: so many misses of that kind, and nothing else."""
    visits = visits_of(listening)
    visits.start()
    for number in range(VISITS):
        one, _ = listening.accept()
        with one:
            data = one.recv(100_000)
            if number == VISITS - 1:
                visits.over.set()
            ANSWERS[answer](one, data)
    result = visits.finish()
    assert (result.ok, result.missed) == (0, {"wrong" if answer == "more" else answer: VISITS})
    assert len(result.examples) == VISITS


def test_an_answer_that_does_not_come(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a visit is bounded."""
    monkeypatch.setattr(load, "STEP_TIMEOUT", 0.01)
    visits = visits_of(listening)
    visits.start()
    one, _ = listening.accept()
    with one:
        visits.over.set()
        result = visits.finish()
    assert set(result.missed) == {"timed out"}


def test_nobody_is_there(listening: socket.socket) -> None:
    """Refusals count, on TCP and where there is no Unix socket."""
    visits = Visits([f"tcp://127.0.0.1:{listening.getsockname()[1]}", "unix:///nowhere/at.all"], workers=1)
    listening.close()
    visits.start()
    until(lambda: len(visits.result.examples) >= VISITS)
    result = visits.finish()
    assert set(result.missed) == {"refused"}
    assert result.missed["refused"] >= VISITS


def test_a_full_backlog_is_busy() -> None:
    """A Unix socket whose backlog is full is tried again, and that is no miss."""
    name = f"@sockd-{id(ANSWERS)}-{time.monotonic_ns()}"
    family, where = destination(f"unix://{name}")
    with socket.socket(family) as listening, socket.socket(family) as queued:
        listening.bind(where)
        listening.listen(0)
        listening.settimeout(BOUND)
        queued.connect(where)
        visits = Visits([f"unix://{name}"], workers=1, most=1)
        visits.start()
        until(lambda: visits.result.busy > 0)
        listening.accept()[0].close()
        one, _ = listening.accept()
        with one:
            one.sendall(one.recv(100_000))
        result = visits.finish()
    assert (result.ok, result.missed) == (1, {})


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=3))
def test_numbers(order: list[int], again: list[int]) -> None:
    """Each that came once is heard or disordered, each further time duplicated; none is lost in the end."""
    numbers = Numbers()
    told = [numbers.hear(one) for one in (*order, *again)]
    assert told.count("duplicated") == len(again)
    disordered = sum(any(before > one for before in order[:at]) for at, one in enumerate(order))
    assert told.count("disordered") == disordered
    assert numbers.lost(6) == 0
    assert numbers.lost(8) == 2


@given(st.lists(st.integers(0, 9), unique=True))
def test_lost_numbers(came: list[int]) -> None:
    """What never came is lost, at the end and in between."""
    numbers = Numbers()
    for one in came:
        numbers.hear(one)
    assert numbers.lost(10) == 10 - len(came)


@given(st.integers(0, 10_000), st.sampled_from([400, 8000]))
def test_lines_are_short_enough(number: int, longest: int) -> None:
    """A line begins with its number and stays below what a chat takes."""
    data = line("chat99", number, longest)
    assert data.startswith(f"{number} chat99 ".encode())
    assert data.index(b"\n") == len(data) - 1
    assert len(data) < longest + 100
