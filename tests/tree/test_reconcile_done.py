"""What a reload reports that the plans can't say: addresses that weren't open, services that are slow."""

import socket
from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from sockd.plan import words
from sockd.plan.plan import EndpointPlan
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.endpoint import Endpoint
from sockd.tree.reconcile import Reconciliation
from tests.tree.reloads import Reloads

TCP = "tcp://127.0.0.1:0"
IN_USE = "the address is in use by another program"


@pytest.fixture
def other() -> Iterator[socket.socket]:
    """Another program that has an address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def told(reconciliation: Reconciliation, name: str = "a") -> tuple[str, ...]:
    """The kind and the lines that are reported of an endpoint once the reload is done."""
    (change,) = (change for change in reconciliation.done.endpoints if change.name == name)
    return (str(change.kind), *words.details(change))


def reloaded(reloads: Reloads, *plans: EndpointPlan) -> tuple[str, ...]:
    """The same, after a reload."""
    reconciliation = reloads.begin(*plans)
    assert not reloads.prepare(reconciliation)
    reloads.commit(reconciliation)
    found = told(reconciliation)
    reloads.drain_gone()
    return found


def test_an_address_that_is_opened_by_the_reload(reloads: Reloads, other: socket.socket) -> None:
    """Other options alone would be set on the open socket: there was none, so there is a new one."""
    busy = f"tcp://127.0.0.1:{other.getsockname()[1]}"
    plan = reloads.plan("a", "plain", busy, socket=SocketOptions(backlog=7))
    reloads.start(reloads.plan("a", "plain", busy))
    assert [change.kind for change in reloads.compare(plan).endpoints] == ["updated"]
    other.close()
    assert reloaded(reloads, plan) == ("rebound", f"new socket of {busy}: backlog 1024 -> 7")


def test_an_address_that_still_is_not_open(reloads: Reloads, other: socket.socket) -> None:
    """It is named with the reason, in an endpoint that stays and in one that takes the address."""
    busy = f"tcp://127.0.0.1:{other.getsockname()[1]}"
    reloads.start(reloads.plan("a", "plain", busy))
    assert reloaded(reloads, reloads.plan("a", "plain", busy, socket=SocketOptions(backlog=7))) == (
        "updated",
        f"future socket of {busy}: backlog 1024 -> 7",
        f"{busy} isn't open yet: {IN_USE}",
    )
    assert reloaded(reloads, reloads.plan("a", "keen", busy, socket=SocketOptions(backlog=7))) == (
        "rebound",
        "protocol: plain -> keen",
        f"{busy} isn't open yet: {IN_USE}",
    )


def test_an_address_that_is_not_open_has_no_new_socket(reloads: Reloads, other: socket.socket) -> None:
    """An option that takes another socket is for the one that is opened later: nothing is rebound yet."""
    busy = f"tcp://127.0.0.1:{other.getsockname()[1]}"
    reloads.start(reloads.plan("a", "plain", busy))
    plan = reloads.plan("a", "plain", busy, socket=SocketOptions(reuse_port=True))
    assert [change.kind for change in reloads.compare(plan).endpoints] == ["rebound"]
    assert reloaded(reloads, plan) == (
        "updated",
        f"future socket of {busy}: reuse_port false -> true",
        f"{busy} isn't open yet: {IN_USE}",
    )


def test_an_address_that_nothing_is_done_with(reloads: Reloads, other: socket.socket) -> None:
    """It is reported if anything of its endpoint changes, and not of an endpoint that stays as it is."""
    busy = f"tcp://127.0.0.1:{other.getsockname()[1]}"
    reloads.start(reloads.plan("a", "plain", busy, TCP))
    changed = reloads.plan("a", "plain", busy, TCP, connections=7)
    assert reloaded(reloads, changed) == (
        "updated",
        "limits.connections: 100 -> 7",
        f"{busy} isn't open yet: {IN_USE}",
    )
    assert reloaded(reloads, changed) == ("unchanged",)
    turned = reloads.plan("a", "plain", TCP, busy, connections=7)
    assert reloaded(reloads, turned) == ("unchanged",)


def test_a_service_that_takes_its_time(reloads: Reloads) -> None:
    """A reload waits for it as long as a start does; then it reports that the protocol doesn't run."""
    starting: Deferred[None] = Deferred()
    reloads.start()
    reloads.trouble.arm("startService", lambda: starting)
    assert reloaded(reloads, reloads.plan("a", "keen", TCP)) == (
        "added",
        TCP,
        "the protocol doesn't run yet: starting",
    )
    starting.callback(None)


def restarted_meanwhile(reloads: Reloads, *plans: EndpointPlan) -> tuple[Reconciliation, Endpoint]:
    """A reload that has been prepared while its endpoint was restarted by hand."""
    endpoint = reloads["a"]
    reconciliation = reloads.begin(*plans)
    prepared = ensureDeferred(reconciliation.prepare())
    assert not prepared.called
    ensureDeferred(endpoint.restart(1.0))
    reloads.house.run_clock(lambda: prepared.called)
    assert prepared.result is None
    reloads.commit(reconciliation)
    return reconciliation, endpoint


def test_restarted_during_the_reload(reloads: Reloads) -> None:
    """It has the old options then, so it is restarted again, which is reported."""
    reloads.start(reloads.plan("a", "keen", TCP))
    reconciliation, endpoint = restarted_meanwhile(reloads, reloads.plan("a", "keen", TCP, word="v"))
    assert told(reconciliation) == (
        "updated",
        "options.word: u -> v",
        "the protocol doesn't run yet: starting",
        "it was restarted with the old options during the reload, and is restarted again",
    )
    reloads.house.run_clock(lambda: endpoint.running)
    assert reloads.ask("a") == b"v?"


def test_restarted_during_a_reload_of_something_else(reloads: Reloads) -> None:
    """It has the options that it should have: it is left alone."""
    reloads.start(reloads.plan("a", "keen", TCP))
    limited, new = reloads.plan("a", "keen", TCP, connections=7), reloads.plan("b", "keen", TCP, word="v")
    reconciliation, endpoint = restarted_meanwhile(reloads, limited, new)
    assert told(reconciliation) == ("updated", "limits.connections: 100 -> 7")
    assert endpoint.running
    assert reloads.ask("a") == b"u?"
