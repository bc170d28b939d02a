"""The control socket as its clients see it: answers, bounds, and what it survives."""

import json
import os
import socket
from itertools import cycle, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from sockd.base.users import user_name
from sockd.control import requests
from sockd.control.conversation import (
    IDLE_TIMEOUT_WHEN_FULL,
    LINGER_TIMEOUT,
    REQUEST_TIMEOUT,
    Allowed,
    Caller,
)
from sockd.control.language import MAX_REQUEST_BYTES, Refused
from sockd.control.server import MAX_CONNECTIONS
from sockd.transports.acceptor import SHORTAGE_PAUSE
from tests.control.askers import House, answering, line, right, wrong
from tests.control.conftest import Open


def test_an_answer(open_house: Open) -> None:
    """A command gets its arguments by their names, and what it gives is the answer."""
    house = open_house(status=answering({"pid": 7}), suspend=lambda endpoint: {"endpoint": endpoint})
    client = house.client()
    assert client.ask("status") == right({"pid": 7})
    assert client.ask("suspend", endpoint="echo") == right({"endpoint": "echo"})


def test_answers_that_take_their_time(open_house: Open) -> None:
    """A Deferred and a coroutine are waited for."""
    waiting: Deferred[str] = Deferred()

    async def drain(endpoint: str) -> str:
        return f"{endpoint} {await waiting}"

    client = open_house(drain=drain).client()
    client.send(line("drain", endpoint="echo"))
    assert client.silent()
    waiting.callback("has drained")
    assert client.answer() == right("echo has drained")


def test_one_request_at_a_time(open_house: Open) -> None:
    """Further lines wait, in order, while one is worked on; other connections don't."""
    waiting: list[Deferred[int]] = []
    seen: list[int] = []

    def connections(endpoint: str | None, after: int, most: int) -> Deferred[int]:
        seen.append(after)
        waiting.append(Deferred())
        return waiting[-1]

    house = open_house(connections=connections, status=answering(0))
    client = house.client()
    client.send(b"".join(line("connections", after=number) for number in range(3)))
    for number in range(3):
        client.read()
        assert seen == list(range(number + 1))
        assert house.client().ask("status") == right(0)
        waiting[number].callback(number)
        assert client.answer() == right(number)


def test_a_client_that_leaves(open_house: Open) -> None:
    """What it asked for is done all the same; the answer is dropped."""
    waiting: Deferred[str] = Deferred()
    house = open_house(reload=lambda: waiting)
    client = house.client()
    client.send(line("reload"))
    house.loop.settle()
    client.sock.close()
    waiting.callback("x" * 1000)
    house.loop.until(lambda: not len(house.control))
    assert house.control.counters.refused == {}


def test_a_client_that_leaves_and_is_gone_when_the_answer_comes(open_house: Open) -> None:
    """The answer to a connection that was closed before it came is dropped."""
    waiting: Deferred[str] = Deferred()
    house = open_house(reload=lambda: waiting)
    house.client().send(line("reload"))
    house.loop.settle()
    house.control.close()
    house.loop.settle()
    assert not len(house.control)
    waiting.callback("nobody hears it")


@pytest.mark.parametrize("result", ["x" * 3_000_000, list(range(300_000))], ids=["text", "list"])
def test_large_answers(open_house: Open, result: Any) -> None:
    """They arrive whole, and the next request is answered after them."""
    client = open_house(status=answering(result), diff=answering("next")).client()
    client.send(line("status") + line("diff"))
    client.house.loop.until(client.has_two_lines)
    assert client.answer() == right(result)
    assert client.answer() == right("next")


# -- what goes wrong


def test_refusals(open_house: Open) -> None:
    """A command's own refusal comes as it is: raised, failed, of several lines."""

    def now(endpoint: str) -> None:
        raise Refused(75, "tcp://*:7: in use", "and more")

    async def later(endpoint: str) -> None:
        raise Refused(64, f"there is no endpoint {endpoint!r}")

    house = open_house(suspend=now, resume=later, restart=lambda endpoint: fail(Refused(69)))
    client = house.client()
    assert client.ask("suspend", endpoint="a") == wrong(75, "tcp://*:7: in use", "and more")
    assert client.ask("resume", endpoint="a") == wrong(64, "there is no endpoint 'a'")
    assert client.ask("restart", endpoint="a") == wrong(69)
    assert not [event for event in house.events if "log_failure" in event]


def test_bugs(open_house: Open) -> None:
    """Anything else is one line for the client, a traceback in the log, and counted."""

    def status() -> None:
        raise SystemExit("not\nnow")

    async def diff() -> None:
        raise ZeroDivisionError("oops")

    house = open_house(status=status, diff=diff, reload=answering(object()))
    client = house.client()
    assert client.ask("status") == wrong(70, "status failed: SystemExit: not now")
    assert client.ask("diff") == wrong(70, "diff failed: ZeroDivisionError: oops")
    assert client.ask("reload")["problems"][0].startswith("reload failed: TypeError: ")
    assert house.control.counters.refused == {f"exception in {w}": 1 for w in ("status", "diff", "reload")}
    failures = [event for event in house.events if "log_failure" in event]
    assert [type(event["log_failure"].value) for event in failures] == [
        SystemExit,
        ZeroDivisionError,
        TypeError,
    ]


def test_a_command_that_this_daemon_lacks(open_house: Open) -> None:
    """A declared command that does nothing in this daemon is refused."""
    assert open_house().client().ask("upgrade") == wrong(64, "this daemon has no command 'upgrade'")


def test_bad_lines(open_house: Open) -> None:
    """Each is answered with an error, and the connection goes on."""
    client = open_house(status=answering(0)).client()
    for bad in (b"\n", b"{}\n", b"\xff\n", b"[" * 60_000 + b"\n", b"GET / HTTP/1.1\r\n"):
        client.send(bad)
        answer = client.answer()
        assert (answer["ok"], answer["status"], len(answer["problems"])) == (False, 64, 1)
    client.send(b'{"version": 99, "command": "status"}\n')
    assert client.answer()["status"] == 76
    assert client.ask("status") == right(0)


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_lines_that_are_too_long(open_house: Open, ending: bytes) -> None:
    """They are answered with an error as soon as that is sure, and end the connection."""
    client = open_house().client()
    client.send(b" " * MAX_REQUEST_BYTES + ending)
    assert client.answer() == wrong(64, "the request is too long: it may have 65536 bytes")
    client.sock.shutdown(socket.SHUT_WR)
    client.read()
    assert client.ended


def test_the_longest_line(open_house: Open) -> None:
    """A line of just the bound is a request."""
    client = open_house(status=answering(0)).client()
    client.send(line("status").rjust(MAX_REQUEST_BYTES))
    assert client.answer() == right(0)


def value_of(asked: bytes) -> Any:
    """What JSON makes of it, if it is JSON."""
    try:
        return json.loads(asked.decode())
    except ValueError:
        return None


@given(st.lists(st.binary(max_size=60) | st.just(line("status")) | st.just(b"\n"), max_size=20), st.data())
def test_any_bytes_in_any_chunks(pieces: list[bytes], data: st.DataObject) -> None:
    """Each line gets one answer, however it comes and whatever it holds."""
    text = b"".join(pieces)
    with TemporaryDirectory() as directory, House(Path(directory), {"status": answering(0)}) as house:
        client = house.client()
        start = 0
        while start < len(text):
            end = data.draw(st.integers(start + 1, len(text)))
            client.send(text[start:end])
            client.read()
            start = end
    answers = client.got.splitlines()
    lines = text.split(b"\n")[:-1]
    assert len(answers) == len(lines)
    for asked, answer in zip(lines, answers, strict=True):
        assert (b'"ok":true' in answer) == (value_of(asked) == json.loads(line("status")))


def test_a_half_closed_connection(open_house: Open) -> None:
    """A client may finish sending before it is answered; then the connection ends."""
    client = open_house(status=answering(0)).client()
    client.send(line("status"))
    client.sock.shutdown(socket.SHUT_WR)
    assert client.answer() == right(0)
    assert client.ended


def test_a_request_without_an_end(open_house: Open) -> None:
    """A request that may be incomplete isn't run."""
    client = open_house(status=answering(0)).client()
    client.send(line("status")[:-1])
    client.sock.shutdown(socket.SHUT_WR)
    assert client.answer() == wrong(64, "the request has no newline at its end")
    assert client.ended


def test_a_client_that_closes_without_a_word(open_house: Open) -> None:
    """Nothing is left of it."""
    house = open_house()
    house.client().sock.close()
    house.loop.settle()
    assert len(house.control) == 0
    assert house.control.counters.accepted == 1


# -- bounds


def test_a_client_that_asks_nothing(open_house: Open) -> None:
    """It is let go after a while, counted from its last answer."""
    house = open_house(status=answering(0))
    client = house.client()
    house.loop.settle()
    house.loop.advance(REQUEST_TIMEOUT - 1)
    assert client.ask("status") == right(0)
    house.loop.advance(REQUEST_TIMEOUT - 1)
    assert client.silent()
    house.loop.advance(1)
    client.read()
    assert (client.got, client.ended, len(house.control)) == (b"", True, 0)


def test_a_client_that_asks_by_halves(open_house: Open) -> None:
    """Dripping bytes gain no time. It gets an answer, and is closed if it doesn't close its end either."""
    house = open_house()
    client = house.client()
    for _ in range(3):
        client.send(b"{")
        house.loop.settle()
        house.loop.advance(REQUEST_TIMEOUT / 3)
    assert client.answer() == wrong(64, "the request was not complete within 30s")
    client.send(b'"more": 1}\n')
    assert client.ended  # our direction of it
    assert len(house.control) == 1
    house.loop.advance(LINGER_TIMEOUT)
    house.loop.settle()
    assert len(house.control) == 0


def test_a_client_that_does_not_take_its_answer(open_house: Open) -> None:
    """Its connection is closed after a while."""
    house = open_house(status=answering("x" * 3_000_000))
    client = house.client()
    client.send(line("status"))
    house.loop.settle()
    house.loop.advance(REQUEST_TIMEOUT)
    house.loop.settle()
    assert len(house.control) == 0


def test_a_request_in_work_has_all_the_time(open_house: Open) -> None:
    """How long a command takes is the command's own affair."""
    waiting: Deferred[str] = Deferred()
    house = open_house(upgrade=lambda: waiting)
    client = house.client()
    client.send(line("upgrade"))
    house.loop.settle()
    house.loop.advance(10 * REQUEST_TIMEOUT)
    waiting.callback("done")
    assert client.answer() == right("done")


def test_so_many_connections(open_house: Open) -> None:
    """Those beyond the bound wait in the backlog until one ends."""
    house = open_house(status=answering(0))
    clients = [house.client() for _ in range(MAX_CONNECTIONS + 2)]
    house.loop.settle()
    assert len(house.control) == MAX_CONNECTIONS
    clients[-1].send(line("status"))
    assert clients[-1].silent()
    clients[0].sock.close()
    clients[1].sock.close()
    assert clients[-1].answer() == right(0)


def test_idle_connections_make_room(open_house: Open) -> None:
    """An idle client is closed when others wait; one that waits for an answer or has begun to ask stays."""
    waiting: Deferred[int] = Deferred()
    house = open_house(status=answering(0), drain=lambda endpoint: waiting)
    asking, beginning = house.client(), house.client()
    asking.send(line("drain", endpoint="echo"))
    beginning.send(b'{"version"')
    house.loop.settle()
    idle = [house.client() for _ in range(MAX_CONNECTIONS - 2)]
    late = house.client()
    house.loop.settle()
    assert len(house.control) == MAX_CONNECTIONS
    house.loop.advance(IDLE_TIMEOUT_WHEN_FULL)
    assert late.ask("status") == right(0)
    idle[0].read()
    assert idle[0].ended
    waiting.callback(7)
    assert asking.answer() == right(7)
    beginning.send(b': 1, "command": "status"}\n')
    assert beginning.answer() == right(0)


# -- who may


class Refusing(Allowed):
    """Allows nobody."""

    def admits(self, caller: Caller) -> bool:
        return False


def test_callers_who_may_not(open_house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get one answer, whatever they ask; the log has a few lines for each user, with the name."""
    asked: list[str] = []
    house = open_house(Allowed(os.getuid(), None), reload=lambda: asked.append("reload"))
    monkeypatch.setattr(Caller, "of", lambda sock: Caller(4711, 12, frozenset((4711,))))
    for _ in range(3):
        client = house.client()
        client.send(line("reload"))
        assert client.answer() == wrong(77, "uid 4711 is not allowed to use the control socket")
        assert client.ended
    assert asked == []
    why = "is not allowed: neither root, nor sockd's user, nor in daemon.control_group"
    assert house.told() == [f"control: uid=4711,pid=12 {why}"] * 3
    assert house.client().ask("reload")["status"] == 77
    assert len(house.told()) == 3
    monkeypatch.setattr(Caller, "of", lambda sock: Caller(0, 13, frozenset()))
    house.control.allowed = Refusing(0, None)
    assert house.client().ask("reload")["status"] == 77
    assert house.told()[3:] == [f"control: uid=0,pid=13 (root) {why}"]
    assert house.control.counters.refused == {"not allowed": 5}
    monkeypatch.setattr(Caller, "of", lambda sock: Caller(4711, 12, frozenset((4711,))))
    house.control.allowed = Allowed(1, 4711)
    assert house.client().ask("reload") == right(None)


def test_what_the_log_says_of_requests(open_house: Open) -> None:
    """Callers that change something are logged, at a bounded rate; what is suppressed is counted."""
    house = open_house(status=answering(0), suspend=answering(0))
    client = house.client()
    client.ask("status")
    assert house.told() == []
    for number in range(15):
        client.ask("suspend", endpoint=f"e{number}")
    name = user_name(os.getuid())
    who = f"control: uid={os.getuid()},pid={os.getpid()}" + (f" ({name})" if name else "")
    assert house.told() == [f"{who}: suspend e{number}" for number in range(10)]
    house.loop.advance(1)
    assert house.told()[10:] == ["control: within a second also: 5 x suspend"]
    client.ask("suspend", endpoint="late")
    assert house.told()[11:] == [f"{who}: suspend late"]


# -- what the system does to us


def test_descriptors_that_ran_out(open_house: Open) -> None:
    """Newcomers wait; it is logged, not too often."""
    house = open_house(status=answering(0))
    house.sock.short = repeat(True)
    client = house.client()
    client.send(line("status"))
    house.loop.settle()
    house.loop.advance(SHORTAGE_PAUSE)
    house.loop.settle()
    house.sock.short = repeat(False)
    house.loop.advance(SHORTAGE_PAUSE)
    assert client.answer() == right(0)
    assert house.told() == [
        "control: can't accept: Too many open files; new connections wait in the kernel's backlog"
    ]
    assert house.control.counters.refused == {"accepting failed": 2}


def test_descriptors_that_are_kept_back(open_house: Open) -> None:
    """A newcomer gets one of those when there is no other."""
    house = open_house(status=answering(0))
    house.sock.short = cycle([True, False])
    assert house.client().ask("status") == right(0)
    assert house.told() == []


def test_who_asks_nothing_gives_its_descriptor_back(open_house: Open) -> None:
    """When none are left for others, as when there are as many connections as may be."""
    house = open_house(status=answering(0))
    idle = house.client()
    house.loop.settle()
    house.sock.short = repeat(True)
    house.client()
    house.loop.settle()
    house.loop.advance(IDLE_TIMEOUT_WHEN_FULL)
    idle.read()
    assert idle.ended


def test_an_acceptor_that_the_reactor_dropped(open_house: Open) -> None:
    """It is logged as a bug, and another one takes its place soon after."""
    house = open_house(status=answering(0))
    dropped = house.drop_acceptor()
    client = house.client()
    client.send(line("status"))
    assert client.silent()
    house.loop.advance(SHORTAGE_PAUSE)
    assert client.answer() == right(0)
    dropped.connectionLost(Failure(ZeroDivisionError("once more")))
    assert [event["log_failure"].type for event in house.events] == [ZeroDivisionError]


def test_closing_while_there_is_no_acceptor(open_house: Open) -> None:
    """Nothing comes back afterwards."""
    house = open_house()
    house.drop_acceptor()
    house.control.close()
    assert not house.loop.getDelayedCalls()


def test_a_bug_in_the_conversation(open_house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends its own connection and no other."""
    house = open_house(status=answering(0))

    def broken(line: bytes) -> None:
        raise ZeroDivisionError("oops")

    client = house.client()
    with monkeypatch.context() as patched:
        patched.setattr(requests, "read", broken)
        client.send(line("status"))
        client.read()
    assert client.ended
    assert house.control.counters.refused == {"exception in dataReceived": 1}
    assert house.client().ask("status") == right(0)


# -- the end, and a new program


def test_close(open_house: Open) -> None:
    """Connections end, and so does the socket."""
    house = open_house(status=answering(0))
    client = house.client()
    assert client.ask("status") == right(0)
    house.control.close()
    client.read()
    assert client.ended
    with pytest.raises(ConnectionRefusedError):
        house.client()


def test_the_answer_to_an_upgrade_comes_from_the_new_program(open_house: Open) -> None:
    """On the connection that asked, and requests that followed are worked on there."""
    house = open_house(upgrade=Deferred, status=answering("old"))
    client, other = house.client(), house.client()
    other.ask("status")
    client.send(line("upgrade") + line("status") + line("status")[:9])
    house.loop.settle()
    ((sock, state),) = house.control.pending()
    assert house.control.pending() == [(sock, state)]  # it is a snapshot
    house.commands["status"] = answering("new")
    house.replaced()
    renewed = house.new(house.sock.dup())
    conversation = renewed.adopt(sock.dup(), state)
    assert client.silent()
    conversation.answer({"version": "2"})
    assert client.answer() == right({"version": "2"})
    assert client.answer() == right("new")
    client.send(line("status")[9:])
    assert client.answer() == right("new")
    renewed.close()


@pytest.mark.parametrize("state", [{}, {"from another version": 1}])
def test_an_upgrade_that_failed_after_all(open_house: Open, state: dict[str, Any]) -> None:
    """The new program can say so, too."""
    house = open_house(upgrade=Deferred)
    client = house.client()
    client.send(line("upgrade"))
    house.loop.settle()
    ((sock, _),) = house.control.pending()
    house.replaced()
    renewed = house.new(house.sock.dup())
    conversation = renewed.adopt(sock.dup(), state)
    conversation.refuse(70, "it went wrong")
    assert client.answer() == wrong(70, "it went wrong")
    renewed.close()


def test_no_upgrade_was_asked_for(open_house: Open) -> None:
    """Other requests in work are nothing for the new program, nor is a client that left."""
    house = open_house(reload=Deferred, upgrade=answering(0))
    house.client().send(line("reload"))
    client = house.client()
    assert client.ask("upgrade") == right(0)
    assert house.control.pending() == []
