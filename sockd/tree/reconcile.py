"""Make the running endpoints match another plan: all of it, or nothing."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.internet.defer import TimeoutError as TookTooLongError

from sockd.base.errors import SockdError
from sockd.plan.plan import Plan
from sockd.protocols.contract import DatagramProtocol, Host
from sockd.transports.sockets.opened import Opened, tune
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.admission import Admission
from sockd.tree.endpoint import Endpoint, Surroundings, Watched
from sockd.tree.listener import Listener
from sockd.tree.moves import Leaving, Moves, Retune, Wanted
from sockd.tree.states import State
from sockd.tree.supervisor import Supervisor, cancellable, describe

# So long (seconds) a service may take over other options, and what was begun may take to end again.
PATIENCE = 5.0


class ReloadRefusedError(SockdError):
    """Something of the new plan could not be had; the old one goes on."""


class Reconciliation:
    """`prepare` opens and starts all that is new, and undoes it where something fails; `commit` can't fail.

    After `commit`, `endpoints` is what runs, and `gone` are endpoints that are to be drained and stopped.
    `step` is called with a word before each step; what it raises has the effect of a failure of that step.
    """

    def __init__(
        self,
        running: Mapping[str, Endpoint],
        plan: Plan,
        around: Surroundings,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._around = around
        self._step = step
        self._undo: list[tuple[str, Callable[[], Any]]] = []
        self._go_on: list[Callable[[], None]] = []  # with what was not to be tried again meanwhile
        self._tuned: set[Opened] = set()
        self._moves = Moves(running, plan, around)
        self.endpoints = self._moves.endpoints
        self.gone = self._moves.gone

    # -- prepare

    async def prepare(self) -> None:
        """Have everything ready; ReloadRefusedError, with all undone, where something fails."""
        try:
            await self._prepare()
        except BaseException as error:
            await self.undo()
            if isinstance(error, Exception) and not isinstance(error, ReloadRefusedError):
                raise ReloadRefusedError(describe(error)) from error
            raise

    async def _prepare(self) -> None:
        for retune in self._moves.retunes:
            if retune.endpoint.restarting:
                raise ReloadRefusedError(
                    f"{retune.plan.name}: it is being restarted; reload when it has been"
                )
        for supervisor in self._old_supervisors():
            # It would start with the old plan's options what the new one begins or ends.
            self._go_on.append(supervisor.pause())
        for retune in self._moves.retunes:
            self._tune_sockets(retune)
        for wanted in self._moves.wanted:
            if not wanted.after and not wanted.tolerant:
                self._open(wanted)
        for endpoint in self._moves.fresh:
            self._start_service(endpoint)
        for endpoint in self._moves.fresh:
            await endpoint.service.tried
            if endpoint.service.state is State.BACKING_OFF:
                raise ReloadRefusedError(f"{endpoint.name}: {endpoint.service.why}")
        for retune in self._moves.retunes:
            if retune.admission_changed:
                self._step("admission")
                retune.admission = Admission(retune.plan)
            if retune.options_changed:
                await self._retune(retune)
        self._begin_datagrams([wanted for wanted in self._moves.wanted if not wanted.after])
        late = [wanted for wanted in self._moves.wanted if wanted.after]
        for wanted in late:
            for leaving in wanted.after:
                self._park(leaving)
        for wanted in late:
            self._open(wanted)
        self._begin_datagrams(late)

    def _old_supervisors(self) -> Iterator[Supervisor]:
        for retune in self._moves.retunes:
            yield from (retune.endpoint.service, *retune.endpoint.supervisors)
        gone = set(self.gone)
        for leaving in self._moves.leaving:
            if leaving.endpoint in gone:
                yield leaving.watched.supervisor

    def _tune_sockets(self, retune: Retune) -> None:
        for watched, plan in retune.watched.items():
            listener = watched.listener
            if listener.plan.socket != plan.socket and listener.opened is not None:
                what = f"{retune.plan.name}: {listener.plan.address}"
                self._tune(what, listener.opened, listener.plan.socket, plan.socket)

    def _tune(self, what: str, opened: Opened, old: SocketOptions, new: SocketOptions) -> None:
        self._step("tune")
        # There is no way back from the kernel's own receive buffer: that one comes with the commit.
        new = replace(new, receive_buffer=old.receive_buffer)
        self._later("tune back", lambda: self._tune_back(opened, new, old))
        self._tuned.add(opened)
        try:
            tune(opened, old, new)
        except SockdError as error:
            raise ReloadRefusedError(f"{what}: {error}") from error

    def _tune_back(self, opened: Opened, new: SocketOptions, old: SocketOptions) -> None:
        if opened.sock.fileno() >= 0:  # else it failed meanwhile
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
        self._later("close", lambda: ensureDeferred(supervisor.stop()))
        supervisor.on_trial = True
        supervisor.start()
        if supervisor.state is not State.RUNNING:
            raise ReloadRefusedError(f"{what}: {supervisor.why}")

    def _start_service(self, endpoint: Endpoint) -> None:
        self._step("start service")
        self._later("stop service", lambda: ensureDeferred(self._stop_service(endpoint)))
        endpoint.service.on_trial = True
        endpoint.service.start()

    async def _stop_service(self, endpoint: Endpoint) -> None:
        endpoint.connections.close()
        await endpoint.service.stop()

    async def _retune(self, retune: Retune) -> None:
        endpoint, options = retune.endpoint, retune.plan.options
        await self._reload(endpoint, endpoint.host.service, options)
        self._step("make factory")
        retune.host, retune.factory = self._contained(endpoint, lambda: endpoint.engine.made_for(options))
        if retune.factory is not None:
            self._later("stop factory", retune.factory.doStop)
            self._contained(endpoint, retune.factory.doStart)
        for watched in retune.watched:
            listener = watched.listener
            if listener.protocol is None:
                continue
            if hasattr(listener.protocol, "reload"):
                retune.reloaded[watched] = listener.protocol
                await self._reload(endpoint, listener.protocol, options)
                continue
            self._step("make datagram protocol")
            make = _maker(endpoint, retune.host)
            protocol = self._contained(endpoint, partial(listener.new_protocol, make))
            if protocol is not None:
                self._later("stop datagram protocol", protocol.stop)
                retune.made[watched] = protocol

    async def _reload(self, endpoint: Endpoint, target: Any, options: Any) -> None:
        method = getattr(target, "reload", None)
        if method is not None:
            self._step("reload")
            old = endpoint.plan.options
            # Also where it fails: it may have got half-way.
            self._later("reload back", lambda: method(old))
            try:
                await _bounded(maybeDeferred(method, options), self._around.reactor)
            except TookTooLongError as error:
                text = f"{endpoint.name}: going over to the new options takes longer than {PATIENCE:g}s"
                raise ReloadRefusedError(text) from error
            except BaseException as error:
                raise ReloadRefusedError(f"{endpoint.name}: {describe(error)}") from error

    def _begin_datagrams(self, all_wanted: list[Wanted]) -> None:
        """Datagram protocols are third parties' too: have them made, and their faults known, in time."""
        hosts = {retune.endpoint: retune.host for retune in self._moves.retunes}
        for wanted in all_wanted:
            endpoint = wanted.endpoint
            listener = wanted.watched.listener
            if endpoint.service.state is State.RUNNING and listener.takes_datagrams:
                self._step("begin datagrams")
                make = _maker(endpoint, hosts.get(endpoint) or endpoint.host)
                self._contained(endpoint, partial(listener.begin, make))

    def _park(self, leaving: Leaving) -> None:
        if leaving.open and not leaving.parked:
            self._step("close")
            leaving.parked = True
            self._later("open again", lambda: self._unpark(leaving))
            leaving.protocol = leaving.watched.listener.park()

    def _unpark(self, leaving: Leaving) -> None:
        leaving.parked = False
        try:
            leaving.watched.listener.unpark(leaving.protocol)
        except Exception as error:  # noqa: BLE001
            leaving.watched.supervisor.failed(error)

    def _contained(self, endpoint: Endpoint, method: Callable[[], Any]) -> Any:
        try:
            return method()
        except BaseException as error:
            raise ReloadRefusedError(f"{endpoint.name}: {describe(error)}") from error

    # -- undo

    def _later(self, what: str, undo: Callable[[], Any]) -> None:
        self._undo.append((what, undo))

    async def undo(self) -> None:
        """Go back, the last step first."""
        while self._undo:
            what, undo = self._undo.pop()
            try:
                await _bounded(maybeDeferred(undo), self._around.reactor)
            except CancelledError:
                continue  # the daemon stops, and waits for nobody
            except BaseException as error:  # noqa: BLE001
                self._tell(what, error)
        self._resume()

    def _resume(self) -> None:
        while self._go_on:
            self._go_on.pop()()

    def _tell(self, what: str, error: BaseException) -> None:
        self._around.log.error("reload: {what} failed: {why}", what=what, why=describe(error), event="reload")

    # -- commit

    def commit(self, within: float) -> None:
        """Go over to the new plan. Connections of addresses that go have `within` seconds to finish."""
        self._undo.clear()
        for endpoint, old in self._moves.fresh.items():
            endpoint.suspended = old is not None and old.suspended
        for wanted in self._moves.wanted:
            if wanted.heir_of is not None:
                wanted.heir_of.watched.listener.drain()
                wanted.heir_of.watched.listener.release(wanted.plan)
                wanted.watched.listener.own()
                self._finish_tuning(wanted.watched, wanted.plan.socket, wanted.plan.socket)
        for leaving in self._moves.leaving:
            if leaving.protocol is not None:
                self._end(leaving.endpoint, leaving.protocol)
        for retune in self._moves.retunes:
            self._commit(retune, within)
        for supervisor in self._supervisors():
            supervisor.on_trial = False
        self._resume()
        for retune in self._moves.retunes:
            self._retry(retune)
        for endpoint in self._moves.fresh:
            endpoint.serve()
        for wanted in self._moves.wanted:
            if wanted.tolerant:
                wanted.watched.supervisor.start()

    @property
    def opened(self) -> Iterator[tuple[Endpoint, Listener]]:
        """The listeners that there are in addition, of those endpoints."""
        for wanted in self._moves.wanted:
            if wanted.watched.supervisor.state is State.RUNNING:
                yield wanted.endpoint, wanted.watched.listener

    def _supervisors(self) -> Iterator[Supervisor]:
        yield from (endpoint.service for endpoint in self._moves.fresh)
        yield from (wanted.watched.supervisor for wanted in self._moves.wanted)

    def _end(self, endpoint: Endpoint, protocol: DatagramProtocol) -> None:
        try:
            protocol.stop()
        except BaseException:  # noqa: BLE001
            endpoint.connections.protocol_failed("stop")

    def _commit(self, retune: Retune, within: float) -> None:
        endpoint, leaving = retune.endpoint, retune.leaving
        for each in leaving:
            each.listener.drain()
            ensureDeferred(each.supervisor.stop())
        for watched, plan in retune.watched.items():
            old, watched.listener.plan = watched.listener.plan, plan
            if old.socket != plan.socket:
                self._finish_tuning(watched, old.socket, plan.socket)
        endpoint.watch(list(retune.watched), leaving)
        retune.retry_service = retune.options_changed
        retune.retry_listeners = endpoint.plan.listeners != retune.plan.listeners
        if retune.host is None:
            retune.host, retune.factory = endpoint.host, endpoint.engine.factory
        endpoint.adopt(retune.plan, retune.host, retune.factory)
        if retune.admission is not None:
            endpoint.admit_anew(retune.admission)
        if retune.retry_service:
            for watched in retune.watched:
                self._swap_protocol(retune, watched)
        stay = {each.listener.listening for each in retune.watched}
        gone = {each.listener.listening for each in leaving} - stay
        ending = [connection for connection in endpoint.connections if connection.listener in gone]
        if ending:
            endpoint.connections.drain_some(ending, within)
        endpoint.update()
        if endpoint.engine is not retune.engine:
            ensureDeferred(endpoint.restart(within))  # it was restarted meanwhile, with the old options

    def _finish_tuning(self, watched: Watched, old: SocketOptions, new: SocketOptions) -> None:
        opened = watched.listener.opened
        if opened is not None:
            # One that failed and was opened again meanwhile has the old options yet.
            try:
                tune(opened, new if opened in self._tuned else old, new)
            except SockdError as error:
                self._tell(f"{watched.listener.plan.address}: socket options", error)

    def _swap_protocol(self, retune: Retune, watched: Watched) -> None:
        listener = watched.listener
        if watched in retune.made:
            listener.swap_protocol(retune.made[watched])
        elif listener.protocol is not None and listener.protocol is not retune.reloaded.get(watched):
            listener.end_protocol()  # it began meanwhile, with the old options

    def _retry(self, retune: Retune) -> None:
        if retune.retry_service:
            retune.endpoint.service.retry()
        if retune.retry_listeners:
            for supervisor in retune.endpoint.supervisors:
                supervisor.retry()


def _maker(endpoint: Endpoint, host: Host[Any]) -> Callable[[], DatagramProtocol]:
    make = endpoint.plan.specification.datagram
    assert make is not None  # noqa: S101 - else the file was refused
    return lambda: make(host)


def _bounded(deferred: Deferred[Any], reactor: Any) -> Awaitable[Any]:
    return cancellable(deferred).addTimeout(PATIENCE, reactor)
