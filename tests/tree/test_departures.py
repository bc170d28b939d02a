"""Which paused connections have lost their peer for good, and which still hold something to be read."""

import socket
import struct
from collections.abc import Callable

import pytest

from sockd.tree.departures import departed
from tests.transports.loop import tcp_pair

RESET = struct.pack("ii", 1, 0)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def last_words(client: socket.socket) -> None:
    client.send(b"last words")
    client.close()


def stays(client: socket.socket) -> None:
    """The peer does nothing."""


def resets_after_words(client: socket.socket) -> None:
    client.send(b"last words")
    reset(client)


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
@pytest.mark.parametrize(
    ("what", "has_left", "has_reset"),
    [
        (stays, False, False),
        (lambda client: client.send(b"data"), False, False),
        (lambda client: client.shutdown(socket.SHUT_RD), False, False),
        (lambda client: client.shutdown(socket.SHUT_WR), True, False),
        (lambda client: client.close(), True, False),
        (reset, True, True),
        (last_words, False, False),
        (resets_after_words, False, True),
    ],
    ids=[
        "stays",
        "sends",
        "reads no more",
        "half-closes",
        "leaves",
        "resets",
        "leaves words",
        "words, then reset",
    ],
)
def test_left(
    what: Callable[[socket.socket], object],
    has_left: bool,
    has_reset: bool,
    pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    """Each by itself, beside one that stays; once the bytes were read it has left too."""
    ours, client = pair()
    beside, other = pair()
    what(client)
    number = {ours.fileno()}
    # A reset can't be told on a Unix socket.
    reset_seen = number if has_reset and pair is tcp_pair else set()
    assert departed([ours, beside]) == (number if has_left else set(), reset_seen)
    if what in (last_words, resets_after_words):
        ours.recv(100)
        assert departed([ours, beside]) == (number, reset_seen)
    for sock in (ours, client, beside, other):
        sock.close()


def test_nobody() -> None:
    """No connections, nobody gone."""
    assert departed([]) == (set(), set())
