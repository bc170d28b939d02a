"""The root of the running tree.

Its life, as twistd drives it: `privilegedStartService` binds the addresses while there are rights to; twistd
gives up root; `startService` starts the protocols' services and listeners; when each has been tried once, it
serves, whether or not all of them run (the others are tried again). `stopService` drains: nothing new is
accepted, connections may finish within `daemon.drain`, then they are closed, then the services stop, and it
fires when all have ended. A second request to stop (`hurry`) skips the waiting.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from random import random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.logger import Logger

from sockd.base.reactor import MainReactor, Timer
from sockd.base.units import counted, format_duration
from sockd.base.waiting import Wait
from sockd.control.listener import ControlListener
from sockd.control.status import Outcome, in_words
from sockd.plan.changes import Changes
from sockd.plan.plan import Plan
from sockd.reload import Reloading
from sockd.sinks.thread import ShelteredThread
from sockd.systemd.notify import Notify
from sockd.systemd.reports import Reports
from sockd.transports.flush import Flusher
from sockd.transports.sockets.inet import OpenError
from sockd.tree.certificate_expiry import Expiry
from sockd.tree.endpoint import Endpoint, Surroundings, log_listening
from sockd.tree.holds import Holds
from sockd.tree.refusals import REFUSALS_INTERVAL
from sockd.tree.sockets import Sockets
from sockd.tree.states import State

SERVICE_GRACE = 0.5  # seconds for a protocol's service to finish its work, when the drain's time is over


class Daemon(Service):
    """All endpoints of a plan, with what they share.

    `leave(status)` ends the process with a status, through `stopService`. `serving(daemon)` is called when
    every listener and every protocol's service has been tried once, and returns whether it has shown a person
    which listen. `read()` gives the plan of the file as it is now, or a Deferred of it. `commands` are the
    control socket's, by name.
    """

    name = "sockd"

    def __init__(
        self,
        plan: Plan,
        reactor: MainReactor,
        leave: Callable[[int], None],
        serving: Callable[["Daemon"], bool],
        random: Callable[[], float] = random,
        *,
        read: Callable[[], Plan | Deferred[Plan]] | None = None,
        sockets: Sockets | None = None,
        notify: Notify | None = None,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.plan = plan
        self._reactor = reactor
        self._leave = leave
        self._serving = serving
        self.log = Logger("sockd")
        self.began = reactor.seconds()
        self.commands: Mapping[str, Callable[..., Any]] = {}  # Any: each has its own parameters and result
        self.around = Surroundings(
            reactor,
            Flusher(reactor),
            self.log,
            random,
            self._gave_up,
            changed=self._changed,
            sockets=sockets or Sockets(),
            numbers=numbers or count(1),
        )
        self.by_name = {endpoint.name: Endpoint(endpoint, self.around) for endpoint in plan.endpoints}
        self.gone: set[Endpoint] = set()  # that are in the plan no more, and drain
        self.seeing_off: set[Deferred[None]] = set()
        self.controls = ControlListener(self.around)
        self.reports = Reports(notify or Notify("", reactor, self.log), reactor, self._words)
        self.reloading = Reloading(self, read or (lambda: plan), self.reports)
        self.expiry = Expiry(reactor, self.log)
        self.holds = Holds(reactor, self.log, lambda: self.everywhere, ShelteredThread)
        self.last_upgrade: Outcome | None = None
        self.upgrading = False
        self._tried = False
        self._unclaimed: list[str] = []  # names of systemd's sockets, as logged
        self._ready = False
        self._stopping: Deferred[None] | None = None
        self._services_stopping: list[Deferred[None]] = []
        self._waiting: Wait | None = None  # for what is to end before the stop goes on
        self._hurried = False
        self._timer: Timer | None = None
        self._refusals_timer: Timer | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        return list(self.by_name.values())

    @property
    def everywhere(self) -> list[Endpoint]:
        """The endpoints of the plan, and those that are gone and drain."""
        return [*self.by_name.values(), *self.gone]

    @property
    def leaving(self) -> int:
        """How many connections there are of endpoints that are gone."""
        return sum(len(endpoint.connections) for endpoint in self.gone)

    @property
    def state(self) -> str:
        if self._stopping is not None:
            return "stopping"
        if not self._tried:
            return "starting"
        if self.upgrading:
            return "upgrading"
        return "reloading" if self.reloading.busy else "running"

    def seconds(self) -> float:
        """The time by the reactor's clock."""
        return self._reactor.seconds()

    def _words(self) -> str:
        return in_words(self.endpoints, self.leaving)

    # -- start

    def privilegedStartService(self) -> None:  # noqa: N802
        """Open every address, while there are still rights to."""
        try:
            self.controls.open(self.plan)
        except OpenError as error:
            self.log.critical(
                "control: {address}: {why}", address=str(self.plan.control), why=str(error), event="control"
            )
            self._reactor.callWhenRunning(self._leave, os.EX_CANTCREAT)
            return
        for endpoint in self.endpoints:
            endpoint.bind()

    def startService(self) -> None:  # noqa: N802
        """Start the protocols' services; an endpoint accepts as soon as its service runs."""
        super().startService()
        self.reports.start()
        for warning in self.plan.warnings:
            self.log.warn("{warning}", warning=str(warning.without_severity()), event="file")  # noqa: G010
        self.expiry.follow(self.plan)
        self._refusals_timer = self._reactor.callLater(REFUSALS_INTERVAL, self._log_refusals)
        self.controls.serve(self.plan, self.commands)
        tried = DeferredList([endpoint.start() for endpoint in self.endpoints])
        # A program that reads that sockd serves may stop it immediately, for which the reactor must run.
        tried.addCallback(lambda _: self._reactor.callWhenRunning(self._all_tried))

    def _all_tried(self) -> None:
        if not self.running:
            return
        self._tried = True
        self.around.sockets.drop_given()
        self.log_unclaimed()
        tell = self.log.debug if self._serving(self) else self.log.info
        for endpoint in self.endpoints:
            for watched in endpoint.watched:
                if watched.supervisor.state is State.RUNNING:
                    log_listening(tell, endpoint, watched.listener)
        self._changed()
        listeners = [s for endpoint in self.endpoints for s in endpoint.supervisors]
        running = sum(supervisor.state is State.RUNNING for supervisor in listeners)
        held = sum(endpoint.service.state is not State.RUNNING for endpoint in self.endpoints)
        endpoints = counted(len(self.endpoints), "endpoint")
        self.log.info(
            "serving: {summary}",
            summary=f"{endpoints}, {running} of {counted(len(listeners), 'listener')} open"
            + (f", {held} held" if held else ""),
            endpoints=len(self.endpoints),
            running=running,
            listeners=len(listeners),
            held=held,
            event="serving",
        )

    def _changed(self) -> None:
        """Tell systemd that it has started, once each listener was tried and what is required runs."""
        if self._tried and not self._ready and self.running:
            self._ready = all(
                endpoint.running for endpoint in self.endpoints if endpoint.plan.give_up_after is not None
            )
            if self._ready:
                self.reports.ready()

    def log_unclaimed(self) -> None:
        """Log which sockets of systemd's no endpoint uses, and whether its store is large enough."""
        unclaimed = self.around.sockets.unclaimed(
            listener.address for endpoint in self.plan.endpoints for listener in endpoint.listeners
        )
        for name in unclaimed:
            if name in self._unclaimed:
                continue
            self.log.warn(  # noqa: G010
                "systemd passed a socket named {name}, but no endpoint listens on systemd://{name}",
                name=name, event="inherited",
            )  # fmt: skip
        self._unclaimed = unclaimed
        size = self.around.sockets.store.size
        wanted = sum(len(endpoint.watched) for endpoint in self.endpoints) + (self.plan.control is not None)
        if self.around.sockets.store.active and wanted > size:
            self.log.warn(  # noqa: G010
                "systemd's fd store has room for {size} of {text}: raise FileDescriptorStoreMax=",
                size=size, wanted=wanted, text=counted(wanted, "socket"), event="store",
            )  # fmt: skip

    def _gave_up(self, endpoint: Endpoint) -> None:
        after = format_duration(endpoint.plan.give_up_after or 0)
        why = next((s.why for s in (endpoint.service, *endpoint.supervisors) if s.why), "it is not running")
        self.log.critical(
            "{endpoint}: required, and not running for {after}: {why}",
            endpoint=endpoint.name, after=after, why=why, event="gave up",
        )  # fmt: skip
        self._leave(os.EX_UNAVAILABLE)

    def _log_refusals(self) -> None:
        self._refusals_timer = self._reactor.callLater(REFUSALS_INTERVAL, self._log_refusals)
        for endpoint in self.everywhere:
            endpoint.log_refusals()

    # -- reload

    def changed_settings(self, changes: Changes) -> None:
        """The plan is another one now: called for what of it is the process's."""

    def see_off(self, endpoint: Endpoint) -> None:
        """Drain an endpoint that the plan has no more, within `daemon.drain`, then stop it."""
        self.gone.add(endpoint)
        leaving = ensureDeferred(self._see_off(endpoint))
        self.seeing_off.add(leaving)
        leaving.addBoth(lambda _: self.seeing_off.discard(leaving))

    async def _see_off(self, endpoint: Endpoint) -> None:
        timer = self._reactor.callLater(self.plan.drain, endpoint.cut)
        try:
            await endpoint.drain()
            if timer.active():
                timer.cancel()
            stopping = ensureDeferred(endpoint.stop())
            self._services_stopping.append(stopping)
            timer = self._reactor.callLater(max(SERVICE_GRACE, self.plan.drain), stopping.cancel)
            await DeferredList([stopping], consumeErrors=True)
            self._services_stopping.remove(stopping)
        finally:
            if timer.active():
                timer.cancel()
            self.gone.discard(endpoint)

    # -- stop

    def stopService(self) -> Deferred[None]:  # noqa: N802
        """Drain within `daemon.drain`, then close what is left; fires when everything has ended."""
        if self._stopping is None:
            super().stopService()
            if self._refusals_timer is not None:
                self._refusals_timer.cancel()
            self.expiry.stop()
            self._stopping = Deferred()
            self.reports.stopping()
            ensureDeferred(self._stop()).chainDeferred(self._stopping)
        return self._stopping

    async def _stop(self) -> None:
        deadline = self._reactor.seconds() + self.plan.drain
        await self._at_most(self.reloading.close(), deadline)
        self.around.sockets.leave_to_store()
        connections = sum(len(endpoint.connections) for endpoint in self.everywhere)
        self.log.info(
            "stopping: {connections} connection has {drain} to finish"
            if connections == 1
            else "stopping: {connections} connections have {drain} to finish",
            connections=connections,
            drain=format_duration(self.plan.drain),
            event="stopping",
        )
        self._timer = self._reactor.callLater(self._left(deadline), self._cut_connections)
        seeing_off = tuple(self.seeing_off)
        drained = DeferredList([ensureDeferred(endpoint.drain()) for endpoint in self.endpoints])
        await self._at_most(drained, deadline + SERVICE_GRACE)
        if self._timer.active():
            self._timer.cancel()
        self._services_stopping += [ensureDeferred(endpoint.stop()) for endpoint in self.endpoints]
        self._timer = self._reactor.callLater(max(self._left(deadline), SERVICE_GRACE), self._cut_services)
        ended = DeferredList([*self._services_stopping, *seeing_off], consumeErrors=True)
        await self._at_most(ended, max(deadline, self.seconds()) + 2 * SERVICE_GRACE)
        if self._timer.active():
            self._timer.cancel()
        self.controls.close()
        self.reports.stop()
        self.log.info("stopped", event="stopped")

    def _at_most(self, waited: Deferred[Any], deadline: float) -> Deferred[None]:  # Any: it is dropped
        """Fires with this one, at the deadline or a moment after `hurry`, whatever a third party does."""
        self._waiting = Wait(self._reactor, waited, max(0.0, deadline - self.seconds()))
        if self._hurried:
            self._waiting.shorten(2 * SERVICE_GRACE)
        return self._waiting.over

    def _left(self, deadline: float) -> float:
        """Seconds until then; none when asked to hurry."""
        return 0.0 if self._hurried else max(0.0, deadline - self.seconds())

    def hurry(self) -> None:
        """Asked to stop once more: close what is left, now."""
        self._hurried = True
        self._cut_connections()
        self._cut_services()
        if self._waiting is not None:
            self._waiting.shorten(SERVICE_GRACE)

    def _cut_connections(self) -> None:
        for endpoint in self.everywhere:
            endpoint.cut()

    def _cut_services(self) -> None:
        self._cut_connections()
        for stopping in tuple(self._services_stopping):
            stopping.cancel()

    # -- log files

    def reopen(self) -> None:
        """Have every service that writes files open them anew."""
        for endpoint in self.everywhere:
            endpoint.reopen()
