"""A protocol that reports what lives in the daemon's memory, a JSON line for each connection."""

import gc
import json
import os
from collections import Counter
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from sockd.protocols.contract import Specification

WATCHED = ("Deferred", "Failure", "Connection", "socket")


class Probe(Protocol):
    transport: Any
    factory: "ProbeFactory"

    def connectionMade(self) -> None:
        gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.get_objects())
        found = {name: kinds[name] for name in WATCHED}
        found["timers"] = len(self.factory.reactor.getDelayedCalls())
        found["fds"] = len(os.listdir("/proc/self/fd")) - 1  # the one that lists them
        self.transport.write(json.dumps(found).encode() + b"\n")
        self.transport.loseConnection()


class ProbeFactory(Factory):
    """`reactor` is the one whose timers are counted."""

    protocol = Probe  # type: ignore[assignment]

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor


specification = Specification(summary="what is in memory", stream=lambda host: ProbeFactory(host.reactor))
