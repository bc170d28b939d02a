"""What the running daemon hands over."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sockd.daemon import Daemon
from sockd.protocols.contract import State
from sockd.transports.connection import Connection
from sockd.transports.sockets.opening import Opened
from sockd.tree.connections import Connections
from sockd.tree.endpoint import Endpoint
from sockd.tree.supervisor import describe
from sockd.upgrade.value import (
    HandedConnection,
    HandedEndpoint,
    HandedListener,
    Handover,
    UpgradeRefusedError,
)


def survives(connection: Connection) -> bool:
    """Whether the connection can go on in another program: its transport, and its protocol."""
    return connection.movable and hasattr(connection.protocol, "freeze")


def stragglers(connections: Connections) -> list[Connection]:
    """Connections that must end before the upgrade: they can't go on, or were asked to finish."""
    return [
        connection
        for connection in connections
        if connections.draining(connection) or not survives(connection)
    ]


def freeze_service(endpoint: Endpoint) -> Any:
    """The state of its service, in a tuple (empty where there is none), or a Deferred of the state.

    UpgradeRefusedError, raised or from the Deferred, where the service fails to give it. Any: the state is
    whatever the protocol's author chose, and only encoding it shows whether it can be handed over.
    """
    freeze = getattr(endpoint.host.service, "freeze", None)
    if freeze is None:
        return ()
    with _freezing(endpoint, "the service"):
        state = freeze()
    if not isinstance(state, Deferred):
        return (state,)

    def failed(failure: Failure) -> None:
        with _freezing(endpoint, "the service"):
            failure.raiseException()

    state.addErrback(failed)
    if not state.called or state.paused:
        return state
    found: list[Any] = []
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


def handover(daemon: Daemon, services: dict[str, tuple[State, ...]], **process: Any) -> Handover:
    """The state of the whole daemon.

    `services` are the states of the endpoints' services, by name, and `process` the fields that are the
    process's.
    """
    return Handover(
        file=str(daemon.plan.file),
        started=daemon.began,
        listeners=tuple(_listeners(daemon)),
        endpoints={
            endpoint.name: _endpoint(endpoint, services.get(endpoint.name, ()))
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


def _endpoint(endpoint: Endpoint, service: tuple[State, ...]) -> HandedEndpoint:
    connections = endpoint.connections
    with _freezing(endpoint, "a connection"):
        handed = tuple(
            HandedConnection(connection.freeze(), connection.protocol.freeze())
            for connection in connections
            if connection.freezable and survives(connection) and not connections.draining(connection)
        )
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
        if listener.protocol is not None and hasattr(listener.protocol, "freeze"):
            with _freezing(endpoint, str(listener.address)):
                state = listener.protocol.freeze()
            found.setdefault(str(listener.address), []).append(state)
    return found
