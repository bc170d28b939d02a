"""Any plan after any other: a reload does all of it or nothing, whatever fails on the way."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from sockd.base.addresses import Address
from sockd.plan.diff import diff
from sockd.plan.plan import Plan
from sockd.tree.endpoint import Endpoint
from sockd.tree.moves import without_reload
from sockd.tree.reconcile import Reconciliation, ReloadRefusedError
from sockd.tree.states import State
from tests.tree.town import Client, Resident, Town, resident, taken
from tests.tree.trees import (
    PLACES,
    SLOW_PLACES,
    Trouble,
    addresses,
    check_same,
    free_ports,
    plans,
    shape,
    specifications,
)

WITHIN = 5.0  # seconds that drained connections have
PORTS = free_ports(2)


@dataclass
class Fault:
    """A failure, and when it comes: at the nth step, or the next time that a protocol gets to a place."""

    what: str
    step: int = 0
    place: str = ""


STEPS = st.integers(0, 15)
FAULTS = st.one_of(
    st.builds(Fault, st.just("nothing")),
    st.builds(Fault, st.just("undo")),  # all is ready, but the caller doesn't want it any more
    st.builds(Fault, st.sampled_from(["raise", "cancel"]), step=STEPS),
    st.builds(Fault, st.sampled_from(["bug", "exit"]), place=st.sampled_from(PLACES)),
    st.builds(Fault, st.sampled_from(["never", "later"]), place=st.sampled_from(SLOW_PLACES)),
)


class Reload:
    """A reconciliation to another plan, in which something goes wrong."""

    def __init__(self, town: Town, plan: Plan, fault: Fault, trouble: Trouble) -> None:
        self.town = town
        self.fault = fault
        self.trouble = trouble
        self.steps: list[str] = []
        self.waiting: list[Deferred[None]] = []
        self.errors: list[Failure] = []
        running = tuple(endpoint.plan for endpoint in town.endpoints.values())
        self.changes = diff(replace(plan, endpoints=running), plan, without_reload(town.endpoints))
        self.reconciliation = Reconciliation(town.endpoints, self.changes, town.house.surroundings, self.step)
        if fault.place:
            trouble.arm(fault.place, self.goes_wrong)
        self.task = ensureDeferred(self.run())
        self.ended = False
        self.task.addErrback(self.errors.append)
        self.task.addBoth(self.end)
        # A coroutine's Deferred counts as called when it is cancelled, though it has yet to end.
        town.house.run_clock(lambda: self.ended)
        trouble.arm("", lambda: None)

    async def run(self) -> None:
        await self.reconciliation.prepare()
        if self.fault.what == "undo":
            await self.reconciliation.undo()

    def end(self, _: object) -> None:
        self.ended = True

    def step(self, what: str) -> None:
        self.steps.append(what)
        if len(self.steps) == self.fault.step + 1:
            if self.fault.what == "raise":
                raise ZeroDivisionError(what)
            if self.fault.what == "cancel":
                self.town.house.loop.callLater(0, lambda: self.task.cancel())  # noqa: PLW0108 - there is none yet

    def goes_wrong(self) -> Any:
        if self.fault.what == "bug":
            raise ZeroDivisionError("a bug of a protocol")
        if self.fault.what == "exit":
            raise SystemExit(3)
        waiting: Deferred[None] = Deferred()
        if self.fault.what == "later":
            fail = ZeroDivisionError("a bug of a protocol")
            self.town.house.loop.callLater(0.1, lambda: None if waiting.called else waiting.errback(fail))
        self.waiting.append(waiting)
        return waiting

    def come_round(self) -> None:
        """End what seemed never to end."""
        for waiting in self.waiting:
            if not waiting.called:
                waiting.callback(None)
        services = [endpoint.service for endpoint in self.town.endpoints.values()]
        self.town.house.run_clock(lambda: all(service.state is State.RUNNING for service in services))


def descriptors() -> int:
    """Those of the process. What other tests left behind may be collected at any time: fewer are no fault."""
    return len(os.listdir("/proc/self/fd"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_all_or_nothing(data: st.DataObject, tmp_path: Path) -> None:
    """After a failure the tree is as before; after a success it is like one that began with this plan."""
    same = tmp_path / "same"
    for path in tmp_path.iterdir():
        path.unlink()  # of an example that failed
    same.symlink_to(tmp_path)
    pool = addresses(PORTS, tmp_path)
    trouble = Trouble()
    known = specifications(trouble)
    before = data.draw(plans(pool, known), label="before")
    after = data.draw(plans(pool, known, before), label="after")
    fault = data.draw(FAULTS, label="fault")
    busy = data.draw(st.one_of(st.none(), st.none(), st.sampled_from(pool)), label="busy")
    suspended = data.draw(st.sets(st.sampled_from("abc"), max_size=2), label="suspended")
    with taken(busy):
        at_first = descriptors()
        town = Town(tmp_path)
        try:
            town.start(before)
            shaped = check_reload(town, after, fault, trouble, suspended, busy)
        finally:
            town.close()
        assert descriptors() <= at_first
        if shaped is not None:
            fresh = Town(tmp_path)
            try:
                fresh.start(after)
                assert shape(fresh.look()) == shaped
            finally:
                fresh.close()
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


def check_reload(
    town: Town, after: Plan, fault: Fault, trouble: Trouble, suspended: set[str], busy: Address | None
) -> Any:
    """Reload and compare; returns the tree's shape if the reload succeeded."""
    living = [resident(town, client) for client in town.clients() if client.address.kind.stream]
    for name in suspended & town.endpoints.keys():
        town.endpoints[name].suspend(True)
    town.house.loop.settle()
    seen, open_before = town.look(), descriptors()
    queued = town.clients()
    for client in queued:
        client.ask()
    reload = Reload(town, after, fault, trouble)
    for failure in reload.errors:
        assert failure.check(ReloadRefusedError), failure
    assert not town.house.log.named("reload")
    shaped = None
    if reload.errors or fault.what == "undo":
        assert fault.what != "nothing" or busy is not None, reload.errors
        check_same(seen, town.look(), reload.steps.count("close"))
        for one in living:
            assert one.client.answered() == one.answer, one
        check_answered(queued)
        for client in queued:
            client.close()
        town.check_serving()
        assert descriptors() <= open_before
    else:
        check_success(town, reload, living, queued)
        shaped = shape(town.look())
    for one in living:
        one.client.close()
    return shaped


def check_answered(queued: list[Client]) -> None:
    for client in queued:
        assert client.answer()[1:] == b"?", client.address


def addresses_of(endpoint: Endpoint) -> list[Address]:
    return [listener.plan.address for listener in endpoint.listeners]


def check_success(town: Town, reload: Reload, living: list[Resident], queued: list[Client]) -> None:
    """Connections that could stay are there, the others have ended in good order, new ones are served."""
    old = town.endpoints
    had = {endpoint: addresses_of(endpoint) for endpoint in old.values()}
    suspended = {name for name, endpoint in old.items() if endpoint.suspended}
    reload.reconciliation.commit(WITHIN)
    assert not town.house.log.named("reload")
    town.endpoints = reload.reconciliation.endpoints
    town.gone = reload.reconciliation.gone
    reload.come_round()
    for name, endpoint in town.endpoints.items():
        assert endpoint.suspended == (name in suspended)
        endpoint.suspend(False)
    check_answered(queued)
    town.end_gone()
    connections = [endpoint.connections for endpoint in town.endpoints.values()]
    town.house.run_clock(lambda: not any(each.draining(one) for each in connections for one in each))
    for one in living:
        stays = one.endpoint in town.endpoints.values()
        has = addresses_of(one.endpoint).count(one.address) if stays else 0
        if has >= had[one.endpoint].count(one.address):
            assert one.client.answered() == one.answer, one
        elif not has:
            assert one.client.answer() == b""
    for client in queued:
        client.close()
    town.check_serving()
