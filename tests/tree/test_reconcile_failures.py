"""A reload that fails is undone, whatever fails and whenever, and says why."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from sockd.base.errors import SockdError
from sockd.config.model import Restart
from sockd.transports.sockets.opening import open_address
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.endpoint import Endpoint
from sockd.tree.reconcile import STEP_TIMEOUT
from sockd.tree.states import State
from tests.tree.house import DELAY, MOST, raising
from tests.tree.reloads import USUAL, Reloads
from tests.tree.trees import PLACES, SLOW_PLACES, check_same, free_ports, look

(PORT,) = free_ports(1)
RESTART = Restart(delay=DELAY, max_delay=MOST)
TCP, UDP = f"tcp://127.0.0.1:{PORT}", f"udp://127.0.0.1:{PORT}"


def seen(reloads: Reloads) -> Any:
    reloads.house.loop.settle()
    return look(reloads.endpoints, reloads.house.loop.readers)


# -- third parties


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, SockdError])
@pytest.mark.parametrize("place", PLACES)
def test_fault_of_a_protocol(place: str, error: type[BaseException], reloads: Reloads) -> None:
    """Wherever a third party's code fails, the reload is refused and the old state serves."""
    reloads.start(reloads.plan("a", "keen", TCP, UDP), reloads.plan("b", "plain", "tcp://127.0.0.2:0"))
    who = reloads.house.connect(reloads.address("a"), b"?")
    reloads.house.receive(who, 2)
    before, ports = seen(reloads), list(reloads.house.ports)
    reloads.trouble.arm(place, raising(error("a bug\nof a protocol")))
    why = reloads.reload(
        reloads.plan("a", "keen", TCP, UDP, word="v"),
        reloads.plan("c", "keen", "udp://127.0.0.1:0", word="v"),
    )
    assert why.startswith(("a: ", "c: "))
    assert "a bug" in why
    assert error is SockdError or error.__name__ in why
    assert "\n" not in why or error is SockdError
    check_same(before, seen(reloads), 0)
    assert list(reloads.house.ports) == ports
    who.send(b"?")
    assert (reloads.house.receive(who, 2), reloads.ask("a"), reloads.ask("a", 1)) == (b"u?",) * 3
    assert not reloads.house.log.named("reload")


def test_fault_at_an_address_that_is_opened_late(reloads: Reloads) -> None:
    """A bug in it shows before the commit."""
    reloads.start(reloads.plan("a", "plain", UDP))
    before = seen(reloads)
    reloads.trouble.arm("start", raising(ZeroDivisionError("a bug")))
    assert "a bug" in reloads.reload(reloads.plan("a", "plain", f"udp://0.0.0.0:{PORT}"))
    check_same(before, seen(reloads), 1)
    assert reloads.ask("a") == b"u?"


def test_what_was_made_is_stopped(reloads: Reloads) -> None:
    """Factories and datagram protocols that were started for the new options are stopped."""
    made: list[Any] = []

    def kept(maker: Any) -> Callable[[Any], Any]:
        def make(host: Any) -> Any:
            made.append(maker(host))
            return made[-1]

        return make

    plain = reloads.known["plain"]
    own = replace(plain, stream=kept(plain.stream), datagram=kept(plain.datagram))
    reloads.start(reloads.plan("a", own, TCP, UDP))
    old = list(made)
    reconciliation = reloads.begin(reloads.plan("a", own, TCP, UDP, word="v"))
    assert not reloads.prepare(reconciliation)
    factory, replies = made[2:]
    assert (factory.started, replies.running) == (1, True)
    reloads.house.finish(reconciliation.undo())
    assert (factory.started, replies.running) == (0, False)
    assert (old[0].started, old[1].running) == (1, True)


def test_what_fails_after_the_reload_is_told(reloads: Reloads) -> None:
    """The reload reports its failures only while it is prepared; later ones are logged as any others."""
    reloads.start()
    assert not reloads.reload(reloads.plan("a", "keen", TCP))
    (listener,) = reloads["a"].listeners
    listener.lost(SockdError("the network is down"), listener.descriptor)
    reloads["a"].host.fail(SockdError("the disk is full"))
    assert [message.partition(";")[0] for message in reloads.house.log.messages()] == [
        f"a: {TCP}: the network is down",
        "a: service: the disk is full",
    ]


@pytest.mark.parametrize("place", SLOW_PLACES)
def test_deferred_that_fails(place: str, reloads: Reloads) -> None:
    """It refuses the reload as an exception does."""
    reloads.start(reloads.plan("a", "keen", TCP, UDP))
    before = seen(reloads)
    later: Deferred[None] = Deferred()
    reloads.house.loop.callLater(1.0, later.errback, SockdError("the disk is full"))
    reloads.trouble.arm(place, lambda: later)
    new = reloads.plan("c", "keen", "udp://127.0.0.1:0")
    why = reloads.reload(reloads.plan("a", "keen", TCP, UDP, word="v"), new)
    assert why == f"{'c' if place == 'startService' else 'a'}: the disk is full"
    check_same(before, seen(reloads), 0)


@pytest.mark.parametrize("canceller", [None, raising(ZeroDivisionError("a bug"))])
def test_reload_that_never_ends(canceller: Callable[[Any], Any] | None, reloads: Reloads) -> None:
    """It has a time-out, even where it can't be cancelled, and gets the old options back."""
    reloads.start(reloads.plan("a", "keen", TCP))
    before = seen(reloads)
    reloads.trouble.arm("reload", lambda: Deferred(canceller))
    began = reloads.house.loop.seconds()
    why = reloads.reload(reloads.plan("a", "keen", TCP, word="v"))
    assert why == "a: going over to the new options takes longer than 5s"
    assert reloads.house.loop.seconds() - began == pytest.approx(STEP_TIMEOUT, abs=0.2)
    check_same(before, seen(reloads), 0)


def test_reload_that_does_not_go_back(reloads: Reloads) -> None:
    """The failure is logged, and the rest is undone."""
    reloads.start(reloads.plan("a", "keen", TCP))
    before = seen(reloads)

    def step(what: str) -> None:
        if what == "make factory":
            reloads.trouble.arm("reload", raising(SystemExit("no way back")))
            raise SockdError("refused for a test")

    reconciliation = reloads.begin(reloads.plan("a", "keen", TCP, UDP, word="v"), step=step)
    assert reloads.prepare(reconciliation) == "refused for a test"
    (told,) = reloads.house.log.messages()
    assert told.startswith("reload: reload back failed: SystemExit: no way back (")
    before["a"].word = "v"
    check_same(before, seen(reloads), 0)
    assert not reloads.house.ports


def test_factory_that_fails_to_stop(reloads: Reloads) -> None:
    """The commit can't fail: the failure is logged and counted."""
    reloads.start(reloads.plan("a", "plain", TCP))
    factory: Any = reloads["a"].engine.factory
    factory.stopFactory = raising(SystemExit("a bug"))
    assert not reloads.reload(reloads.plan("a", "plain", TCP, word="v"))
    assert reloads["a"].host.counters.refused["exception in doStop"] == 1
    assert reloads.ask("a") == b"v?"


def test_datagram_protocol_that_fails_to_stop(reloads: Reloads) -> None:
    """The same holds for a protocol whose socket was closed to make room, and one that was replaced."""
    reloads.start(reloads.plan("a", "plain", UDP), reloads.plan("b", "plain", "udp://127.0.0.1:0"))
    for name in "ab":
        replies: Any = reloads[name].datagram_listeners[0].protocol
        replies.stop = raising(SystemExit("a bug"))
    old = reloads["a"]
    where = f"udp://0.0.0.0:{PORT}"
    assert not reloads.reload(
        reloads.plan("c", "plain", where), reloads.plan("b", "plain", "udp://127.0.0.1:0", word="v")
    )
    assert old.host.counters.refused["exception in stop"] == 1
    assert reloads["b"].host.counters.refused["exception in stop"] == 1
    assert (reloads.ask("b"), reloads.ask("c")) == (b"v?", b"u?")


# -- addresses


def test_address_that_is_taken(reloads: Reloads) -> None:
    """The reason names the endpoint and the address; whatever was opened before it is closed again."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        busy = f"tcp://127.0.0.2:{other.getsockname()[1]}"
        reloads.start(reloads.plan("a", "plain", TCP))
        before = seen(reloads)
        why = reloads.reload(reloads.plan("a", "plain", TCP, UDP, busy), reloads.plan("b", "served"))
        assert why == f"a: {busy}: the address is in use by another program"
    check_same(before, seen(reloads), 0)
    assert not reloads.house.ports
    assert not reloads.house.log.messages()


def test_socket_option_that_is_refused(
    reloads: Reloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options that were set before it get their old values."""
    where = (TCP, f"unix://{tmp_path}/a")
    reloads.start(reloads.plan("a", "plain", *where))
    before = seen(reloads)
    with monkeypatch.context() as patch:
        patch.setattr("os.chmod", raising(PermissionError(1, "Operation not permitted")))
        new = SocketOptions(mode=0o600, backlog=9, nodelay=False)
        why = reloads.reload(reloads.plan("a", "plain", *where, socket=new))
    assert why == f"a: unix://{tmp_path}/a: Operation not permitted"
    check_same(before, seen(reloads), 0)


def protocols_of(endpoint: Endpoint) -> list[Any]:
    return [one.protocol for one in endpoint.datagram_listeners]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_closed_address_is_opened_again(kind: str, reloads: Reloads) -> None:
    """It has its datagram protocol and its peers again, and connections go on."""
    with open_address(
        reloads.plan("x", "plain", f"{kind}://127.0.0.2:{PORT}").listeners[0].address, USUAL
    ).sock:
        reloads.start(reloads.plan("a", "plain", f"{kind}://127.0.0.1:{PORT}"))
        client = reloads.house.connect(reloads.address("a"), b"?")
        assert reloads.house.receive(client, 2) == b"u?"
        before, protocols = seen(reloads), protocols_of(reloads["a"])
        why = reloads.reload(reloads.plan("a", "plain", f"{kind}://0.0.0.0:{PORT}"))
        assert why == f"a: {kind}://0.0.0.0:{PORT}: the address is in use by another program"
    check_same(before, seen(reloads), 1)
    client.send(b"!")
    assert reloads.house.receive(client, 2) == b"u!"
    assert protocols_of(reloads["a"]) == protocols
    if kind == "udp":
        assert [(one.running, one.seen) for one in protocols] == [(True, 2)]
        assert list(reloads.house.ports) == [PORT]


@pytest.mark.parametrize("end", ["comes free", "removed"])
def test_closed_address_that_somebody_took(end: str, reloads: Reloads) -> None:
    """Its listener backs off, and has its datagram protocol again when the address comes free."""
    reloads.start(reloads.plan("a", "plain", UDP))
    replies: Any = reloads["a"].datagram_listeners[0].protocol
    somebody = socket.socket(type=socket.SOCK_DGRAM)

    def step(what: str) -> None:
        if what == "open":
            somebody.bind(("127.0.0.1", PORT))

    reconciliation = reloads.begin(reloads.plan("a", "plain", f"udp://0.0.0.0:{PORT}"), step=step)
    assert reloads.prepare(reconciliation).endswith("in use by another program")
    (supervisor,) = reloads["a"].supervisors
    assert supervisor.why == "the address is in use by another program"
    assert replies.running
    if end == "removed":
        assert not reloads.reload()
        assert not replies.running
    somebody.close()
    if end == "comes free":
        reloads.house.run_clock(lambda: supervisor.state is State.RUNNING)
        assert reloads.ask("a") == b"u?"
        assert replies.seen == 1


def test_shared_file_stays(reloads: Reloads, tmp_path: Path) -> None:
    """A Unix socket that would have gone to another endpoint is still its owner's, and so is its file."""
    reloads.start(reloads.plan("a", "plain", f"unix://{tmp_path}/a"))
    before = seen(reloads)
    reloads.trouble.arm("service", raising(ZeroDivisionError()))
    assert reloads.reload(reloads.plan("b", "served", f"unix://{tmp_path}/a"))
    check_same(before, seen(reloads), 0)
    assert reloads.ask("a") == b"u?"


def test_out_of_descriptors(reloads: Reloads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that can't be shared refuses the reload."""
    reloads.start(reloads.plan("a", "plain", TCP))
    before = seen(reloads)
    monkeypatch.setattr(socket.socket, "dup", raising(OSError(24, "Too many open files")))
    assert "Too many open files" in reloads.reload(reloads.plan("b", "plain", TCP))
    check_same(before, seen(reloads), 0)


# -- meanwhile


def waiting(reloads: Reloads, *plans: Any) -> tuple[Any, Deferred[None], list[Any]]:
    """A reload that waits for a new endpoint's service; what lets it go on, and what it came to."""
    starting: Deferred[None] = Deferred()
    reloads.trouble.arm("startService", lambda: starting)
    reconciliation = reloads.begin(*plans, reloads.plan("new", "keen"))
    ended: list[Any] = []
    ensureDeferred(reconciliation.prepare()).addBoth(ended.append)
    assert not ended
    return reconciliation, starting, ended


@pytest.mark.parametrize("good", [True, False])
def test_listener_that_fails_meanwhile(good: bool, reloads: Reloads, tmp_path: Path) -> None:
    """It is opened again, and has the options of the plan that holds in the end."""
    path = tmp_path / "a"
    options = replace(USUAL, mode=0o600)
    reloads.start(reloads.plan("a", "plain", f"unix://{path}", restart=Restart(delay=0.1, max_delay=MOST)))
    plan = reloads.plan(
        "a", "plain", f"unix://{path}", socket=options, restart=Restart(delay=0.1, max_delay=MOST)
    )
    reconciliation, starting, ended = waiting(reloads, plan)
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    reloads.house.run_clock(path.exists)
    assert path.stat().st_mode & 0o777 == 0o660
    if good:
        starting.callback(None)
        reloads.commit(reconciliation)
    else:
        starting.errback(SockdError("for a test"))
        assert ended[0].check(SockdError)
    assert path.stat().st_mode & 0o777 == (0o600 if good else 0o660)
    assert not reloads.house.log.named("reload")
    assert reloads.ask("a") == b"u?"


@pytest.mark.parametrize("good", [True, False])
def test_address_that_fails_before_it_is_closed(good: bool, reloads: Reloads) -> None:
    """There is nothing to close or to open again: its supervisor does that."""
    reloads.start(reloads.plan("a", "plain", TCP))
    (listener,), (supervisor,) = reloads["a"].listeners, reloads["a"].supervisors
    plan = reloads.plan("a", "plain", f"tcp://0.0.0.0:{PORT}")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reconciliation, starting, ended = waiting(reloads, plan)
        listener.lost(SockdError("for a test"), listener.descriptor)
        if not good:
            other.bind(("127.0.0.2", PORT))
            other.listen()
        starting.callback(None)
        assert ended
        if good:
            reloads.commit(reconciliation)
        else:
            assert "in use" in str(ended[0].value)
            assert supervisor.state is State.BACKING_OFF
            reloads.house.run_clock(lambda: supervisor.state is State.RUNNING)
    assert reloads.ask("a") == b"u?"


@pytest.mark.parametrize("good", [True, False])
def test_what_backs_off_is_not_retried_meanwhile(good: bool, reloads: Reloads) -> None:
    """It would start by the old plan; afterwards it goes on waiting."""
    with socket.create_server(("127.0.0.1", PORT)):
        reloads.start(reloads.plan("a", "plain", TCP))
        reconciliation, starting, _ = waiting(reloads, reloads.plan("a", "plain", TCP, word="v"))
    (supervisor,) = reloads["a"].supervisors
    reloads.house.loop.pump([0.5] * 4)
    assert supervisor.state is State.BACKING_OFF
    if good:
        starting.callback(None)
        reloads.commit(reconciliation)
    else:
        starting.errback(SockdError("for a test"))
    assert reloads.house.run_clock(lambda: supervisor.restarts) <= DELAY
    assert reloads.ask("a") == (b"v?" if good else b"u?")


@pytest.mark.parametrize("protocol", ["plain", "keen"])
def test_datagram_listener_that_fails_meanwhile(protocol: str, reloads: Reloads) -> None:
    """Its protocol is made again with the new options; none is left of those made for the closed socket."""
    made: list[Any] = []
    specification = reloads.known[protocol]

    def datagram(host: Any) -> Any:
        assert specification.datagram is not None
        made.append(specification.datagram(host))
        return made[-1]

    own = replace(specification, datagram=datagram)
    reloads.start(reloads.plan("a", own, UDP))
    reconciliation = reloads.begin(reloads.plan("a", own, UDP, word="v"))
    assert not reloads.prepare(reconciliation)
    (listener,) = reloads["a"].datagram_listeners
    listener.lost(SockdError("for a test"), listener.descriptor)
    reloads.house.run_clock(lambda: listener.protocol)
    reloads.commit(reconciliation)
    assert reloads.ask("a") == b"v?"
    assert [one for one in made if one.running] == [listener.protocol]


def test_datagram_listener_that_is_closed_at_the_commit(reloads: Reloads) -> None:
    """The protocol that was made for it is stopped; it has one of its own when it is open again."""
    reloads.start(reloads.plan("a", "plain", UDP))
    reconciliation = reloads.begin(reloads.plan("a", "plain", UDP, word="v"))
    assert not reloads.prepare(reconciliation)
    (update,) = reconciliation.moves.updates
    (made,) = update.made.values()
    (listener,) = reloads["a"].datagram_listeners
    listener.lost(SockdError("for a test"), listener.descriptor)
    reloads.commit(reconciliation)
    assert not made.running  # type: ignore[attr-defined]
    reloads.house.run_clock(lambda: listener.protocol)
    assert reloads.ask("a") == b"v?"


def test_cancelled(reloads: Reloads) -> None:
    """Everything is undone, also a step that takes its time."""
    reloads.start(reloads.plan("a", "plain", TCP))
    before = seen(reloads)
    reconciliation = reloads.begin(
        reloads.plan("a", "plain", TCP, UDP), reloads.plan("b", "served", word="v")
    )
    ended: list[Any] = []
    task = ensureDeferred(reconciliation.prepare())
    task.addBoth(ended.append)
    assert not ended
    task.cancel()
    reloads.house.run_clock(lambda: ended)
    assert ended[0].check(SockdError)
    check_same(before, seen(reloads), 0)
    assert not reloads.house.ports


def test_cancelled_while_it_goes_back(reloads: Reloads) -> None:
    """It is undone without waiting for a service to stop, and nothing is logged."""
    reloads.start(reloads.plan("a", "keen", TCP))
    before = seen(reloads)

    def step(what: str) -> None:
        if what == "reload":
            raise SockdError("refused for a test")

    reconciliation = reloads.begin(
        reloads.plan("a", "keen", TCP, UDP, word="v"), reloads.plan("b", "served", word="v"), step=step
    )
    ended: list[Any] = []
    task = ensureDeferred(reconciliation.prepare())
    task.addBoth(ended.append)
    stopping = reconciliation.endpoints["b"].service
    reloads.house.run_clock(lambda: stopping.state is State.DRAINING)
    task.cancel()
    assert ended[0].getErrorMessage() == "refused for a test"
    assert not reloads.house.log.messages()
    check_same(before, seen(reloads), 0)


def test_interrupted(reloads: Reloads) -> None:
    """An exception that isn't a failure of the plan is passed on, after the undo."""
    reloads.start(reloads.plan("a", "keen", TCP))
    before = seen(reloads)

    def step(what: str) -> None:
        if what == "make factory":
            raise KeyboardInterrupt

    reconciliation = reloads.begin(reloads.plan("a", "keen", TCP, word="v"), step=step)
    with pytest.raises(AssertionError, match="KeyboardInterrupt"):
        reloads.prepare(reconciliation)
    check_same(before, seen(reloads), 0)
