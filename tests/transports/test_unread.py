"""Which paused connections have lost their peer for good, and which still hold something to be read."""

import socket
import struct
from collections.abc import Callable

import pytest

from sockd.transports.unread import gone
from tests.transports.loop import tcp_pair

RESET = struct.pack("ii", 1, 0)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def last_words(client: socket.socket) -> None:
    client.send(b"last words")
    client.close()


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
@pytest.mark.parametrize(
    ("what", "is_gone"),
    [
        (lambda client: None, False),
        (lambda client: client.send(b"data"), False),
        (lambda client: client.shutdown(socket.SHUT_RD), False),
        (lambda client: client.shutdown(socket.SHUT_WR), True),
        (lambda client: client.close(), True),
        (reset, True),
        (last_words, False),
    ],
    ids=["stays", "sends", "reads no more", "half-closes", "leaves", "resets", "leaves unread bytes"],
)
def test_gone(
    what: Callable[[socket.socket], object],
    is_gone: bool,
    pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    """Each by itself, beside one that stays; once the bytes were read it is gone too."""
    ours, client = pair()
    beside, other = pair()
    what(client)
    assert gone([ours, beside]) == ({ours.fileno()} if is_gone else set())
    if what is last_words:
        ours.recv(100)
        assert gone([ours, beside]) == {ours.fileno()}
    for sock in (ours, client, beside, other):
        sock.close()


def test_nobody() -> None:
    """No connections, nobody gone."""
    assert gone([]) == set()
