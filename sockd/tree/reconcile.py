"""Makes the running endpoints match another plan: all of it, or nothing.

A reload takes three methods. `prepare` does all that may fail, and each of its steps leaves behind how it is
undone. `commit` goes over to the new plan within one turn of the reactor, and can't fail. `undo` takes back
what `prepare` did, the last step first. While `prepare` waits, the old plan serves everybody.

The order of `prepare` is such that what is seen from outside comes as late as it can:

1. Supervisors that wait for their next try are paused: what they would start has the old plan's options, and
   could take an address that the new plan needs.
2. Sockets that stay get their new options. Listeners are opened whose address is free, or to which an open
   socket passes: they hold a duplicate, and accept nobody yet. Here the kernel may refuse an option, and
   another program may have the address.
3. Services of new endpoints are started and waited for. A third party's may fail, or take long: then the
   reload waits no longer than a start does, and the endpoint is held until its service has come up.
4. Running endpoints get ready: TLS and access are set up, the service takes the new options, factories
   and datagram protocols are made. A third party's code may refuse any of that, or leave it half done, which
   is why the undo hands a service its old options even where it refused the new ones.
5. Sockets that are in the way of others are closed last, and the others opened: the kernel has no room for
   both. No step after this one waits, so that an address is closed for no longer than a turn of the reactor.
   The undo opens it again, with the protocol and the peers that it had.

An undo has bounds as well. What takes longer than STEP_TIMEOUT, or fails, is logged, and the next step is
undone; a daemon that stops waits for none. One thing has no way back: a receive buffer once set is never the
kernel's own again, so the commit sets it.

An address that wasn't open before the reload is no reason to refuse it: where it can't be opened now either,
its supervisor goes on trying, and `done` says so.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.internet.defer import TimeoutError as TookTooLongError
from twisted.python.failure import Failure

from sockd.base.errors import SockdError
from sockd.base.hosted import method_of, offers
from sockd.base.reactor import Reactor, TwistedReactor
from sockd.plan.changes import ADMISSION, Changes, Part
from sockd.protocols.contract import AnyHost, DatagramProtocol, Options
from sockd.transports.datagrams.hosted import served
from sockd.transports.sockets.opening import Opened, tune
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.admission import Admission
from sockd.tree.datagrams import DatagramListener
from sockd.tree.done import as_done
from sockd.tree.endpoint import Endpoint, Surroundings, Watched
from sockd.tree.listener import Listener
from sockd.tree.moves import Leaving, Moves, Update, Wanted
from sockd.tree.states import UP, State
from sockd.tree.supervisor import Supervisor, cancellable, describe

T = TypeVar("T")

# Seconds that a service has to take other options, and that each step of an undo has.
STEP_TIMEOUT = 5.0


class ReloadRefusedError(SockdError):
    """Something of the new plan can't be had; the old plan goes on."""


class Reconciliation:
    """A running tree on its way to another plan.

    After `commit`, `endpoints` is what runs, `gone` are endpoints that are to be drained and stopped, and
    `done` says what was done. `step` is called with a word before each step; what it raises has the effect of
    a failure of that step. Once the daemon is `stopping`, nothing that is undone is waited for.
    """

    def __init__(
        self,
        running: Mapping[str, Endpoint],
        changes: Changes,
        around: Surroundings,
        step: Callable[[str], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._changes = changes
        self._around = around
        self._step = step
        self._stopping = stopping
        self._undo: list[tuple[str, Callable[[], object]]] = []
        self._resume_supervisors: list[Callable[[], None]] = []
        self._tuned: set[Opened] = set()
        self._not_tuned: dict[Watched, str] = {}  # listeners that refused options at the commit, and why
        self.moves = Moves(running, changes, around)
        self.endpoints = self.moves.endpoints
        self.gone = self.moves.gone

    # -- prepare

    async def prepare(self) -> None:
        """Do all that may fail; ReloadRefusedError, with all of it undone, where something does."""
        try:
            await self._prepare()
        except BaseException as error:
            await self.undo()
            if isinstance(error, Exception) and not isinstance(error, ReloadRefusedError):
                raise ReloadRefusedError(describe(error)) from error
            raise

    async def _prepare(self) -> None:
        for update in self.moves.updates:
            if update.endpoint.restarting:
                raise ReloadRefusedError(
                    f"{update.plan.name}: it is being restarted; reload when it has been"
                )
        for supervisor in self._old_supervisors():
            self._resume_supervisors.append(supervisor.pause())
        for update in self.moves.updates:
            self._tune_sockets(update)
        for wanted in self.moves.wanted:
            if not wanted.after and not wanted.tolerant:
                self._open(wanted)
        for endpoint in self.moves.fresh:
            self._start_service(endpoint)
        for endpoint in self.moves.fresh:
            await endpoint.service.tried
            if endpoint.service.state is State.BACKING_OFF:
                raise ReloadRefusedError(f"{endpoint.name}: {endpoint.service.why}")
        for update in self.moves.updates:
            if update.change.parts & ADMISSION:
                self._step("admission")
                update.admission = Admission(update.plan)
            if Part.OPTIONS in update.change.parts:
                await self._go_over(update)
        self._begin_datagrams([wanted for wanted in self.moves.wanted if not wanted.after])
        late = [wanted for wanted in self.moves.wanted if wanted.after]
        for wanted in late:
            for leaving in wanted.after:
                self._park(leaving)
        for wanted in late:
            self._open(wanted)
        self._begin_datagrams(late)

    def _old_supervisors(self) -> Iterator[Supervisor]:
        for update in self.moves.updates:
            yield from (update.endpoint.service, *update.endpoint.supervisors)
        gone = set(self.gone)
        for leaving in self.moves.leaving:
            if leaving.endpoint in gone:
                yield leaving.watched.supervisor

    def _tune_sockets(self, update: Update) -> None:
        for watched, old in update.tuned.items():
            listener = watched.listener
            if listener.opened is not None:
                what = f"{update.plan.name}: {listener.plan.address}"
                self._tune(what, listener.opened, old, update.watched[watched].socket)

    def _tune(self, what: str, opened: Opened, old: SocketOptions, new: SocketOptions) -> None:
        self._step("tune")
        # There is no way back from the kernel's own receive buffer: that one comes with the commit.
        new = replace(new, receive_buffer=old.receive_buffer)
        self._on_undo("tune back", lambda: self._tune_back(opened, new, old))
        self._tuned.add(opened)
        try:
            tune(opened, old, new)
        except SockdError as error:
            raise ReloadRefusedError(f"{what}: {error}") from error

    def _tune_back(self, opened: Opened, new: SocketOptions, old: SocketOptions) -> None:
        if opened.sock.fileno() >= 0:  # else it has failed and is closed
            tune(opened, new, old)

    def _open(self, wanted: Wanted) -> None:
        self._step("open")
        listener, supervisor = wanted.watched.listener, wanted.watched.supervisor
        what = f"{wanted.endpoint.name}: {wanted.plan.address}"
        if wanted.heir_of is not None:
            old = wanted.heir_of.watched.listener
            assert old.opened is not None  # noqa: S101
            self._tune(what, old.opened, old.plan.socket, wanted.plan.socket)
            listener.take_over(old.opened.duplicate())
        self._on_undo("close", lambda: ensureDeferred(supervisor.stop()))
        supervisor.on_trial = True
        supervisor.start()
        if supervisor.state is not State.RUNNING:
            raise ReloadRefusedError(f"{what}: {supervisor.why}")

    def _start_service(self, endpoint: Endpoint) -> None:
        self._step("start service")
        self._on_undo("stop service", lambda: ensureDeferred(self._stop_service(endpoint)))
        endpoint.service.on_trial = True
        endpoint.service.start()

    async def _stop_service(self, endpoint: Endpoint) -> None:
        endpoint.connections.close()
        await endpoint.service.stop()

    async def _go_over(self, update: Update) -> None:
        endpoint, options = update.endpoint, update.plan.options
        make = partial(endpoint.engine.made_for, options, endpoint.startable_tls(update.plan))
        await self._reload(endpoint, endpoint.host.service, options)
        self._step("make factory")
        update.host, update.factory = self._contained(endpoint, make)
        if update.factory is not None:
            self._on_undo("stop factory", update.factory.doStop)
            self._contained(endpoint, update.factory.doStart)
        for watched in update.watched:
            listener = watched.listener
            if not isinstance(listener, DatagramListener) or listener.protocol is None:
                continue
            if offers(listener.protocol, "reload"):
                update.reloaded[watched] = listener.protocol
                await self._reload(endpoint, listener.protocol, options)
                continue
            self._step("make datagram protocol")
            maker = _maker(endpoint, update.host)
            protocol = self._contained(endpoint, partial(listener.new_protocol, maker))
            if protocol is not None:
                self._on_undo("stop datagram protocol", protocol.stop)
                update.made[watched] = protocol

    async def _reload(self, endpoint: Endpoint, target: object, options: Options) -> None:
        """Have a service or a datagram protocol take the new options, if it can while it runs."""
        method = self._contained(endpoint, lambda: method_of(target, "reload"))
        if method is not None:
            self._step("reload")
            old = endpoint.plan.options
            # Noted before the call: one that fails may have taken some of them.
            self._on_undo("reload back", lambda: method(old))
            try:
                await _bounded(maybeDeferred(method, options), self._around.reactor)
            except TookTooLongError as error:
                text = f"{endpoint.name}: going over to the new options takes longer than {STEP_TIMEOUT:g}s"
                raise ReloadRefusedError(text) from error
            except BaseException as error:
                raise ReloadRefusedError(f"{endpoint.name}: {describe(error)}") from error

    def _begin_datagrams(self, all_wanted: list[Wanted]) -> None:
        """Make the datagram protocols of sockets that are open now: a third party's may fail."""
        hosts = {update.endpoint: update.host for update in self.moves.updates}
        for wanted in all_wanted:
            endpoint = wanted.endpoint
            listener = wanted.watched.listener
            if not isinstance(listener, DatagramListener):
                continue
            if endpoint.service.state in UP and listener.takes_datagrams:
                self._step("begin datagrams")
                make = _maker(endpoint, hosts.get(endpoint) or endpoint.host)
                self._contained(endpoint, partial(listener.begin, make))

    def _park(self, leaving: Leaving) -> None:
        if leaving.open and not leaving.parked:
            self._step("close")
            leaving.parked = True
            self._on_undo("open again", lambda: self._unpark(leaving))
            leaving.protocol = leaving.watched.listener.park()

    def _unpark(self, leaving: Leaving) -> None:
        leaving.parked = False
        try:
            leaving.watched.listener.unpark(leaving.protocol)
        except Exception as error:  # noqa: BLE001
            leaving.watched.supervisor.failed(error)

    def _contained(self, endpoint: Endpoint, method: Callable[[], T]) -> T:
        """What a third party's code returns; ReloadRefusedError, with the endpoint's name, if it raises."""
        try:
            return method()
        except BaseException as error:
            raise ReloadRefusedError(f"{endpoint.name}: {describe(error)}") from error

    # -- undo

    def _on_undo(self, what: str, undo: Callable[[], object]) -> None:
        self._undo.append((what, undo))

    async def undo(self) -> None:
        """Take back what was prepared, the last step first."""
        while self._undo:
            what, undo = self._undo.pop()
            undone = _bounded(maybeDeferred(undo), self._around.reactor)
            if self._stopping():
                undone.addErrback(partial(self._log_late_failure, what))
                continue
            try:
                await undone
            except CancelledError:
                continue  # by the daemon, which has just begun to stop
            except BaseException as error:  # noqa: BLE001
                self._log_failure(what, error)
        self._resume()

    def _resume(self) -> None:
        while self._resume_supervisors:
            self._resume_supervisors.pop()()

    def _log_late_failure(self, what: str, failure: Failure) -> None:
        self._log_failure(what, failure.value or Exception(str(failure)))

    def _log_failure(self, what: str, error: BaseException) -> None:
        self._around.log.error("reload: {what} failed: {why}", what=what, why=describe(error), event="reload")

    # -- commit

    def commit(self, within: float) -> None:
        """Go over to the new plan; connections of closed addresses have `within` seconds to finish."""
        self._undo.clear()
        for endpoint, old in self.moves.fresh.items():
            endpoint.suspended = old is not None and old.suspended
        for wanted in self.moves.wanted:
            if wanted.heir_of is not None:
                wanted.heir_of.watched.listener.drain()
                wanted.heir_of.watched.listener.release(wanted.plan)
                wanted.watched.listener.own()
                self._finish_tuning(wanted.watched, wanted.plan.socket, wanted.plan.socket)
        for leaving in self.moves.leaving:
            if leaving.protocol is not None:
                self._end(leaving.endpoint, leaving.protocol)
        for update in self.moves.updates:
            self._commit(update, within)
        for supervisor in self._supervisors():
            supervisor.on_trial = False
        self._resume()
        for update in self.moves.updates:
            self._retry(update)
        for endpoint in self.moves.fresh:
            endpoint.serve()
        for wanted in self.moves.wanted:
            if wanted.tolerant:
                wanted.watched.supervisor.start()

    @property
    def done(self) -> Changes:
        """The changes as they were made; to be asked for after `commit`."""
        return as_done(self._changes, self.moves, self._not_tuned)

    @property
    def opened(self) -> Iterator[tuple[Endpoint, Listener]]:
        """The listeners that the reload has made, on new sockets or open ones, and their endpoints."""
        for wanted in self.moves.wanted:
            if wanted.watched.supervisor.state is State.RUNNING:
                yield wanted.endpoint, wanted.watched.listener

    def _supervisors(self) -> Iterator[Supervisor]:
        yield from (endpoint.service for endpoint in self.moves.fresh)
        yield from (wanted.watched.supervisor for wanted in self.moves.wanted)

    def _end(self, endpoint: Endpoint, protocol: DatagramProtocol) -> None:
        try:
            protocol.stop()
        except BaseException:  # noqa: BLE001
            endpoint.connections.protocol_failed("stop")

    def _commit(self, update: Update, within: float) -> None:
        endpoint, leaving = update.endpoint, update.leaving
        for each in leaving:
            each.listener.drain()
            ensureDeferred(each.supervisor.stop())
        for watched, plan in update.watched.items():
            watched.listener.plan = plan
            if watched in update.tuned:
                self._finish_tuning(watched, update.tuned[watched], plan.socket)
        endpoint.watch(list(update.watched), leaving)
        if update.host is None:
            update.host, update.factory = endpoint.host, endpoint.engine.factory
        endpoint.adopt(update.plan, update.change.parts, update.host, update.factory)
        if update.admission is not None:
            endpoint.admit_anew(update.admission)
        if Part.OPTIONS in update.change.parts:
            for watched in update.watched:
                self._swap_protocol(update, watched)
        stay = {each.listener.listening for each in update.watched}
        gone = {each.listener.listening for each in leaving} - stay
        ending = [connection for connection in endpoint.connections if connection.listener in gone]
        if ending:
            endpoint.connections.drain_some(ending, within)
        endpoint.update()
        if Part.OPTIONS in update.change.parts and endpoint.engine is not update.engine:
            # By hand, since `prepare` began: what runs now has the old options.
            update.restarted = True
            ensureDeferred(endpoint.restart(within))

    def _finish_tuning(self, watched: Watched, old: SocketOptions, new: SocketOptions) -> None:
        opened = watched.listener.opened
        if opened is not None:
            # A listener that failed during `prepare`, and was opened again, still has the old options.
            try:
                tune(opened, new if opened in self._tuned else old, new)
            except SockdError as error:
                self._not_tuned[watched] = describe(error)
                self._log_failure(f"{watched.listener.plan.address}: socket options", error)

    def _swap_protocol(self, update: Update, watched: Watched) -> None:
        listener = watched.listener
        if not isinstance(listener, DatagramListener):
            return
        if watched in update.made:
            listener.swap_protocol(update.made[watched])
        elif listener.protocol is not None and listener.protocol is not update.reloaded.get(watched):
            listener.end_protocol()  # it began during `prepare`, with the old options

    def _retry(self, update: Update) -> None:
        if Part.OPTIONS in update.change.parts:
            update.endpoint.service.retry()
        if update.change.listeners_change:
            for supervisor in update.endpoint.supervisors:
                supervisor.retry()


def _maker(endpoint: Endpoint, host: AnyHost) -> Callable[[], DatagramProtocol]:
    make = endpoint.plan.specification.datagram
    assert make is not None  # noqa: S101 - else the file was refused
    return lambda: served(make(host))


def _bounded(deferred: Deferred[T], reactor: Reactor) -> Deferred[T]:
    clock: TwistedReactor = reactor
    return cancellable(deferred).addTimeout(STEP_TIMEOUT, clock)
