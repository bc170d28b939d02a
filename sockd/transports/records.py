"""The TLS records in what was read: where they begin, how many OpenSSL gets at once, and what they hold.

OpenSSL works through all that it is given before it returns. Records of data are cheap, and it returns after
each of them. Others (KeyUpdate, warnings, requests for another handshake, empty records) hold nothing for
the protocol, so it goes on to the next one: 64 KiB of KeyUpdates took 137 ms in a single call. So it is given
a few whole records at a time, and an event ends where there was one without data.
"""

import ssl

from sockd.base.units import Rate

# Bytes of data in a record at most (RFC 8446, 5.1): reading so much leaves nothing of a record behind.
RECORD_SIZE = 16 * 1024
# The type, the version, and the length of what follows.
HEADER_SIZE = 5
# Records that OpenSSL gets at once: a KeyUpdate takes 57 µs, twice that where it asks for one of ours.
RECORDS_AT_ONCE = 8
# Records of data that one event reads, before others have their turn: 128 records of a byte take 0.5 ms.
RECORDS_PER_EVENT = 128

# Records without data that a connection may have: 32 at once, and then four a second. Clients that renew
# their keys do so after gigabytes. BoringSSL takes 32 in a row, Go 16.
USELESS_RECORDS = Rate(32, 8.0)

# What has begun of a record: the bytes that are missing, or as much of its header as has come; 0 for neither.
Begun = int | bytes


def next_records(data: bytes, at: int, begun: Begun) -> tuple[int, int, Begun]:
    """Where the next few records end in `data`, from `at` on; how many of them end there; and what has begun.

    `begun` is what had begun at `at`. The last record may be incomplete; then `data` ends with it.
    """
    size, count = len(data), 0
    end = at
    if isinstance(begun, bytes):
        header = begun + data[at : at + HEADER_SIZE - len(begun)]
        if len(header) < HEADER_SIZE:
            return size, 0, header
        end += HEADER_SIZE - len(begun) + (header[3] << 8 | header[4])
        count = 1
    elif begun:
        end += begun
        count = 1
    while count < RECORDS_AT_ONCE and end + HEADER_SIZE <= size:
        end += HEADER_SIZE + (data[end + 3] << 8 | data[end + 4])
        count += 1
    if end > size:
        return size, count - 1, end - size
    if count < RECORDS_AT_ONCE and end < size:
        return size, count, data[end:]
    return end, count, 0


class Portion:
    """What one event has got out of the cipher text that was read.

    `data` is for the protocol, and `rest` is cipher text for a later event. `useless` counts the records that
    held no data. `begun` is what has begun after those that OpenSSL was given. `why` is the exception that
    ended the data, if one did: SSLZeroReturnError is the peer's close_notify, SSLWantReadError is none.
    """

    __slots__ = ("begun", "data", "rest", "useless", "why")

    def __init__(self, tls: ssl.SSLObject, bio: ssl.MemoryBIO, cipher: bytes, begun: Begun) -> None:
        """Have OpenSSL read what an event may, and leave `bio` empty."""
        pieces: list[bytes] = []
        self.begun = begun
        self.useless = 0
        self.why: ssl.SSLError | None = None
        at, size = 0, len(cipher)
        try:
            while at < size and len(pieces) < RECORDS_PER_EVENT and not self.useless:
                end, whole, self.begun = next_records(cipher, at, self.begun)
                bio.write(cipher if end - at == size else memoryview(cipher)[at:end])
                at = end
                self.useless += whole - self._read(tls, bio, pieces)
        except ssl.SSLError as error:
            self.why = error
        finally:
            bio.read()
        self.rest = b"" if self.why is not None else cipher[at:]
        self.data = pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, tls: ssl.SSLObject, bio: ssl.MemoryBIO, pieces: list[bytes]) -> int:
        """Read all data in what `bio` has; how many records held some."""
        before = len(pieces)
        try:
            while data := tls.read(RECORD_SIZE):
                pieces.append(data)
                if not bio.pending:  # OpenSSL says so with an exception, which takes longer than all the rest
                    return len(pieces) - before
        except ssl.SSLWantReadError:
            return len(pieces) - before
        raise ssl.SSLZeroReturnError
