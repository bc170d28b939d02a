"""What the kernel holds of a stream, received or sent: how much, and how to let no more come.

The kernel acknowledges what it receives, and the sender may forget it then. So a connection that is given up
before the peer's FIN first has the kernel take nothing more, then counts what is there: the other way round,
more could come between the count and the close.
"""

import array
import ctypes
import fcntl
import socket
import struct
import termios
from contextlib import suppress

# Linux's number (asm-generic/socket.h) of an option that has no name in Python.
_SO_ATTACH_FILTER = 26
# A program of classic BPF that keeps nothing of a packet: `ret #0` (Documentation/networking/filter.rst).
_KEEP_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
_FILTER = struct.pack("@HP", 1, ctypes.addressof(_KEEP_NOTHING))


def unread(number: int) -> int:
    """Bytes of a stream in the kernel's buffer (FIONREAD, ioctl_list(2)); 0 where that can't be found out."""
    with suppress(OSError, ValueError):
        return _asked(number, termios.FIONREAD)
    return 0


def unacknowledged(number: int) -> int:
    """Bytes of a stream that the peer's side has not acknowledged (SIOCOUTQ, tcp(7) and unix(7))."""
    return _asked(number, termios.TIOCOUTQ)


def _asked(number: int, request: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(number, request, count)
    return count[0]


def refuse_more(sock: socket.socket) -> None:
    """After our FIN: a peer that goes on sending gets a RST (RFC 1122, 4.2.2.13); what came can be read.

    On a Unix socket, at any time, its next write fails with EPIPE.
    """
    with suppress(OSError):  # it is not connected any more
        sock.shutdown(socket.SHUT_RD)


def ignore_more(sock: socket.socket) -> None:
    """Before a RST of ours: what comes from now on is not acknowledged."""
    if sock.family == socket.AF_UNIX:
        refuse_more(sock)
    else:
        with suppress(OSError):  # a sandbox may forbid it: then what comes in this moment isn't counted
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _FILTER)
