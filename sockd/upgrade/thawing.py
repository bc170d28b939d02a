"""What a daemon takes over from the program that ran in this process before."""

import socket
from collections.abc import Iterator, Mapping

from sockd.base.addresses import Address, parse
from sockd.base.frozen import State
from sockd.base.metrics import End
from sockd.control.conversation import Conversation
from sockd.control.status import Outcome
from sockd.daemon import Daemon
from sockd.protocols.contract import StreamFactory
from sockd.systemd.inherited import address_of
from sockd.transports.connection import Connection
from sockd.transports.listening import Listening
from sockd.transports.sockets.opening import Opened
from sockd.transports.twisted import built
from sockd.tree.endpoint import Endpoint
from sockd.tree.sockets import Sockets, Store
from sockd.tree.streams import plain
from sockd.upgrade.value import HandedEndpoint, HandedListener, Handover


def sockets_of(handed: Handover, by_number: Mapping[int, socket.socket], store: Store) -> Sockets:
    """The listening sockets, for the listeners of the same plan."""
    named: dict[str, list[Opened]] = {}
    given: list[tuple[Address, Opened]] = []
    for listener in handed.listeners:
        opened = _opened(listener, by_number[listener.fd])
        if listener.name is not None:
            named.setdefault(listener.name, []).append(opened)
        else:
            given.append((parse(listener.planned or listener.address), opened))
            store.has(opened)
    return Sockets(named, given, store)


def _opened(listener: HandedListener, sock: socket.socket) -> Opened:
    if listener.name is not None:
        # systemd may listen where no file of ours could say so, such as on a multicast address.
        return Opened(sock, address_of(sock), ours=False)
    return Opened(sock, parse(listener.address), listener.file)


def before_start(daemon: Daemon, handed: Handover) -> None:
    """Let services, listeners and counters have the state that they had; nothing runs yet."""
    daemon.began = handed.started
    daemon.reloading.last = Outcome.of(handed.reload)
    for name, state in handed.endpoints.items():
        endpoint = _successor(daemon, name, state)
        if endpoint is not None:
            _prepare(endpoint, state)


def _successor(daemon: Daemon, name: str, state: HandedEndpoint) -> Endpoint | None:
    endpoint = daemon.by_name.get(name)
    return endpoint if endpoint is not None and endpoint.plan.protocol == state.protocol else None


def _prepare(endpoint: Endpoint, state: HandedEndpoint) -> None:
    endpoint.suspended = state.suspended
    for service in state.service:
        endpoint.engine.thaw(service)
    counted = state.counters or {}
    endpoint.host.counters.thaw(counted.get("endpoint") or {})
    endpoint.connections.refusals.thaw(counted.get("refusals") or {})
    left = list(counted.get("listeners") or ())
    for listener in endpoint.listeners:
        for each in left:
            if each.get("address") == str(listener.plan.address):
                listener.counters.thaw(each.get("counters") or {})
                left.remove(each)
                break
    datagrams = {address: list(states) for address, states in state.datagrams.items()}
    for one in endpoint.datagram_listeners:
        # The address that is open is not known before it is: a port may be 0 in the plan.
        one.thaw_from(datagrams)


def after_start(daemon: Daemon, handed: Handover, by_number: Mapping[int, socket.socket]) -> int:
    """Let connections go on, now that services run; how many do."""
    count = 0
    for name, state in handed.endpoints.items():
        endpoint = _successor(daemon, name, state)
        for handed_over in state.connections:
            sock = by_number[handed_over.transport["fd"]]
            factory = None if endpoint is None else endpoint.engine.factory
            if endpoint is None or factory is None:
                # The rehearsal went well, but the file or what the protocol needs has changed since.
                daemon.log.warn(  # noqa: G010
                    "{endpoint}: a connection can't go on", endpoint=name, event="lost"
                )
                sock.close()
                continue
            listening = _listening(endpoint, handed_over.transport["listener"])
            connection = plain(endpoint.connections.admission).take_over(
                handed_over.transport, sock, daemon.around.flusher, endpoint.connections, listening
            )
            count += _go_on(endpoint, factory, connection, handed_over.protocol)
    return count


def _listening(endpoint: Endpoint, address: str) -> Listening:
    for listener in endpoint.listeners:
        if listener.listening.name == address:
            return listener.listening
    return Listening(address)


def _go_on(endpoint: Endpoint, factory: StreamFactory, connection: Connection, state: State) -> bool:
    try:
        protocol = built(factory, connection.peer)
    except BaseException:  # noqa: BLE001 - a third party's
        endpoint.connections.protocol_failed("buildProtocol")
        endpoint.connections.reject(connection, End.FAILED)
        return False
    if protocol is None:
        endpoint.connections.refused(connection, "by the protocol")
        endpoint.connections.reject(connection, End.REFUSED)
        return False
    endpoint.connections.go_on(connection, protocol, state)
    return connection.freezable


def askers(
    daemon: Daemon, handed: Handover, by_number: Mapping[int, socket.socket]
) -> Iterator[Conversation]:
    """The conversations in which the upgrade was asked for, and which wait for its result."""
    control = daemon.controls.control
    for each in handed.control:
        sock = by_number[each["fd"]]
        if control is None:
            sock.close()
        else:
            yield control.adopt(sock, each["state"])
