"""A running tree that is reloaded, step by step or as a whole, with plans of the protocols of `trees`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred

from sockd.base.addresses import Address, Kind, parse
from sockd.config.model import Restart
from sockd.plan.changes import Changes
from sockd.plan.diff import diff
from sockd.plan.plan import AccessPlan, EndpointPlan, Limits, ListenerPlan, LogPlan, Network, Plan, TlsPlan
from sockd.protocols.contract import Specification
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.endpoint import Endpoint
from sockd.tree.moves import without_reload
from sockd.tree.reconcile import Reconciliation, ReloadRefusedError
from sockd.tree.sweep import DRAINED_QUIET_TIME
from tests.tree.house import DELAY, MOST, House
from tests.tree.trees import HERE, Trouble, Word, specifications

WITHIN = 4.0
USUAL = SocketOptions()
assert WITHIN > 2 * DRAINED_QUIET_TIME


class Reloads:
    """Endpoints in a house, by name, as the daemon has them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.trouble = Trouble()
        self.known = specifications(self.trouble)
        self.endpoints: dict[str, Endpoint] = {}
        self.gone: list[Endpoint] = []

    def plan(
        self,
        name: str,
        protocol: str | Specification,
        *addresses: str | Address,
        word: str = "u",
        socket: SocketOptions = USUAL,
        give_up_after: float | None = None,
        restart: Restart = Restart(delay=DELAY, max_delay=MOST),  # noqa: B008 - frozen
        tls: TlsPlan | None = None,
        access: AccessPlan | None = None,
        proxy_from: tuple[Network, ...] = (),
        **limits: Any,
    ) -> EndpointPlan:
        """The plan of one endpoint."""
        where = [parse(address) if isinstance(address, str) else address for address in addresses]
        usual: dict[str, Any] = {"connections": 100, "idle": None, "stall": None}
        usual |= {"datagrams": None, "datagrams_per_source": None}
        return EndpointPlan(
            name,
            str(protocol) if isinstance(protocol, str) else "own",
            self.known[protocol] if isinstance(protocol, str) else protocol,
            options=Word(word=word),
            limits=Limits(**usual | limits),
            restart=restart,
            give_up_after=give_up_after,
            listeners=tuple(ListenerPlan(address, socket, address.kind is Kind.TLS) for address in where),
            place=HERE,
            tls=tls,
            access=access,
            proxy_from=proxy_from,
        )

    def start(self, *plans: EndpointPlan) -> None:
        """Start these endpoints."""
        around = self.house.surroundings
        self.endpoints = {plan.name: Endpoint(plan, around) for plan in plans}
        self.house.endpoints = list(self.endpoints.values())
        for endpoint in self.endpoints.values():
            endpoint.bind()
        tried = [endpoint.start() for endpoint in self.endpoints.values()]
        self.house.run_clock(lambda: all(each.called for each in tried))

    def begin(self, *plans: EndpointPlan, step: Callable[[str], None] = lambda _: None) -> Reconciliation:
        """A reconciliation that hasn't begun."""
        return Reconciliation(self.endpoints, self.compare(*plans), self.house.surroundings, step)

    def compare(self, *plans: EndpointPlan) -> Changes:
        """The changes that lead from what runs to these plans."""
        running = tuple(endpoint.plan for endpoint in self.endpoints.values())
        old, new = (
            Plan(Path("sockd.yaml"), WITHIN, LogPlan("info", "auto"), each) for each in (running, plans)
        )
        return diff(old, new, without_reload(self.endpoints))

    def prepare(self, reconciliation: Reconciliation) -> str:
        """The reason that it was refused, or nothing."""
        ended: list[Any] = []
        ensureDeferred(reconciliation.prepare()).addBoth(ended.append)
        self.house.run_clock(lambda: ended)
        if ended[0] is not None:
            assert ended[0].check(ReloadRefusedError), ended[0]
            return str(ended[0].value)
        return ""

    def commit(self, reconciliation: Reconciliation) -> None:
        """Commit it; the endpoints that are gone are drained later."""
        reconciliation.commit(WITHIN)
        self.endpoints = reconciliation.endpoints
        self.gone += reconciliation.gone
        self.house.endpoints = [*self.endpoints.values(), *self.gone]

    def drain_gone(self) -> None:
        for endpoint in self.gone:
            for ending in (endpoint.drain, endpoint.stop):
                ended = ensureDeferred(ending())
                self.house.run_clock(lambda ended=ended: ended.called)  # type: ignore[misc]
        self.gone.clear()
        self.house.endpoints = list(self.endpoints.values())

    def reload(self, *plans: EndpointPlan) -> str:
        """Prepare and commit; the reason that it was refused, or nothing."""
        reconciliation = self.begin(*plans)
        refused = self.prepare(reconciliation)
        if not refused:
            self.commit(reconciliation)
            self.drain_gone()
        return refused

    def __getitem__(self, name: str) -> Endpoint:
        return self.endpoints[name]

    def address(self, name: str, number: int = 0) -> Address:
        """Where a listener of this endpoint can be reached."""
        address = self[name].listeners[number].address
        return (
            address
            if address.host not in ("*", "0.0.0.0")
            else parse(f"{address.kind}://127.0.0.1:{address.port}")
        )

    def ask(self, name: str, number: int = 0) -> bytes:
        """The answer to a new client."""
        client = self.house.connect(self.address(name, number), b"?")
        answer = self.house.receive(client, 2)
        client.close()
        return answer
