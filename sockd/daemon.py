"""The root of the running tree: bind, drop privileges, start, serve, drain, stop."""

import os
from collections.abc import Callable
from random import random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.logger import Logger

from sockd.plan import Plan
from sockd.services.endpoint import Endpoint, Surroundings
from sockd.services.refusals import EVERY
from sockd.services.states import State
from sockd.transports.turn import Turn
from sockd.units import format_duration

# How long (seconds) a protocol's service gets to finish its work when the drain's time is over.
GRACE = 0.5


class Daemon(Service):
    """All endpoints of a plan.

    `leave(status)` ends the process with a status, through `stopService`; `serving(daemon)` is called when
    every listener and every protocol's service was tried once, and says whether it told a person so.
    """

    name = "sockd"

    def __init__(
        self,
        plan: Plan,
        reactor: Any,
        leave: Callable[[int], None],
        serving: Callable[["Daemon"], bool],
        random: Callable[[], float] = random,
    ) -> None:
        self.plan = plan
        self._reactor = reactor
        self._leave = leave
        self._serving = serving
        self.log = Logger("sockd")
        surroundings = Surroundings(reactor, Turn(reactor), self.log, random, self._gave_up)
        self.endpoints = [Endpoint(endpoint, surroundings) for endpoint in plan.endpoints]
        self._stopping: Deferred[None] | None = None
        self._services_stopping: list[Deferred[None]] = []
        self._hurried = False
        self._timer: Any = None
        self._refusals_timer: Any = None

    # -- start

    def privilegedStartService(self) -> None:  # noqa: N802
        """Open every address while we still may."""
        for endpoint in self.endpoints:
            endpoint.bind()

    def startService(self) -> None:  # noqa: N802
        """Start the protocols; accept as soon as theirs run."""
        super().startService()
        for warning in self.plan.warnings:
            self.log.warn("{warning}", warning=str(warning), event="file")  # noqa: G010
        self._refusals_timer = self._reactor.callLater(EVERY, self._tell_refusals)
        tried = DeferredList([endpoint.start() for endpoint in self.endpoints])
        # Whoever reads that we serve may ask us to stop: that takes a running reactor.
        tried.addCallback(lambda _: self._reactor.callWhenRunning(self._all_tried))

    def _all_tried(self) -> None:
        if not self.running:
            return
        tell = self.log.debug if self._serving(self) else self.log.info
        for endpoint in self.endpoints:
            for listener, supervisor in zip(endpoint.listeners, endpoint.supervisors, strict=True):
                if supervisor.state is State.RUNNING:
                    tell(
                        "{endpoint}: listening on {address}",
                        endpoint=endpoint.name, address=str(listener.address),
                        protocol=endpoint.plan.protocol, event="listening",
                    )  # fmt: skip
        listeners = [s for endpoint in self.endpoints for s in endpoint.supervisors]
        running = sum(supervisor.state is State.RUNNING for supervisor in listeners)
        held = sum(endpoint.service.state is not State.RUNNING for endpoint in self.endpoints)
        endpoints = f"{len(self.endpoints)} endpoint{'' if len(self.endpoints) == 1 else 's'}"
        self.log.info(
            "serving: {summary}",
            summary=f"{endpoints}, {running} of {len(listeners)} listeners open"
            + (f", {held} held" if held else ""),
            endpoints=len(self.endpoints),
            running=running,
            listeners=len(listeners),
            held=held,
            event="serving",
        )

    def _gave_up(self, endpoint: Endpoint) -> None:
        after = format_duration(endpoint.plan.give_up_after or 0)
        why = next((s.why for s in (endpoint.service, *endpoint.supervisors) if s.why), "it is not running")
        self.log.critical(
            "{endpoint}: required, and not running for {after}: {why}",
            endpoint=endpoint.name, after=after, why=why, event="gave up",
        )  # fmt: skip
        self._leave(os.EX_UNAVAILABLE)

    def _tell_refusals(self) -> None:
        self._refusals_timer = self._reactor.callLater(EVERY, self._tell_refusals)
        for endpoint in self.endpoints:
            endpoint.tell_refusals()

    # -- stop

    def stopService(self) -> Deferred[None]:  # noqa: N802
        """Drain within `daemon.drain`, then cut; fires when everything has ended."""
        if self._stopping is None:
            super().stopService()
            if self._refusals_timer is not None:
                self._refusals_timer.cancel()
            self._stopping = ensureDeferred(self._stop())
        return self._stopping

    async def _stop(self) -> None:
        deadline = self._reactor.seconds() + self.plan.drain
        self.log.info(
            "stopping: {connections} connections have {drain} to finish",
            connections=sum(len(endpoint.connections) for endpoint in self.endpoints),
            drain=format_duration(self.plan.drain),
            event="stopping",
        )
        self._timer = self._reactor.callLater(self.plan.drain, self._cut_connections)
        await DeferredList([ensureDeferred(endpoint.drain()) for endpoint in self.endpoints])
        if self._timer.active():
            self._timer.cancel()
        self._services_stopping = [ensureDeferred(endpoint.stop()) for endpoint in self.endpoints]
        left = 0.0 if self._hurried else deadline - self._reactor.seconds()
        self._timer = self._reactor.callLater(max(left, GRACE), self._cut_services)
        await DeferredList(self._services_stopping, consumeErrors=True)
        if self._timer.active():
            self._timer.cancel()
        self.log.info("stopped", event="stopped")

    def hurry(self) -> None:
        """Asked to stop once more: cut what is left, now."""
        self._hurried = True
        self._cut_connections()
        self._cut_services()

    def _cut_connections(self) -> None:
        for endpoint in self.endpoints:
            endpoint.cut()

    def _cut_services(self) -> None:
        for stopping in self._services_stopping:
            stopping.cancel()

    # -- signals

    def reopen(self) -> None:
        """Have every service that writes files open them anew."""
        for endpoint in self.endpoints:
            endpoint.reopen()
