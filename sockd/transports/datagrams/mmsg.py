"""Many datagrams in one system call: recvmmsg(2) and sendmmsg(2) on arrays that are laid out once.

# Theory of operation

Echoing 100 bytes with `recvfrom` and `sendto` costs 3 µs of Python a datagram, and two entries to the kernel.
With these two calls an entry serves dozens of datagrams. But they take an array of C structures, and filling
those in one by one from Python would cost as much again. Two things make it less than 1 µs a datagram.

**The layout is constant.** An array of `struct mmsghdr` has, for each datagram, pointers to a buffer for
the payload, to one for the sender's address and to one for ancillary data. For receiving, all of that is
allocated and written once (`Inbox.__init__`); a call changes only what the kernel writes. For sending, the
pointers differ each time, but a peer's header is packed once and kept with the Peer (`Peer.packed`).

**Rows are handled as columns.** The results are the same fields of many structures in a row. One `struct`
with a format that repeats (`_Columns`) reads or writes such a field of all rows in one call of C, and skips
the bytes between. Datagrams of equal length are cut out of the buffer in the same way.

The sender's address and ancillary data are not parsed, but compared as bytes: together they are the key by
which `Senders` finds the Peer. One Inbox serves all ports of a kind, as everything is copied out before the
next call.

This takes glibc on a 64-bit machine, whose layout of the structures it assumes. Elsewhere recvfrom and sendto
do the work, and they are what the tests compare this module with.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import accumulate, compress

from sockd.base.peers import Peer
from sockd.transports.datagrams.sockaddr import NAME_SIZE, NOT_PACKED, pack_address, pack_control

# struct mmsghdr (recvmmsg(2)): a name (the address) and its length, one iovec, ancillary data and its length,
# flags, and the datagram's length. The kernel writes the last two, and the length of the name.
_HEADER = struct.Struct("@PI4xPNPNi4xI4x")
_RESULTS = "48xi4xI4x"
_NAMED = "8xI52x"
_IOVEC = struct.Struct("@PN")
_WORDS, _IOVEC_AT = _HEADER.size // 8, 2  # of 64 bits

# Keeps buffers from beginning in the same lines of the processor's caches, for which they would contend.
_STAGGER = 33 * 64
# From this many datagrams of one length on, cutting them out as rows is quicker: 40 ns each instead of 65.
ALIKE = 8
# Bytes of address space for one call's datagrams; memory is taken only as they fill it.
_ROOM = 64 * 2**20

Call = Callable[..., int]


class NoAddressError(ValueError):
    """A peer has no address in a form that the kernel knows; nothing was sent."""


@cache
def calls() -> tuple[Call, Call] | None:
    """The C library's recvmmsg and sendmmsg; None where they are missing, forbidden or of another layout."""
    if struct.calcsize("P") != 8 or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return None
    # PyDLL keeps the interpreter's lock. No call waits (MSG_DONTWAIT), and releasing it for each costs more.
    library = ctypes.PyDLL(None, use_errno=True)
    found: list[Call] = []
    for name, timeout in (("recvmmsg", [None]), ("sendmmsg", [])):
        call = getattr(library, name, None)
        if call is None:
            return None
        call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
        call.argtypes += [ctypes.c_void_p for _ in timeout]
        call(-1, None, 0, 0, *timeout)
        if ctypes.get_errno() != errno.EBADF:  # ENOSYS of an old kernel, EPERM of a sandbox
            return None
        found.append(call)
    receive, send = found
    return receive, send


def _memory(size: int) -> tuple[mmap.mmap, int]:
    """Zeroed memory and its address; pages that are never touched cost nothing."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a sandbox may forbid it: then a page may be a large one
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class Inbox:
    """Arrays for one call's datagrams, at most `count` of up to `longest` bytes each.

    A sender's key is the ancillary data (`control` bytes) followed by the address, which has `name` bytes or,
    where that is None, as many as the kernel says. `payload` is the memory that datagrams are received in.
    """

    def __init__(self, call: Call, most: int, longest: int, control: int, name: int | None) -> None:
        self._call = call
        self._stride = stride = longest + _STAGGER
        self.count = max(1, min(most, _ROOM // stride))
        numbers = range(self.count)
        self._starts = [number * stride for number in numbers]
        self.payload, payload_at = _memory(self.count * stride)
        self._rows = memoryview(self.payload)
        self._control = control
        self._width = control + NAME_SIZE
        self._key_starts = [number * self._width for number in numbers]
        self._keys, keys_at = _memory(self.count * self._width)
        self._named = name is not None
        self._key_columns = _Columns(f"{control + (name or 0)}s{NAME_SIZE - (name or 0)}x")
        self._iovecs, iovecs_at = _memory(self.count * _IOVEC.size)
        self._headers, self._at = _memory(self.count * _HEADER.size)
        for number, start, key in zip(numbers, self._starts, self._key_starts, strict=True):
            iovec = number * _IOVEC.size
            _IOVEC.pack_into(self._iovecs, iovec, payload_at + start, longest)
            _HEADER.pack_into(
                self._headers, number * _HEADER.size, keys_at + key + control, NAME_SIZE,
                iovecs_at + iovec, 1, keys_at + key if control else 0, control, 0, 0,
            )  # fmt: skip
        self._fresh = self._headers[:]
        self._results = _Columns(_RESULTS)
        self._names = _Columns(_NAMED)

    def receive(
        self, descriptor: int, most: int
    ) -> tuple[Sequence[bytes], Sequence[bytes], Sequence[int], Sequence[bytes]]:
        """Datagrams, the keys of their senders, the lengths of all that came, and the keys of the truncated.

        Datagrams that were truncated are left out of the first two. OSError where none is there, or where an
        error comes first.
        """
        taken = self._call(descriptor, self._at, most, socket.MSG_DONTWAIT, None)
        if taken < 0:
            raise _failed()
        results = self._results[taken].unpack_from(self._headers)
        flags, lengths = results[::2], results[1::2]
        datagrams: Sequence[bytes]
        size = lengths[0]
        if taken >= ALIKE and lengths.count(size) == taken:
            rows = struct.iter_unpack(f"{size}s{self._stride - size}x", self._rows[: taken * self._stride])
            datagrams = [data for (data,) in rows]
        else:
            payload = self.payload
            datagrams = [
                payload[start : start + length] for start, length in zip(self._starts, lengths, strict=False)
            ]
        keys: Sequence[bytes]
        if self._named:
            keys = self._key_columns[taken].unpack_from(self._keys)
        else:
            names = self._names[taken].unpack_from(self._headers)
            keys = [
                self._keys[start : start + self._control + name]
                for start, name in zip(self._key_starts, names, strict=False)
            ]
        truncated: Sequence[bytes] = ()
        if any(flags):
            whole = [not each & socket.MSG_TRUNC for each in flags]
            truncated = [key for key, complete in zip(keys, whole, strict=True) if not complete]
            datagrams, keys = list(compress(datagrams, whole)), list(compress(keys, whole))
        if self._control:
            self._clear(taken)
        return datagrams, keys, lengths, truncated

    def _clear(self, taken: int) -> None:
        """Restore what the kernel wrote over: the sizes of its buffers; and clear the keys, lest two mix."""
        end = taken * _HEADER.size
        self._headers[:end] = self._fresh[:end]
        end = taken * self._width
        self._keys[:end] = bytes(end)

    def give_back(self) -> None:
        """Return the memory that datagrams filled to the kernel."""
        with suppress(OSError):  # a sandbox may forbid it: then the memory is kept for the next datagrams
            self.payload.madvise(mmap.MADV_DONTNEED)


class _Columns(dict[int, struct.Struct]):
    """By a number of rows, the struct for a column of so many. All of them are 0.1 MB: made when needed."""

    def __init__(self, row: str) -> None:
        super().__init__()
        self._row = row

    def __missing__(self, number: int) -> struct.Struct:
        made = self[number] = struct.Struct("=" + self._row * number)
        return made


@cache
def inbox(most: int, longest: int, control: int, name: int | None) -> Inbox | None:
    """The Inbox of all ports of a kind; None where the system has no such calls."""
    found = calls()
    return found and Inbox(found[0], most, longest, control, name)


class Outbox:
    """Arrays for the datagrams that leave with one call, at most `count`."""

    def __init__(self, call: Call, count: int) -> None:
        self._call = call
        self._headers, self._at = _memory(count * _HEADER.size)
        self._iovecs, iovecs_at = _memory(count * _IOVEC.size)
        column = memoryview(self._headers).cast("Q")[_IOVEC_AT::_WORDS]
        at = memoryview(array("Q", [iovecs_at + number * _IOVEC.size for number in range(count)]))
        self._iovec_columns = [(column[:number], at[:number]) for number in range(count + 1)]
        self._iovec_rows = _Columns("QQ")
        # How to get the address of a bytes object: have a c_char_p point to it, and read the pointer.
        self._pointer = ctypes.c_char_p()
        self._pointed = ctypes.c_uint64.from_buffer(self._pointer)

    def send(
        self, descriptor: int, replies: Sequence[tuple[bytes, Peer]]
    ) -> tuple[int, list[tuple[int, OSError]]]:
        """Send them; their bytes in all, and the positions of those that were refused, each with its error.

        NoAddressError before any is sent.
        """
        count = len(replies)
        self._headers[: count * _HEADER.size] = _headers(replies)
        column, at = self._iovec_columns[count]
        column[:] = at
        datagrams = [data for data, _ in replies]
        iovecs = [0] * (2 * count)
        iovecs[1::2] = lengths = list(map(len, datagrams))
        whole = self._pointer.value = b"".join(datagrams)
        iovecs[::2] = accumulate(lengths[:-1], initial=self._pointed.value)
        self._iovec_rows[count].pack_into(self._iovecs, 0, *iovecs)
        try:
            return len(whole), self._send(descriptor, count)
        finally:
            self._pointer.value = b""  # for None, ctypes would keep the bytes

    def _send(self, descriptor: int, count: int) -> list[tuple[int, OSError]]:
        refused = []
        done = 0
        while done < count:
            sent = self._call(descriptor, self._at + done * _HEADER.size, count - done, socket.MSG_DONTWAIT)
            if sent < 1:
                # The error is the first datagram's: one of a later datagram ends the call before it, and the
                # next call reports it.
                refused.append((done, _failed()))
                sent = 1
            done += sent
        return refused


@cache
def outbox(count: int) -> Outbox | None:
    """The Outbox of all ports, as a call leaves nothing in it; None where the system has no such calls."""
    found = calls()
    return found and Outbox(found[1], count)


def _headers(replies: Sequence[tuple[bytes, Peer]]) -> bytes:
    try:
        return b"".join([peer.packed for _, peer in replies])  # type: ignore[misc]
    except TypeError:  # some peers are answered for the first time
        return b"".join([peer.packed or _pack(peer) for _, peer in replies])


def _pack(peer: Peer) -> bytes:
    """Make the header of datagrams to a peer, and keep it with the Peer, with the memory it points to."""
    try:
        name, control = pack_address(peer.sockaddr), pack_control(peer.control)
    except NOT_PACKED as error:
        raise NoAddressError(peer.text) from error
    memory = ctypes.create_string_buffer(control + name)
    at = ctypes.addressof(memory)
    header = _HEADER.pack(at + len(control), len(name), 0, 1, at if control else 0, len(control), 0, 0)
    peer.packed, peer.pinned = header, memory
    return header
