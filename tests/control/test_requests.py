"""What is a request, and what is said of a line that is none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd import __version__
from sockd.control import requests
from sockd.control.language import MAX_ANSWER_BYTES, Refused
from sockd.control.requests import Request, read


def text(command: str, **arguments: Any) -> bytes:
    return json.dumps({"version": 1, "command": command, **arguments}).encode()


def refused(line: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        read(line)
    assert "\n" not in "".join(caught.value.problems)
    return caught.value


OTHER_VERSION = (
    f"versions don't match: the daemon is sockd {__version__} and speaks version 1 of the control protocol, "
    "the request is of version 2"
)
ANY_NUMBER = f"a whole number from 0 to {2**63 - 1}"
WORDS = ["version", "command", "endpoint", "after", "most", "connections", "x"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


def status_of(line: bytes) -> int:
    """Of the refusal; 0 for a request."""
    try:
        request = read(line)
    except Refused as error:
        return error.status
    assert set(request.arguments) == set(requests.ARGUMENTS[request.command].model_fields)
    return 0


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (text("status"), Request("status", {})),
        (text("drain", endpoint="echo") + b"\r", Request("drain", {"endpoint": "echo"})),
        (text("connections"), Request("connections", {"endpoint": None, "after": 0, "most": 1000})),
        (
            text("connections", endpoint="echo", after=7, most=2),
            Request("connections", {"endpoint": "echo", "after": 7, "most": 2}),
        ),
        (
            text("kick", connections=[1, 2]),
            Request("kick", {"connections": [1, 2], "who": None, "endpoint": None}),
        ),
    ],
)
def test_requests(line: bytes, request_: Request) -> None:
    """Arguments come as their model has them, with the defaults."""
    assert read(line) == request_


@pytest.mark.parametrize(
    ("line", "status", "problems"),
    [
        (b"", 64, ["the request is not JSON: see its character 1"]),
        (b"\xff", 64, ["the request is not UTF-8"]),
        (b"[" * 60_000, 64, ["the request is not JSON that can be read: it is nested too deeply"]),
        (b"[]", 64, ["the request is not a JSON object"]),
        (b'{"version": NaN}', 64, ["the request is not JSON: NaN is no value"]),
        (b'{"command": "status"}', 64, ['the request needs a "version", a whole number']),
        (b'{"version": true}', 64, ['the request needs a "version", a whole number']),
        (
            b'{"version": 2, "what": "ever"}',
            76,
            [OTHER_VERSION],
        ),
        (b'{"version": 1}', 64, ['the request needs a "command", a string']),
        (b'{"version": 1, "command": ["status"]}', 64, ['the request needs a "command", a string']),
        (text("relaod"), 64, ["there is no command 'relaod', did you mean 'reload'?"]),
        (text("drain"), 64, ["drain needs the argument endpoint"]),
        (text("drain", endpoint=7), 64, ["endpoint: this is not a string of 1 to 100 characters"]),
        (text("drain", endpoint=""), 64, ["endpoint: this is not a string of 1 to 100 characters"]),
        (text("status", all=True), 64, ["status has no argument all"]),
        (text("status", **{"a\x1bb": 1}), 64, ["status has no argument a\\x1bb"]),
        (text("connections", after="7"), 64, [f"after: this is not {ANY_NUMBER}"]),
        (text("connections", most=0), 64, ["most: this is not a whole number from 1 to 10000"]),
        (text("kick", connections=[]), 64, ["connections: this is not a list of 1 to 10000 ids"]),
        (text("kick", who="ann"), 64, ["who: this is not a list of 1 to 100 strings"]),
        (text("kick", who=["ann", ""]), 64, ["who[1]: this is not a string of 1 to 200 characters"]),
        (text("kick", connections=[1, True]), 64, [f"connections[1]: this is not an id, {ANY_NUMBER}"]),
        (text("kick", connections=[2**63]), 64, [f"connections[0]: this is not an id, {ANY_NUMBER}"]),
    ],
)  # fmt: skip
def test_what_is_no_request(line: bytes, status: int, problems: list[str]) -> None:
    """Each mistake has its line, and the status that the asking command ends with."""
    error = refused(line)
    assert (error.status, list(error.problems)) == (status, problems)


def test_integers_that_python_would_not_read() -> None:
    """Digits without end are no traceback."""
    error = refused(b'{"version": ' + b"9" * 10_000 + b"}")
    assert error.status == 64
    assert str(error) == "the request is not JSON that can be read: a number has too many digits"


def test_many_problems_are_few_lines() -> None:
    """A long list of mistakes is cut short."""
    error = refused(text("kick", connections=["x"] * 500))
    assert len(error.problems) == 11
    assert error.problems[-1] == "and 490 more"


def test_an_unknown_command_is_shown_safely() -> None:
    """What was asked for comes back short and with nothing that drives a terminal."""
    (problem,) = refused(text("\x1b" * 5000)).problems
    assert problem.startswith("there is no command '\\x1b\\x1b")
    assert len(problem) < 2000


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(WORDS), inner),
    ),
    st.booleans(),
)
def test_any_json(value: Any, versioned: bool) -> None:
    """Whatever is JSON is a request or a refusal."""
    if versioned and isinstance(value, dict):
        value["version"] = 1
    assert status_of(json.dumps(value).encode()) in (64, 76)


@given(
    st.sampled_from(sorted(requests.ARGUMENTS)),
    st.dictionaries(st.sampled_from(WORDS[2:]), SCALARS | st.lists(st.integers() | st.text())),
)
def test_any_arguments(command: str, arguments: dict[str, Any]) -> None:
    """Whatever arguments a command is given, it is a request with sound ones or a refusal."""
    assert status_of(text(command, **arguments)) in (0, 64)


@given(st.binary())
def test_any_bytes(line: bytes) -> None:
    """Bytes that are no request are a refusal; some that are drawn may be one."""
    status = status_of(line)
    assert status in (0, 64, 76)
    if not status:
        assert json.loads(line)["version"] == 1


def test_how_the_log_shows_a_request() -> None:
    """One bounded line, safe to look at."""
    assert str(Request("status", {})) == "status"
    assert str(Request("drain", {"endpoint": "a\nb"})) == "drain a\\x0ab"
    assert str(Request("kick", {"connections": [1, 2]})) == "kick 1 2"
    assert len(str(Request("kick", {"connections": list(range(10_000))}))) < 310


def test_answers() -> None:
    """A result becomes a line of ASCII; what JSON can't say is an error."""
    assert requests.answer({"ä": "\x9b\ud800"}) == (
        b'{"version":1,"ok":true,"result":{"\\u00e4":"\\u009b\\ud800"}}\n'
    )
    for bad in (object(), float("nan"), {1: object()}):
        with pytest.raises((TypeError, ValueError)):
            requests.answer(bad)


def test_answers_are_bounded() -> None:
    """What no client would take isn't sent."""
    with pytest.raises(Refused, match="the answer is too long"):
        requests.answer("x" * MAX_ANSWER_BYTES)
