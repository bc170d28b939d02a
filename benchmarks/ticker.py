"""A protocol that measures its daemon from inside: how late turns of the reactor come, and why.

A line of any text is answered by one of JSON: what was seen since the line before.
"""

import gc
import json
import time
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from sockd.api import Host, Options, Specification

TICK_INTERVAL = 0.001  # seconds


class Ticker:
    """The service: asks for a call each millisecond, and notes the longest time between two of them."""

    def __init__(self, host: Host[Options]) -> None:
        self._reactor = host.reactor
        self._call: Any = None
        self._began = 0.0
        self.forget()

    def forget(self) -> None:
        self._last = time.monotonic()
        self._since = self._last
        self._longest = self._longest_at = self._collecting = 0.0
        self._collections = [0, 0, 0]
        self._ticks = 0

    def startService(self) -> None:  # noqa: N802
        gc.callbacks.append(self._collect)
        self.forget()
        self._tick()

    def stopService(self) -> None:  # noqa: N802
        gc.callbacks.remove(self._collect)
        self._call.cancel()

    def tell(self) -> dict[str, Any]:
        """What was seen until now; all times in seconds."""
        seen = {
            "ticks": self._ticks,
            "longest": max(self._longest, time.monotonic() - self._last),
            "longest_at": self._longest_at,
            "longest_collection": self._collecting,
            "collections": self._collections,
        }
        self.forget()
        return seen

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._last > self._longest:
            self._longest, self._longest_at = now - self._last, self._last - self._since
        self._last = now
        self._ticks += 1
        self._call = self._reactor.callLater(TICK_INTERVAL, self._tick)

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.monotonic()
        else:
            self._collecting = max(self._collecting, time.monotonic() - self._began)
            self._collections[info["generation"]] += 1


class Asked(Protocol):
    """A client that asks."""

    transport: Any

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        for _ in range(data.count(b"\n")):
            self.transport.write(json.dumps(self._ticker.tell()).encode() + b"\n")


class _Factory(Factory):
    noisy = False

    def __init__(self, host: Host[Options]) -> None:
        self._ticker: Ticker = host.service

    def buildProtocol(self, addr: Any) -> Asked:  # noqa: N802, ARG002
        return Asked(self._ticker)


specification = Specification(summary="how late the reactor's turns come", stream=_Factory, service=Ticker)
