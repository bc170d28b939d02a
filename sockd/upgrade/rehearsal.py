"""The rehearsal as the new program does it: everything is thawed that was handed over, and nothing opened."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

from twisted.logger import Logger

from sockd.handover.value import HandedConnection, HandedEndpoint, Handover
from sockd.metrics import Counters, End
from sockd.peers import Peer
from sockd.plan import EndpointPlan, Plan
from sockd.protocols.contract import Host
from sockd.services.supervisor import describe
from sockd.transports.stream import Server, twisted_address
from sockd.transports.turn import Turn
from sockd.upgrade.stage import DeafPort, DeafSocket, StillReactor


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


class _Rehearsal:
    """One endpoint's; the owner of its connections. `found` counts what went wrong, by reason."""

    def __init__(self, plan: EndpointPlan) -> None:
        self.found: Counter[str] = Counter()
        self._specification = plan.specification
        reactor = self._reactor = StillReactor()
        self._turn = Turn(reactor)
        self._host: Host[Any] = Host(
            endpoint=plan.name,
            options=plan.options,
            reactor=reactor,
            log=Logger("sockd", observer=cast("Any", lambda _event: None)),  # the running program has the log
            fail=lambda error: self._note("its service failed", error),
        )

    def lane(self, *, secure: bool) -> Any:  # noqa: ARG002
        return self._reactor

    def run(self, state: HandedEndpoint) -> None:
        self._try("its service", self._thaw_service, state)
        if self.found:
            return  # what is built on it could fail for no other reason
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
            self._host.service = self._specification.service(self._host)
            for service_state in state.service:
                self._host.service.thaw(service_state)
        elif state.service:
            raise LookupError("this version of the protocol has no service")

    def _make_factory(self) -> Any:
        if self._specification.stream is None:
            raise LookupError("this version of the protocol has no streams")
        return self._specification.stream(self._host)

    def _thaw_connection(self, factory: Any, state: HandedConnection) -> None:
        peer = Peer.thaw(state.server["peer"])
        sock: Any = DeafSocket(peer, state.server["listener"])
        server = Server.thaw(state.server, sock, self._turn, self, Counters())
        protocol = factory.buildProtocol(twisted_address(sock.family, peer.sockaddr))
        if protocol is None:
            raise LookupError("this version of the protocol refuses it")
        server.resume(protocol, state.protocol)

    def _thaw_datagrams(self, state: Any) -> None:
        if self._specification.datagram is None:
            raise LookupError("this version of the protocol has no datagrams")
        protocol: Any = self._specification.datagram(self._host)
        protocol.start(DeafPort(self.protocol_failed))
        protocol.thaw(state)

    def _try(self, what: str, step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except BaseException as error:  # noqa: BLE001 - a third party's code raises what it likes
            self._note(what, error)
            return None

    def _note(self, what: str, error: BaseException) -> None:
        self.found[f"{what}: {describe(error)}"] += 1

    # -- transports.stream.Owner

    def ended(self, server: Server, end: End) -> None:
        """No turn of the reactor comes in which a connection could end."""

    def protocol_failed(self, where: str) -> None:
        error = sys.exception()
        assert error is not None  # noqa: S101
        self._note(where, error)
