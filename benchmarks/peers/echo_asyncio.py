"""Echo as asyncio's users write it, on asyncio's own loop or on uvloop.

python echo_asyncio.py LOOP ADDRESS [CERTIFICATE KEY]
"""

import asyncio
import importlib
import resource
import ssl
import sys
from typing import Any


class Stream(asyncio.Protocol):
    """Reads no more while the other side doesn't."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Datagram(asyncio.DatagramProtocol):
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def serve(address: str, keys: list[str]) -> None:
    kind, _, where = address.partition(":")
    loop = asyncio.get_running_loop()
    context = None
    if keys:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*keys)
    match kind:
        case "udp":
            await loop.create_datagram_endpoint(Datagram, local_addr=("127.0.0.1", int(where)))
        case "unix":
            await loop.create_unix_server(Stream, where, backlog=1024)
        case _:
            await loop.create_server(Stream, "127.0.0.1", int(where), backlog=1024, ssl=context)
    await asyncio.Event().wait()


def main() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    which, address, *keys = sys.argv[1:]
    runner: Any = importlib.import_module(which)  # uvloop.run and asyncio.run are of one form
    runner.run(serve(address, keys))


if __name__ == "__main__":
    main()
