"""What TLS records hold: all of it that came, up to a bound."""

import ssl

# A record holds at most this much (RFC 8446, 5.1): who reads so much leaves nothing of it behind.
RECORD = 16 * 1024
# After so many records others have their turn: 128 KiB of records with a byte each took 5 ms in one event.
MANY = 512


def read_on(tls: ssl.SSLObject, bio: ssl.MemoryBIO, data: bytes) -> tuple[bytes, bytes, ssl.SSLError | None]:
    """Read what follows this in `bio`, and leave it empty.

    Gives all data, the cipher text that is for a later turn, and what else than data ended it;
    SSLZeroReturnError is the peer's close_notify.
    """
    pieces = []
    why: ssl.SSLError
    try:
        while data:
            pieces.append(data)
            if not bio.pending:  # to be told so by an exception takes longer than all the rest
                return b"".join(pieces), b"", None
            if len(pieces) > MANY:
                return b"".join(pieces), bio.read(), None
            data = tls.read(RECORD)
    except ssl.SSLError as error:
        why = error
    else:
        why = ssl.SSLZeroReturnError()
    bio.read()
    return b"".join(pieces), b"", why
