"""A daemon for tests of its clients: answers on a Unix socket, in a thread of its own."""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

Reply = bytes | Callable[[dict[str, Any]], bytes] | None


class FakeDaemon:
    """Gives each connection the next reply (the last one again and again) and closes it.

    A reply of bytes is sent as it is; a function makes it of the request; None: the connection is closed
    without reading. `asked` are the requests.
    """

    def __init__(self, path: Path, replies: Sequence[Reply]) -> None:
        self.path = str(path)
        self.asked: list[dict[str, Any]] = []
        self._replies = list(replies)
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(self.path)
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                return
            with client:
                reply = self._replies.pop(0) if self._replies[1:] else self._replies[0]
                if reply is None:
                    continue
                try:
                    with client.makefile("rb") as lines:
                        self.asked.append(json.loads(lines.readline()))
                    client.sendall(reply(self.asked[-1]) if callable(reply) else reply)
                except OSError:
                    continue


def answer(result: Any, **more: Any) -> bytes:
    return json.dumps({"version": 1, "ok": True, "result": result, **more}).encode() + b"\n"


def refusal(status: Any, *problems: Any, version: int = 1) -> bytes:
    value = {"version": version, "ok": False, "status": status, "problems": list(problems)}
    return json.dumps(value).encode() + b"\n"
