"""The rehearsal as the new program does it, in a child of the running one.

Everything that would be handed over is thawed here, by the code that would go on with it, while the running
program serves as before: with sockets that take and give nothing, in a reactor in which no time passes. What
fails here would have failed after exec, when there is no way back. Nothing is opened, sent or logged.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from twisted.logger import Logger

from sockd.base.frozen import State
from sockd.base.hosted import awaited_nowhere, made
from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.base.reactor import Watcher, later_by
from sockd.plan.plan import EndpointPlan, Plan
from sockd.protocols.contract import AnyHost, Host, StreamFactory
from sockd.transports.connection import Connection
from sockd.transports.datagrams.hosted import served
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.twisted import built
from sockd.tree.supervisor import describe
from sockd.upgrade.stand_ins import DeafPort, DeafSocket, StillConnection, StillReactor
from sockd.upgrade.value import HandedConnection, HandedEndpoint, Handover


def problems(handover: Handover, plan: Plan) -> list[str]:
    """Why this program can't go on where the running one stops, a line for each reason; or none."""
    plans = {endpoint.name: endpoint for endpoint in plan.endpoints}
    return [line for name, state in handover.endpoints.items() for line in _of(name, state, plans.get(name))]


def _of(name: str, state: HandedEndpoint, plan: EndpointPlan | None) -> Iterator[str]:
    if plan is None or plan.protocol != state.protocol:
        if state.connections or state.service or state.datagrams:
            what = "is not in the file any more" if plan is None else f"is {plan.protocol} in the file now"
            yield f"{name}: it runs {state.protocol} and {what}: reload first"
        return
    rehearsal = _Rehearsal(plan)
    rehearsal.run(state)
    for reason, count in rehearsal.found.items():
        yield f"{name}: {reason}" + (f" ({count} times)" if count > 1 else "")


T = TypeVar("T")


class _Rehearsal:
    """The rehearsal of one endpoint, which owns its connections; `found` counts what went wrong."""

    def __init__(self, plan: EndpointPlan) -> None:
        self.found: Counter[str] = Counter()
        self._specification = plan.specification
        reactor = self._reactor = StillReactor()
        self.later = later_by(reactor)
        self._flusher = Flusher(reactor)
        self._host: AnyHost = Host(
            endpoint=plan.name,
            options=plan.options,
            reactor=reactor,
            # The running program has the log. Any: a function is no ILogObserver to mypy.
            log=Logger("sockd", observer=cast("Any", lambda _event: None)),
            fail=lambda error: self._note("its service failed", error),
        )

    def lane(self, *, secure: bool) -> Watcher:  # noqa: ARG002
        return self._reactor

    def run(self, state: HandedEndpoint) -> None:
        self._try("its service", self._thaw_service, state)
        if self.found:
            return  # what needs the service could only fail for the same reason
        factory = None
        if state.connections:
            factory = self._try("its factory", self._make_factory)
        for connection in state.connections if factory is not None else ():
            self._try("a connection", self._thaw_connection, factory, connection)
        for address, states in state.datagrams.items():
            for datagrams in states:
                self._try(address, self._thaw_datagrams, datagrams)

    def _thaw_service(self, state: HandedEndpoint) -> None:
        if self._specification.service is not None:
            self._host.service = made(self._specification.service(self._host), "service")
            awaited_nowhere(self._host.service, ("thaw",))
            for service_state in state.service:
                self._host.service.thaw(service_state)
        elif state.service:
            raise LookupError("this version of the protocol has no service")

    def _make_factory(self) -> StreamFactory:
        if self._specification.stream is None:
            raise LookupError("this version of the protocol has no streams")
        return made(self._specification.stream(self._host), "stream")

    def _thaw_connection(self, factory: StreamFactory, state: HandedConnection) -> None:
        peer = Peer.thaw(state.transport["peer"])
        # Any: it has what a connection calls of a socket.
        sock: Any = DeafSocket(peer, state.transport["listener"])
        connection = StillConnection.take_over(
            state.transport, sock, self._flusher, self, Listening("rehearsal")
        )
        protocol = built(factory, peer)
        if protocol is None:
            raise LookupError("this version of the protocol refuses it")
        connection.resume(protocol, state.protocol)

    def _thaw_datagrams(self, state: State) -> None:
        if self._specification.datagram is None:
            raise LookupError("this version of the protocol has no datagrams")
        # Any: `thaw` is no part of the contract of all.
        protocol: Any = served(made(self._specification.datagram(self._host), "datagram"))
        protocol.start(DeafPort(self.protocol_failed))
        protocol.thaw(state)

    def _try(self, what: str, step: Callable[..., T], *arguments: object) -> T | None:
        try:
            return step(*arguments)
        except BaseException as error:  # noqa: BLE001 - a third party's code raises what it likes
            self._note(what, error)
            return None

    def _note(self, what: str, error: BaseException) -> None:
        self.found[f"{what}: {describe(error)}"] += 1

    # -- as the Owner of a Connection

    def ended(self, connection: Connection, end: End) -> None:
        """There is no turn of the reactor in which a connection could end."""

    def refused(self, connection: Connection, reason: str, why: str = "") -> None:
        """Nothing comes that could be refused."""

    def protocol_failed(self, where: str) -> None:
        error = sys.exception()
        assert error is not None  # noqa: S101
        self._note(where, error)
