"""Records that a TLS client of OpenSSL's would not send, under the keys of a connection that it made."""

import hashlib
import hmac
import socket
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HANDSHAKE = 22
_CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"
_HELLO = "0303" + "00" * 32 + "00" + "0002c02b" + "0100" + "0005ff01000100"
# Asks a server of TLS 1.2 for another handshake.
CLIENT_HELLO = b"\x01" + (len(_HELLO) // 2).to_bytes(3, "big") + bytes.fromhex(_HELLO)


class Forger:
    """A connection under TLS 1.2 whose handshake the caller drives: `shake` until it is true."""

    def __init__(self, sock: socket.socket, keys: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHER)
        context.keylog_filename = str(keys)
        sock.setblocking(False)
        self._sock = sock
        self._keys = keys
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out)
        self._first = b""
        self._number = 1  # the client's Finished was its first record under these keys

    def shake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        else:
            done = True
            self._take_keys()
        if self._out.pending:
            self._sock.send(self._out.read())
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return done
        self._first += data
        self._in.write(data)
        return done

    def _take_keys(self) -> None:
        random, secret = map(bytes.fromhex, self._keys.read_text().splitlines()[-1].split()[1:])
        block = _prf(secret, b"key expansion" + self._first[11:43] + random, 40)
        self._key, self._salt = AESGCM(block[:16]), block[32:36]

    def record(self, kind: int, data: bytes) -> bytes:
        """One that the server takes for the client's next (RFC 5246, 6.2.3.3; RFC 5288, 3)."""
        number = struct.pack("!Q", self._number)
        self._number += 1
        head = struct.pack("!BH", kind, 0x0303)
        sealed = self._key.encrypt(self._salt + number, data, number + head + struct.pack("!H", len(data)))
        return head + struct.pack("!H", len(number + sealed)) + number + sealed


class KeyUpdates:
    """Records under TLS 1.3 that hold KeyUpdates (RFC 8446, 4.6.3), of a client whose handshake is done.

    `keys` is what OpenSSL logged of it. Each of them ends the keys that it was encrypted with.
    """

    def __init__(self, keys: Path) -> None:
        secrets = (line.split() for line in keys.read_text().splitlines())
        self._secret = next(
            bytes.fromhex(line[2]) for line in secrets if line[0] == "CLIENT_TRAFFIC_SECRET_0"
        )
        self._hash = {32: hashlib.sha256, 48: hashlib.sha384}[len(self._secret)]

    def record(self, *, requested: bool = False) -> bytes:
        """The next one; `requested`: the server is to renew its keys, too."""
        size = {32: 16, 48: 32}[len(self._secret)]
        key, salt = self._expand(b"key", size), self._expand(b"iv", 12)
        self._secret = self._expand(b"traffic upd", len(self._secret))
        return _sealed_13(key, salt, HANDSHAKE, bytes([24, 0, 0, 1, requested]))

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446, 7.1), for what one hash is enough for."""
        label = b"tls13 " + label
        info = struct.pack("!HB", size, len(label)) + label + b"\0"
        return hmac.digest(self._secret, info + b"\1", self._hash)[:size]


def _sealed_13(key: bytes, salt: bytes, kind: int, data: bytes) -> bytes:
    """The first record under a key (RFC 8446, 5.2)."""
    head = struct.pack("!BHH", 23, 0x0303, len(data) + 1 + 16)
    return head + AESGCM(key).encrypt(salt, data + bytes([kind]), head)


def _prf(secret: bytes, seed: bytes, size: int) -> bytes:
    """TLS 1.2's (RFC 5246, 5)."""
    made, a = b"", seed
    while len(made) < size:
        a = hmac.digest(secret, a, hashlib.sha256)
        made += hmac.digest(secret, a + seed, hashlib.sha256)
    return made[:size]
