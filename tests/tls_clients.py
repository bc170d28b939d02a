"""A TLS client of tests, over a plain socket; nothing of it blocks, and nothing of the server is believed."""

import socket
import ssl

from tests.certificates import Made


class Client:
    """`data` is what has come; `closed`: the server's close_notify has."""

    def __init__(
        self,
        sock: socket.socket,
        version: ssl.TLSVersion | None = None,
        *,
        name: str | None = None,
        certificate: Made | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if certificate is not None:
            certificate.load_into(context)
        sock.setblocking(False)
        self.sock = sock
        self.tls = context.wrap_socket(
            sock, do_handshake_on_connect=False, suppress_ragged_eofs=False, server_hostname=name
        )
        self.data = bytearray()
        self.closed = False

    def shake(self) -> bool:
        """Whether the handshake is done, as far as this end can know."""
        try:
            self.tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def read(self) -> None:
        """All that has come."""
        while not self.closed:
            try:
                data = self.tls.recv(1 << 20)
            except ssl.SSLWantReadError:
                return
            self.closed = not data
            self.data += data

    def has_some(self) -> bool:
        """Whether anything has come, or the end."""
        self.read()
        return bool(self.data) or self.closed

    def alert(self) -> str:
        """What the server says is wrong, in OpenSSL's words; empty until it has."""
        try:
            if self.shake():
                self.read()
        except ssl.SSLError as error:
            return (
                (error.reason or "").lower().replace("_", " ").removeprefix("tlsv1 ").removeprefix("sslv3 ")
            )
        return ""
