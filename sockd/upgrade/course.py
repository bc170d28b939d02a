"""The course of an upgrade, from the rehearsal to exec.

The running program does everything that may fail while it can still go on, and stops serving only for the
moment in which nothing is left but to hand over:

    step        what happens                                       held             if it fails
    reload      the file is read, checked and applied              nothing          refused
    look        protocols that can't give their state are found    nothing          their connections finish
    rehearse    a child runs the new program, which thaws a        nothing          refused
                copy of the state and says whether that works
    let finish  connections that can't go on in another program    no accepting     those that have been asked
                are asked to finish, within `daemon.drain`         where they are   to finish do so; refused
    hold        no endpoint accepts or reads; signals are held;    all              released, refused
                two turns of the reactor let what is under way end
    freeze      services end their writes and give their state     all              released, refused
    check       no reload, no connection that was asked to finish  all              released, try again
    exec        the handover is written, and the new program       all              released; systemd hears
                begins in this process                                              that this one goes on

From the last `freeze` on there is no turn of the reactor before exec, so that the state holds. Clients of a
held daemon wait: the kernel keeps their bytes, their datagrams and their connections. The new program
releases them by starting; if it can't start after exec, systemd starts it anew, with the sockets of the fd
store.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as TookTooLongError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from sockd.base.errors import SockdError
from sockd.base.frozen import State
from sockd.base.reactor import TwistedReactor
from sockd.control.language import Refused
from sockd.control.status import Outcome
from sockd.daemon import Daemon
from sockd.plan.diff import diff
from sockd.reload import log_refused
from sockd.tree.supervisor import describe
from sockd.upgrade.child import rehearse
from sockd.upgrade.exec import exec_argv, replace
from sockd.upgrade.freezing import Travellers, freeze_service, handover
from sockd.upgrade.signals import Signals
from sockd.upgrade.value import Handover, ProcessValues, UpgradeRefusedError

FREEZE_LIMIT = 5.0  # seconds within which services must give their state: writes to files end before


class _AlreadyLoggedError(Refused):
    """Refused by the reload, which has logged its problems."""


class Course:
    """Upgrades a daemon, once at a time.

    `process()` gives the fields of a Handover that are the process's; `before_exec()` is called right before
    exec.
    """

    def __init__(
        self,
        daemon: Daemon,
        process: Callable[[], ProcessValues],
        environ: Mapping[str, str],
        before_exec: Callable[[], None],
    ) -> None:
        self._daemon = daemon
        self._process = process
        self._environ = environ
        self._before_exec = before_exec
        self._reactor = daemon.around.reactor
        self._now: Deferred[None] | None = None
        self._travellers = Travellers(daemon.log)
        self._begun = 0.0
        self._held = 0.0

    def upgrade(self) -> Deferred[None]:
        """Fires only where it is refused: otherwise there is another program by then."""
        if self._now is not None or self._daemon.state == "stopping":
            busy = "an upgrade is under way" if self._now is not None else "the daemon is stopping"
            raise Refused(os.EX_TEMPFAIL, busy)
        self._begun = time.monotonic()
        self._daemon.upgrading = True
        now = self._now = ensureDeferred(self._run())
        return now.addErrback(self._ended)

    def by_signal(self) -> None:
        """The same; the log says why it is refused."""
        try:
            self.upgrade().addErrback(lambda _: None)
        except Refused as refused:
            self._report(refused)

    def cancel(self) -> None:
        """The daemon stops."""
        if self._now is not None:
            self._now.cancel()

    def _ended(self, failure: Failure) -> Failure:
        self._now = None
        self._daemon.upgrading = False
        error = failure.value or Exception(str(failure))
        if isinstance(error, Refused):
            refused = error
        elif isinstance(error, UpgradeRefusedError):
            refused = Refused(os.EX_SOFTWARE, *error.problems)
        elif isinstance(error, SockdError):
            refused = Refused(os.EX_SOFTWARE, str(error))
        elif isinstance(error, CancelledError):
            refused = Refused(os.EX_UNAVAILABLE, "the daemon is stopping")
        else:
            self._daemon.log.failure("the upgrade failed", failure)
            refused = Refused(os.EX_SOFTWARE, f"the upgrade failed: {describe(error)}")
        self._report(refused)
        return Failure(refused)

    def _report(self, refused: Refused) -> None:
        self._daemon.last_upgrade = Outcome.refused(refused.problems)
        if not isinstance(refused, _AlreadyLoggedError):
            log_refused(self._daemon.log, "upgrade", refused)

    async def _run(self) -> None:
        daemon = self._daemon
        # The new program will read the file: whatever has changed in it must be known to be right.
        try:
            await daemon.reloading.reload()
        except Refused as refused:
            raise _AlreadyLoggedError(refused.status, *refused.problems) from refused
        plan = daemon.plan
        travellers = self._travellers = Travellers(daemon.log)
        await travellers.look_at_all(daemon.endpoints, self._reactor)
        services = await self._services(rehearsal=True)
        child = rehearse(self._reactor, exec_argv("rehearse"), self._environ, self._handover(services, 0))
        version = await child
        daemon.log.info("upgrading to sockd {version}", version=version.strip(), event="upgrading")
        drained = await self._let_finish()
        endpoints = daemon.endpoints
        signals = Signals()
        try:
            self._held = time.monotonic()
            for endpoint in endpoints:
                endpoint.hold(True)
            signals.hold()
            # A stop that a signal has just asked for would be lost, and so would the ends of connections. In
            # the first turn the reactor is asked to stop, and at the end of that turn it begins to.
            for _ in range(2):
                await deferLater(self._reactor, 0)
            services = await self._services()
            if daemon.reloading.busy or not diff(plan, daemon.plan).none:
                raise _try_again("the file was reloaded")
            if self._finishing() or any(travellers.stragglers(each.connections) for each in endpoints):
                raise _try_again("connections were asked to finish")
            self._replace(services, drained, signals)
        finally:
            signals.release()
            for endpoint in endpoints:
                endpoint.hold(False)

    def _replace(self, services: dict[str, tuple[State, ...]], drained: int, signals: Signals) -> NoReturn:
        handed = self._handover(services, drained)
        if any(self._travellers.stragglers(each.connections) for each in self._daemon.endpoints):
            raise _try_again("the protocol of a connection could not give its state any more")
        argv = exec_argv("run", "-c", handed.file)
        self._before_exec()
        try:
            replace(argv, self._environ, handed, signals)
        finally:
            self._daemon.reports.went_on()

    def _handover(self, services: dict[str, tuple[State, ...]], drained: int) -> Handover:
        return handover(
            self._daemon,
            services,
            self._travellers,
            drained=drained,
            begun=self._begun,
            held=self._held,
            **self._process(),
        )

    async def _services(self, *, rehearsal: bool = False) -> dict[str, tuple[State, ...]]:
        """The states of all services, by endpoint, all of the same turn of the reactor.

        While connections are served there may be no turn in which all services are at rest. For a rehearsal
        it is enough that each has been once.
        """
        deadline = self._reactor.seconds() + FREEZE_LIMIT
        known: dict[str, tuple[State, ...]] = {}
        while True:
            frozen = {endpoint.name: freeze_service(endpoint) for endpoint in self._daemon.endpoints}
            waiting = {name: state for name, state in frozen.items() if isinstance(state, Deferred)}
            if not waiting:
                return frozen
            left = deadline - self._reactor.seconds()
            if left <= 0:
                if rehearsal and not waiting.keys() - known.keys():
                    return {**frozen, **{name: known[name] for name in waiting}}
                names = ", ".join(waiting)
                raise UpgradeRefusedError(f"{names}: the service can't hand over what it has not finished")
            for name, state in waiting.items():
                state.addCallback(partial(_remember, known, name))
            await _all_of([*waiting.values()], left, self._reactor)

    async def _let_finish(self) -> int:
        """Have the connections end that can't go on in another program; how many there were."""
        daemon = self._daemon
        deadline = self._reactor.seconds() + daemon.plan.drain
        count = 0
        fresh = True  # the rehearsal has just read the file
        try:
            while True:
                waiting = self._finishing()
                for endpoint in daemon.endpoints:
                    connections = endpoint.connections
                    leaving = [
                        each
                        for each in self._travellers.stragglers(connections)
                        if not connections.draining(each)
                    ]
                    if leaving:
                        endpoint.part(True)
                        count += len(leaving)
                        left = max(0.0, deadline - self._reactor.seconds())
                        waiting.append(connections.drain_some(leaving, left).done)
                if waiting:
                    await _all_of(waiting, None, self._reactor)
                elif fresh:
                    return count
                elif not await daemon.reloading.unchanged():
                    # Nobody has rehearsed this file, and it may be half of what somebody is writing.
                    raise _try_again("the file was changed")
                fresh = not waiting
        finally:
            for endpoint in daemon.endpoints:
                if endpoint.parting:
                    endpoint.part(False)

    def _finishing(self) -> list[Deferred[None]]:
        """These fire when the connections have ended that were asked to finish."""
        daemon = self._daemon
        drains = [drained for endpoint in daemon.everywhere for drained in endpoint.connections.drained]
        return [*drains, *daemon.seeing_off]


def _try_again(what: str) -> Refused:
    return Refused(os.EX_TEMPFAIL, f"{what} during the upgrade: try again")


def _remember(known: dict[str, tuple[State, ...]], name: str, state: State) -> State:
    known[name] = (state,)
    return state


# Any: whatever the Deferreds come to.
async def _all_of(waiting: list[Deferred[Any]], within: float | None, reactor: TwistedReactor) -> None:
    """Wait for these, for which others may wait too, and at most these seconds; raises if one fails."""
    # Not a DeferredList, which cancels its Deferreds when it is cancelled, and fires as if they had ended.
    everything: Deferred[None] = Deferred()
    left = len(waiting)

    def one_less(result: Any) -> Any:  # Any: as above
        nonlocal left
        left -= 1
        failed = isinstance(result, Failure)
        if (failed or not left) and not everything.called:
            everything.callback(result if failed else None)
        return None if failed else result

    for deferred in waiting:
        deferred.addBoth(one_less)
    if within is not None:
        everything.addTimeout(within, reactor)
    with suppress(TookTooLongError):
        await everything
