"""What the running daemon hands over."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.frozen import State
from sockd.base.hosted import method_of, offers
from sockd.base.reactor import Reactor
from sockd.base.waiting import Turns
from sockd.daemon import Daemon
from sockd.transports.connection import Connection
from sockd.transports.faces import face
from sockd.transports.flush import SLICE
from sockd.transports.sockets.opening import Opened
from sockd.tree.connections import Connections
from sockd.tree.endpoint import Endpoint
from sockd.tree.supervisor import describe
from sockd.upgrade.passing import encode
from sockd.upgrade.value import (
    HandedConnection,
    HandedEndpoint,
    HandedListener,
    Handover,
    UpgradeRefusedError,
)

MAX_LOGGED = 20  # connections of one upgrade that the log names


class Travellers:
    """Which connections can go on in another program, as far as they have been looked at.

    A third party's `freeze` may raise, return what can't be written, or not be there: that costs its own
    connection, which finishes before the upgrade, and nobody else anything.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._logged = 0
        self._named: set[tuple[str, str]] = set()  # listeners, and protocols that can't be frozen
        self._known: dict[Connection, bool] = {}

    def fit(self, connection: Connection) -> bool:
        """Whether it can go on."""
        fit = self._known.get(connection)
        return self._look_at(connection) if fit is None else fit

    def _look_at(self, connection: Connection) -> bool:
        fit = False
        if connection.movable:
            try:
                answers = face(connection.protocol)
                fit = all(offers(answers, name) for name in ("freeze", "thaw"))
                if fit:
                    encode(answers.freeze())
            except BaseException as error:  # noqa: BLE001
                self.unfit(connection, error)
                return False
            if not fit:
                self._name(connection, answers)
        self._known[connection] = fit
        return fit

    def _name(self, connection: Connection, answers: object) -> None:
        """Log, once for each address and protocol, that connections finish because it can't be frozen."""
        listener, protocol = kind = connection.listener.name, type(answers).__qualname__
        if kind not in self._named and len(self._named) < MAX_LOGGED:
            self._named.add(kind)
            self._log.info(
                "{listener}: connections finish before the upgrade: {protocol} has no freeze and thaw",
                listener=listener, protocol=protocol, event="not handed over",
            )  # fmt: skip

    def unfit(self, connection: Connection, error: BaseException) -> None:
        """Its protocol can't give its state, for this reason."""
        self._known[connection] = False
        self._logged += 1
        if self._logged <= MAX_LOGGED:
            self._log.warn(
                "{listener}: the connection of {peer} can't go on in the new program, and finishes before:"
                " {why}",
                listener=connection.listener.name, peer=connection.peer.text, why=describe(error),
                event="not handed over",
            )  # fmt: skip

    def stragglers(self, connections: Connections) -> list[Connection]:
        """Connections that must end before the upgrade: they can't go on, or were asked to finish."""
        return [
            connection
            for connection in connections
            if connections.draining(connection) or not self.fit(connection)
        ]

    async def look_at_all(self, endpoints: Iterable[Endpoint], reactor: Reactor) -> None:
        """Look at all connections there are, for a slice in each turn of the reactor."""
        turns = Turns(reactor, SLICE)
        for endpoint in endpoints:
            for connection in tuple(endpoint.connections):
                if connection.connected:
                    self.fit(connection)
                await turns.over()


def freeze_service(endpoint: Endpoint) -> State:
    """The state of its service, in a tuple (empty where there is none), or a Deferred of the state.

    The service may return a Deferred, or have a coroutine for it.

    UpgradeRefusedError, raised or from the Deferred, where the service fails to give it. The state is
    whatever the protocol's author chose, and only encoding it shows whether it can be handed over.
    """
    with _freezing(endpoint, "the service"):
        freeze = method_of(endpoint.host.service, "freeze")
        if freeze is None:
            return ()
    state = maybeDeferred(freeze)

    def failed(failure: Failure) -> None:
        with _freezing(endpoint, "the service"):
            failure.raiseException()

    state.addErrback(failed)
    if not state.called or state.paused:
        return state
    found: list[State] = []
    state.addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return (found[0],)


@contextmanager
def _freezing(endpoint: Endpoint, what: str) -> Iterator[None]:
    """A third party's `freeze` is called within: it may raise whatever it likes."""
    try:
        yield
    except BaseException as error:
        raise UpgradeRefusedError(
            f"{endpoint.name}: {what} can't give its state: {describe(error)}"
        ) from error


def handover(
    daemon: Daemon, services: dict[str, tuple[State, ...]], travellers: Travellers, **process: State
) -> Handover:
    """The state of the whole daemon, without the connections that are no `travellers`.

    `services` are the states of the endpoints' services, by name, and `process` the fields that are the
    process's.
    """
    return Handover(
        file=str(daemon.plan.file),
        started=daemon.began,
        listeners=tuple(_listeners(daemon)),
        endpoints={
            endpoint.name: _endpoint(endpoint, services.get(endpoint.name, ()), travellers)
            for endpoint in daemon.endpoints
        },
        control=tuple({"fd": sock.fileno(), "state": state} for sock, state in daemon.controls.pending()),
        reload=daemon.reloading.last and daemon.reloading.last.value(),
        numbers=next(daemon.around.numbers),
        **process,
    )


def _listeners(daemon: Daemon) -> Iterator[HandedListener]:
    for endpoint in daemon.endpoints:
        for listener in endpoint.listeners:
            if listener.opened is not None and listener.opened.ours:
                yield _listener(listener.opened, endpoint.name, str(listener.plan.address))
    if daemon.controls.opened is not None:
        yield _listener(daemon.controls.opened, "", str(daemon.plan.control))
    for name, passed in daemon.around.sockets.passed.items():
        for opened in passed:
            yield HandedListener(opened.sock.fileno(), str(opened.address), "", name=name)


def _listener(opened: Opened, endpoint: str, planned: str) -> HandedListener:
    return HandedListener(opened.sock.fileno(), str(opened.address), endpoint, planned, opened.file)


def _connections(connections: Connections, travellers: Travellers) -> Iterator[HandedConnection]:
    for connection in connections:
        if connection.freezable and travellers.fit(connection) and not connections.draining(connection):
            try:
                state = face(connection.protocol).freeze()
            except BaseException as error:  # noqa: BLE001
                travellers.unfit(connection, error)
            else:
                yield HandedConnection(connection.hand_over(), state)


def _endpoint(endpoint: Endpoint, service: tuple[State, ...], travellers: Travellers) -> HandedEndpoint:
    handed = tuple(_connections(endpoint.connections, travellers))
    return HandedEndpoint(
        protocol=endpoint.plan.protocol,
        service=service,
        connections=handed,
        datagrams=_datagrams(endpoint),
        suspended=endpoint.suspended,
        counters={
            "endpoint": endpoint.host.counters.freeze(),
            "listeners": [
                {"address": str(each.plan.address), "counters": each.counters.freeze()}
                for each in endpoint.listeners
            ],
            "refusals": endpoint.connections.refusals.freeze(),
        },
    )


def _datagrams(endpoint: Endpoint) -> dict[str, list[State]]:
    found: dict[str, list[State]] = {}
    for listener in endpoint.datagram_listeners:
        with _freezing(endpoint, str(listener.address)):
            freeze = method_of(listener.protocol, "freeze")
            if freeze is not None:
                found.setdefault(str(listener.address), []).append(freeze())
    return found
