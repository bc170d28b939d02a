"""Peers that left while nothing was read from them."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from sockd.transports.unread import gone
from tests.transports.loop import tcp_pair


@pytest.mark.parametrize("pair", [socket.socketpair, tcp_pair])
def test_who_is_gone(pair: Callable[[], Any]) -> None:
    """One that closed, or finished sending, of whom nothing is left to be read; nobody else."""
    sockets = {name: pair() for name in ("there", "sent", "closed", "finished", "sent and closed")}
    sockets["sent"][1].send(b"x")
    sockets["closed"][1].close()
    sockets["finished"][1].shutdown(socket.SHUT_WR)
    sockets["sent and closed"][1].send(b"x")
    sockets["sent and closed"][1].close()
    ours = {name: both[0] for name, both in sockets.items()}
    numbers = {sock.fileno(): name for name, sock in ours.items()}
    assert {numbers[number] for number in gone(ours.values())} == {"closed", "finished"}
    assert ours["sent and closed"].recv(1) == b"x"
    assert {numbers[number] for number in gone(ours.values())} == {"closed", "finished", "sent and closed"}
    assert gone([]) == set()
    for both in sockets.values():
        for sock in both:
            sock.close()
