"""What the TLS records of one read hold."""

import ssl

# Bytes of data in a record at most (RFC 8446, 5.1): reading so much leaves nothing of a record behind.
RECORD_SIZE = 16 * 1024
# Records that one event reads, before others have their turn: 128 KiB of records of a byte took 5 ms.
RECORDS_PER_EVENT = 512


def read_on(tls: ssl.SSLObject, bio: ssl.MemoryBIO, data: bytes) -> tuple[bytes, bytes, ssl.SSLError | None]:
    """Read on after `data`, and leave `bio` empty.

    The result is all data, this included; the cipher text that is left for a later event; and the exception
    that ended the data, if one did. SSLZeroReturnError is the peer's close_notify.
    """
    pieces = []
    why: ssl.SSLError
    try:
        while data:
            pieces.append(data)
            if not bio.pending:  # OpenSSL says so with an exception, which takes longer than all the rest
                return b"".join(pieces), b"", None
            if len(pieces) > RECORDS_PER_EVENT:
                return b"".join(pieces), bio.read(), None
            data = tls.read(RECORD_SIZE)
    except ssl.SSLError as error:
        why = error
    else:
        why = ssl.SSLZeroReturnError()
    bio.read()
    return b"".join(pieces), b"", why
