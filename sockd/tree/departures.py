"""Which peers have left connections that nothing is read from: a question to the kernel, not to the peers."""

import select
import socket
from collections.abc import Iterable

from sockd.transports.unread import unread

_LEFT = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def departed(sockets: Iterable[socket.socket]) -> tuple[set[int], set[int]]:
    """The descriptors whose peer has left with nothing of its own to be read, and those that it has reset.

    One may be in both. A Unix socket is never reset: closing it with something unread looks the same.
    """
    poll = select.poll()
    local = set()
    for sock in sockets:
        poll.register(sock, select.POLLRDHUP)
        if sock.family == socket.AF_UNIX:
            local.add(sock.fileno())
    left, reset = set(), set()
    for number, event in poll.poll(0):
        if event & (select.POLLERR | select.POLLHUP) and number not in local:
            reset.add(number)
        if event & _LEFT and not unread(number):
            left.add(number)
    return left, reset
