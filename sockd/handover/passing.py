"""How a handover gets to the new program: in a file that is in memory only, and open sockets beside it."""

import os
import re
import socket
import stat
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

from sockd.handover.encoding import decode, encode
from sockd.handover.errors import HandoverError
from sockd.handover.value import Handover

VARIABLE = "SOCKD_HANDOVER"  # the number of the file's descriptor: an environment holds too little itself
MOST = 2**30  # bytes


def write(handover: Handover) -> int:
    """A file descriptor of a memfd that holds the handover; it is closed on exec."""
    data = encode(handover.to_value())
    if len(data) > MOST:
        raise HandoverError(f"there are {len(data)} bytes to be handed over, at most {MOST} can be")
    fd = -1
    try:
        fd = os.memfd_create("sockd-handover", os.MFD_CLOEXEC)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise HandoverError(f"there is no memory for what is to be handed over: {error.strerror}") from None
    return fd


def read(fd: int) -> Handover:
    """What `write` wrote there. The descriptor's position doesn't matter: others may read it as well."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST:
            raise HandoverError(f"{VARIABLE}={fd}: this is not what a running sockd hands over")
        data = bytearray()
        while len(data) < status.st_size:
            piece = os.pread(fd, status.st_size - len(data), len(data))
            if not piece:
                break
            data += piece
    except OSError as error:
        raise HandoverError(f"{VARIABLE}={fd} can't be read: {error.strerror}") from None
    return Handover.from_value(decode(bytes(data)))


def take(environ: MutableMapping[str, str]) -> Handover | None:
    """What was handed to this program, if anything was. Children of it won't see it."""
    fd = _descriptor(environ)
    environ.pop(VARIABLE, None)
    if fd is None:
        return None
    handover = read(fd)
    os.close(fd)
    return handover


def peek(environ: Mapping[str, str]) -> Handover | None:
    """The same, left there to be taken."""
    fd = _descriptor(environ)
    return None if fd is None else read(fd)


def _descriptor(environ: Mapping[str, str]) -> int | None:
    text = environ.get(VARIABLE)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text):
        raise HandoverError(f"{VARIABLE}={text!r:.100} is not the number of a file descriptor")
    return int(text)


def adopt(handover: Handover) -> dict[int, socket.socket]:
    """The sockets that were handed over, by number, no longer inherited by children.

    HandoverError where one of them is none: then none of them is touched.
    """
    sockets: dict[int, socket.socket] = {}
    for fd in handover.fds():
        try:
            sockets[fd] = _unused(fd, sockets)
        except (OSError, ValueError, OverflowError) as error:
            for sock in sockets.values():
                sock.detach()
            why = error.strerror if isinstance(error, OSError) else error
            raise HandoverError(f"what was handed over can't be used: descriptor {fd}: {why}") from None
    for fd, sock in sockets.items():
        os.set_inheritable(fd, False)
        sock.setblocking(False)
    return sockets


def _unused(fd: object, sockets: dict[int, socket.socket]) -> socket.socket:
    if not isinstance(fd, int) or fd in sockets:
        raise ValueError("it is no number, or there twice")
    return socket.socket(fileno=fd)


def inherit(fds: list[int], inherited: bool) -> None:
    """Have a program that is started by exec get these, or not."""
    for fd in fds:
        with suppress(OSError):  # a connection may just have been closed
            os.set_inheritable(fd, inherited)
