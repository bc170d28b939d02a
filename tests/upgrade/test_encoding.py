"""States come back as they were; one line says what can't be written or read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.upgrade.passing import FORMAT, decode, encode
from sockd.upgrade.value import HandoverError

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
)
KEYS = st.text() | st.sampled_from(["$", "$bytes", "$$bytes", "sockd handover"])
STATES = st.recursive(
    SIMPLE, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)


@given(STATES)
def test_a_state_comes_back_as_it_was(state: object) -> None:
    """Types included; whatever its keys look like."""
    assert decode(encode(state)) == state
    assert repr(decode(encode(state))) == repr(state)


@given(
    st.binary() | STATES.map(encode).flatmap(lambda data: st.integers(0, len(data)).map(lambda n: data[:n]))
)
def test_whatever_is_read_gives_a_state_or_an_error_of_one_line(data: bytes) -> None:
    """Nobody sees a traceback."""
    try:
        decode(data)
    except HandoverError as error:
        assert "\n" not in str(error)  # noqa: PT017 - other input may well be sound


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            {"endpoints": {"lobby": [1, {2}]}},
            "endpoints.lobby.1: a value of the type set can't be handed over",
        ),
        ((1, 2), "the state: a value of the type tuple can't be handed over"),
        ({"a": {3: 4}}, "a: its key 3 is not text"),
        ([10**5000], "can't be handed over: Exceeds the limit"),
    ],
)
def test_what_can_not_be_written_is_named(state: object, said: str) -> None:
    """A third party's protocol may try anything."""
    with pytest.raises(HandoverError, match=r"^[^\n]*$") as caught:
        encode(state)
    assert said in str(caught.value)


def test_a_state_without_an_end_is_refused() -> None:
    """A list that holds itself."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(HandoverError, match="nested too deeply"):
        encode(endless)


def test_a_header_tells_form_and_version() -> None:
    """A program that reads another form names the version that wrote it."""
    header = json.loads(encode(None).partition(b"\n")[0])
    assert header["sockd handover"] == FORMAT
    with pytest.raises(HandoverError, match=r"sockd 9\.1 hands over in form 2, while .* reads form 1"):
        decode(b'{"sockd handover": 2, "version": "9.1"}\nnull')


@pytest.mark.parametrize(
    "body",
    [
        b'{"$bytes": 1}',
        b'{"$bytes": "AA==", "more": 1}',
        b'{"$time": 1}',
        b'{"$$a": 1, "$b": 2}',
        b'{"$bytes": "A"}',
        b"[" * 100_000,
        b"",
    ],
)
def test_a_form_that_is_not_known_is_refused(body: bytes) -> None:
    """A later version may write more of them."""
    with pytest.raises(HandoverError, match="can't be read"):
        decode(encode(None).partition(b"\n")[0] + b"\n" + body)


@pytest.mark.parametrize("data", [b"", b"\n", b"[]\nnull", b"{}\nnull", b"\xff\nnull", b"[" * 100_000])
def test_a_file_of_somebody_else_is_refused(data: bytes) -> None:
    """An environment variable may have been set by hand."""
    with pytest.raises(HandoverError, match="not what a running sockd hands over"):
        decode(data)
