"""Which of the connections that nothing is read from have lost their peer: epoll doesn't watch them."""

import array
import fcntl
import select
import socket
import termios
from collections.abc import Iterable

_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def gone(sockets: Iterable[socket.socket]) -> set[int]:
    """The numbers of those whose peer has left and of whom nothing is left to be read."""
    poll = select.poll()
    for sock in sockets:
        poll.register(sock, select.POLLRDHUP)
    return {number for number, event in poll.poll(0) if event & _ENDED and not _unread(number)}


def _unread(number: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(number, termios.FIONREAD, count)
    return count[0]
