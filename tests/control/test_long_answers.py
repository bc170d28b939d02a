"""Long answers: made while they are sent, within a slice that all callers share, never in memory whole."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sockd.control import conversation
from sockd.control.answers import Afterwards, Rows, pieces
from sockd.control.conversation import ANSWER_TIMEOUT, PART_SIZE, REQUEST_TIMEOUT
from tests.control.askers import line, right
from tests.control.conftest import Open

ROW = {"peer": "x" * 1000}
MANY = 2000  # rows of 1 KB: more than the kernel's buffers hold


class Rowed:
    """The effect of a command with many rows; `made` of them have been made."""

    def __init__(self, many: int = MANY, raises_at: int | None = None) -> None:
        self.many = many
        self.raises_at = raises_at
        self.made = 0

    def __call__(self) -> Any:
        return {"connections": Rows(self._rows()), "more": Afterwards(lambda: self.made > 5)}

    def _rows(self) -> Iterator[Any]:
        while self.made < self.many:
            if self.made == self.raises_at:
                raise ZeroDivisionError
            self.made += 1
            yield ROW


@pytest.mark.parametrize(
    "result",
    [{}, {"a": []}, {"a": [], "b": 1, "c": [1, "x", None]}, {"a": {"b": [1]}}, [1, 2], "text", None],
)
def test_pieces_make_the_line_of_an_answer(result: Any) -> None:
    """Whatever a command's result is."""
    text = "".join(pieces(result))
    assert text.endswith("\n")
    assert json.loads(text) == {"version": 1, "ok": True, "result": result}


def test_what_cannot_be_said_is_ascii() -> None:
    """A lone surrogate or an escape of a peer's reaches no decoder and no terminal."""
    assert "".join(pieces({"a": ["\udcff\x1b"]})).isascii()


def test_an_answer_is_made_as_it_is_read(open_house: Open) -> None:
    """A caller that reads nothing has one part waiting, and what the kernel's buffers hold."""
    rows = Rowed()
    house = open_house(status=rows)
    client = house.client()
    client.send(line("status"))
    house.loop.settle()
    few = rows.made
    assert few < MANY
    house.loop.settle()
    assert rows.made == few
    assert client.answer() == right({"connections": [ROW] * MANY, "more": True})
    assert client.ask("status") == right({"connections": [], "more": True})


def test_a_caller_that_stops_reading_is_cut(open_house: Open) -> None:
    """Each part has to be taken in time, and all of them."""
    house = open_house(status=Rowed())
    client = house.client()
    client.send(line("status"))
    house.loop.settle()
    house.loop.advance(REQUEST_TIMEOUT)
    house.loop.settle()
    assert not len(house.control)
    client.read()
    assert client.ended


def test_a_caller_that_reads_ever_so_slowly_is_cut(open_house: Open) -> None:
    """What an answer is made of, such as connections that have ended, isn't kept for it for ever."""
    house = open_house(status=Rowed(20_000))
    client = house.client()
    client.send(line("status"))
    for _ in range(int(ANSWER_TIMEOUT / REQUEST_TIMEOUT) * 2):
        house.loop.settle()
        if not len(house.control):
            break
        client.sock.recv(2 * PART_SIZE)
        house.loop.settle()
        house.loop.advance(REQUEST_TIMEOUT / 2)
    assert not len(house.control)


def test_callers_take_turns(open_house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of all answers share one slice of a turn, and are made one after the other."""
    monkeypatch.setattr(conversation, "PART_SIZE", 10_000)
    effects = Rowed(100), Rowed(100)
    house = open_house(status=effects[0], diff=effects[1])
    clients = [house.client(), house.client()]
    clients[0].send(line("status"))
    clients[1].send(line("diff"))
    house.loop.until(lambda: effects[0].made and effects[1].made)
    assert max(effect.made for effect in effects) < 100
    for client in clients:
        assert client.answer() == right({"connections": [ROW] * 100, "more": True})


def test_a_row_that_raises(open_house: Open) -> None:
    """Nothing has been sent yet: the reason is the answer. Else the connection is cut: it can't be said."""
    house = open_house(status=Rowed(raises_at=0), diff=Rowed(raises_at=MANY - 1))
    client = house.client()
    assert client.ask("status")["status"] == 70
    client.send(line("diff"))
    while not client.ended:
        client.read()
    assert b"\n" not in client.got
    assert any("failed" in event for event in house.told())


def test_an_answer_whose_time_is_over_with_its_last_piece(
    open_house: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request is read immediately: nothing is left to send, after which it would be read."""
    monkeypatch.setattr(conversation, "PART_TIME", -1.0)  # each piece is a part of its own
    client = open_house(status=Rowed(3)).client()
    assert client.ask("status")["ok"]
    assert client.ask("status")["ok"]
