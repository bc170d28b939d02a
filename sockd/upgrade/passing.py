"""How a handover gets to the new program: as a file in memory, with open sockets.

The file is a memfd (memfd_create(2)), so that no disk can be full and nobody else reads it. Its first line
says the form, the rest is JSON, in which bytes are {"$bytes": base64} and a key that begins with $ has one
more. Descriptors stay open through exec with their numbers, which the handover names.
"""

import binascii
import json
import os
import re
import socket
import stat
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

from sockd import __version__
from sockd.base.anonymous import nameless
from sockd.base.frozen import Frozen, State
from sockd.upgrade.value import Handover, HandoverError

VARIABLE = "SOCKD_HANDOVER"  # the number of the file's descriptor: the environment itself holds too little
SIZE_LIMIT = 2**30  # bytes
FORMAT = 1
_BYTES = "$bytes"


def encode(value: State) -> bytes:
    """The value as bytes; HandoverError names the place of what can't be written."""
    header = json.dumps({"sockd handover": FORMAT, "version": __version__})
    try:
        body = json.dumps(_written(value, ()), separators=(",", ":"))
    except RecursionError:
        raise HandoverError("a state is nested too deeply to be handed over") from None
    except ValueError as error:  # an int of more digits than Python writes
        raise HandoverError(f"a state can't be handed over: {error}") from None
    return f"{header}\n{body}".encode()


def _written(value: State, place: tuple[str | int, ...]) -> State:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {_BYTES: binascii.b2a_base64(value, newline=False).decode()}
    if isinstance(value, list):
        return [_written(item, (*place, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise HandoverError(f"{_shown(place)}: its key {key!r:.100} is not text")
        return {
            f"${key}" if key.startswith("$") else key: _written(item, (*place, key))
            for key, item in value.items()
        }
    raise HandoverError(f"{_shown(place)}: a value of the type {type(value).__name__} can't be handed over")


def _shown(place: tuple[str | int, ...]) -> str:
    return ".".join(map(str, place)) or "the state"


def decode(data: bytes) -> State:
    """The value again; HandoverError where this program can't read it."""
    first, _, body = data.partition(b"\n")
    try:
        header = json.loads(first)
        form, version = header["sockd handover"], header["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HandoverError("this is not what a running sockd hands over") from None
    if form != FORMAT:
        raise HandoverError(
            f"sockd {version} hands over in form {form!r:.100}, while {__version__} reads form {FORMAT}"
        )
    try:
        return json.loads(body, object_hook=_read)
    except (ValueError, RecursionError) as error:
        raise HandoverError(f"what sockd {version} hands over can't be read: {error}") from None


def _read(value: Frozen) -> State:
    if _BYTES in value:
        if len(value) != 1 or not isinstance(value[_BYTES], str):
            raise ValueError(f"wrong use of {_BYTES}")
        return binascii.a2b_base64(value[_BYTES])
    if not any(key.startswith("$") for key in value):
        return value
    if not all(key.startswith("$$") for key in value if key.startswith("$")):
        raise ValueError("an unknown form of a value")
    return {key.removeprefix("$"): item for key, item in value.items()}


def write(handover: Handover) -> int:
    """A file descriptor of a memfd that holds the handover; it is closed on exec."""
    data = encode(handover.to_value())
    if len(data) > SIZE_LIMIT:
        raise HandoverError(f"there are {len(data)} bytes to be handed over, at most {SIZE_LIMIT} can be")
    fd = -1
    try:
        fd = nameless("sockd-handover")
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise HandoverError(f"there is no memory for what is to be handed over: {error.strerror}") from None
    return fd


def read(fd: int) -> Handover:
    """The handover that `write` wrote. The descriptor's position stays, as others may read it too."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SIZE_LIMIT:
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
    """The handover to this program, if there is one. Its children won't see it."""
    fd = _descriptor(environ)
    environ.pop(VARIABLE, None)
    if fd is None:
        return None
    handover = read(fd)
    os.close(fd)
    return handover


def peek(environ: Mapping[str, str]) -> Handover | None:
    """The same, which stays there to be taken."""
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

    HandoverError where a descriptor is no socket: then all are left as they are.
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
        raise ValueError("it is not a number, or is named twice")
    return socket.socket(fileno=fd)


def inherit(fds: list[int], inherited: bool) -> None:
    """Whether a program that is started by exec gets these descriptors."""
    for fd in fds:
        with suppress(OSError):  # a connection may just have been closed
            os.set_inheritable(fd, inherited)
