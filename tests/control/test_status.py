"""The running tree in plain values, and in the words that systemctl shows."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sockd.base.addresses import Address, Kind
from sockd.base.errors import SockdError
from sockd.control.status import Moments, Outcome, connection_value, endpoint_value, in_words, program
from sockd.process.rights import Rights
from sockd.transports.sockets.opening import Opened
from sockd.tree.endpoint import Endpoint
from sockd.tree.sockets import Sockets
from tests.certificates import made, tls_plan
from tests.daemons import Daemons
from tests.tree.house import Datagrams, House, Probes, Service, connected, raising

MIGHTY = Rights(0, frozenset((0,)), gives_away=True, first_port=0, may_write=lambda _: True)
TCP, UDP = "tcp://127.0.0.1:0", "udp://127.0.0.1:0"


@pytest.fixture
def house() -> Iterator[House]:
    with Daemons() as daemons:
        yield daemons.house


def value(house: House, endpoint: Endpoint, rights: Rights | None = None) -> dict[str, object]:
    found = endpoint_value(endpoint, Moments(house.loop.seconds()), rights or MIGHTY)
    json.dumps(found, allow_nan=False)
    return found


def listeners(found: Any) -> Any:
    """Of an endpoint's value."""
    return found["listeners"]


# -- what came of a reload or an upgrade


def test_outcomes() -> None:
    """When, whether, and in a line."""
    outcome = Outcome(True, "2 added", 1_800_000_000.25)
    assert outcome.value() == {"at": "2027-01-15T08:00:00.250Z", "ok": True, "message": "2 added"}
    assert Outcome.of(outcome.value()) == outcome
    for millisecond in range(1000):  # a float has hardly any of them exactly
        told = Outcome(True, "", 1_800_000_000 + millisecond / 1000).value()
        assert told == getattr(Outcome.of(told), "value", dict)()
    assert Outcome.refused(["one"]).message == "one"
    assert Outcome.refused(["one", "two", "three"]).message == "one (and 2 more)"
    assert not Outcome.refused(["one"]).ok


@pytest.mark.parametrize(
    "told", [None, 7, {}, {"ok": True, "message": "x"}, {"ok": True, "message": "", "at": "yesterday"}]
)
def test_an_outcome_that_another_version_tells(told: object) -> None:
    """What can't be read is not known; nothing else comes of it."""
    assert Outcome.of(told) is None


def test_moments() -> None:
    """The reactor's seconds as the wall clock has them."""
    now = datetime.now(UTC)
    moments = Moments(1000.0)
    text = datetime.fromisoformat(moments.text(940.0))
    assert (now - text).total_seconds() == pytest.approx(60, abs=5)


def test_program() -> None:
    """Rounded to what anybody wants to know."""
    found = program(1.23456, "/etc/sockd.yaml", "running")
    assert (found["uptime"], found["pid"]) == (1.235, os.getpid())


# -- endpoints


def test_an_endpoint_that_runs(house: House) -> None:
    """States, counters and connections, of the endpoint and of each listener."""
    endpoint = house.run(TCP, TCP, UDP, stream=Probes(), datagram=Datagrams())
    connected(house, endpoint)
    found = value(house, endpoint)
    assert {key: found[key] for key in ("name", "protocol", "state", "causes", "why", "restarts")} == {
        "name": "lobby", "protocol": "probe", "state": "running", "causes": [], "why": "", "restarts": 0,
    }  # fmt: skip
    assert (found["connections"], found["limit"], found["refused"]) == (1, 100, {})
    listeners: list[dict[str, object]] = found["listeners"]  # type: ignore[assignment]
    assert [each["address"] for each in listeners] == [str(each.address) for each in endpoint.listeners]
    assert [each["connections"] for each in listeners] == [1, 0, 0]
    assert [(each["accepted"], each["bytes_in"], each["bytes_out"]) for each in listeners] == [
        (1, 1, 1), (0, 0, 0), (0, 0, 0),
    ]  # fmt: skip


def test_refusals(house: House) -> None:
    """Each where it was counted."""
    endpoint = house.run(TCP, stream=Probes())
    endpoint.host.counters.refused["source network"] += 2
    endpoint.listeners[0].counters.refused["by the protocol"] += 1
    found = value(house, endpoint)
    assert found["refused"] == {"source network": 2}
    assert found["listeners"][0]["refused"] == {"by the protocol": 1}  # type: ignore[index]


def test_what_holds_a_listener(house: House) -> None:
    """A listener shows the causes that hold it: datagrams are taken at a limit and in a drain."""
    endpoint = house.run(TCP, UDP, stream=Probes(), datagram=Datagrams(), connections=1)
    connected(house, endpoint)
    tcp, udp = (listener["causes"] for listener in listeners(value(house, endpoint)))
    assert (tcp, udp) == (["at its limit"], [])
    endpoint.part(True)
    tcp, udp = (listener["causes"] for listener in listeners(value(house, endpoint)))
    assert (tcp, udp) == (["at its limit", "draining"], [])
    endpoint.suspend(True)
    tcp, udp = (listener["causes"] for listener in listeners(value(house, endpoint)))
    assert (tcp, udp) == (["at its limit", "draining", "suspended"], ["suspended"])


def test_a_listener_that_is_not_open(house: House) -> None:
    """Its address is the one that is wanted; what keeps an open one from serving is no matter of it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = Address(Kind.TCP, "127.0.0.1", other.getsockname()[1])
        endpoint = house.run(TCP, busy, stream=Probes())
        endpoint.suspend(True)
        found = value(house, endpoint)
    open_one, closed_one = found["listeners"]  # type: ignore[misc]
    assert (open_one["state"], open_one["causes"]) == ("running", ["suspended"])  # type: ignore[has-type]
    assert (closed_one["state"], closed_one["causes"]) == ("backing off", [])  # type: ignore[has-type]
    assert closed_one["address"] == str(busy)  # type: ignore[has-type]
    assert "in use" in closed_one["why"]  # type: ignore[has-type]


def test_a_service_that_is_down(house: House) -> None:
    """Why, and how often it was tried; its listeners are held."""
    down = raising(SockdError("the disk is full"))
    endpoint = house.run(TCP, stream=Probes(), service=Service(down, down, down, down))
    house.run_clock(lambda: endpoint.service.restarts == 2)
    found = value(house, endpoint)
    assert (found["state"], found["why"], found["restarts"]) == ("backing off", "the disk is full", 2)
    assert found["causes"] == ["held"]
    assert found["listeners"][0]["causes"] == ["held"]  # type: ignore[index]
    endpoint.service.retry()  # the last failure
    house.run_clock(lambda: endpoint.service.restarts == 4)
    found = value(house, endpoint)
    assert (found["state"], found["why"]) == ("running", "")
    assert found["recovered_from"] == "the disk is full"


def test_what_could_not_be_opened_again(house: House, tmp_path: Path) -> None:
    """A listener that is open, by rights that are not there any more, has a note; the others have none."""
    lesser = Rights(7, frozenset((7,)), gives_away=False, first_port=1024, may_write=lambda _: False)
    path = tmp_path / "a.sock"
    endpoint = house.run(TCP, f"unix://{path}", f"unix://{tmp_path}/gone/b.sock", stream=Probes())
    listeners: list[dict[str, object]] = value(house, endpoint, lesser)["listeners"]  # type: ignore[assignment]
    missing = f"open, but couldn't be opened again: no right to write to {tmp_path}"
    assert [each["note"] for each in listeners] == ["", missing, ""]
    assert [each["state"] for each in listeners] == ["running", "running", "backing off"]
    listeners = value(house, endpoint)["listeners"]  # type: ignore[assignment]
    assert [each["note"] for each in listeners] == ["", "", ""]


def test_what_systemd_passed(house: House) -> None:
    """It has the name that the file has, and the address it really is at."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        passed.setblocking(False)
        real = Address(Kind.TCP, "127.0.0.1", passed.getsockname()[1])
        sockets = Sockets({"web": [Opened(passed, real, ours=False)]})
        house.surroundings = replace(house.surroundings, sockets=sockets)
        endpoint = house.run("systemd://web", stream=Probes())
        found = value(house, endpoint)
        assert found["listeners"][0]["address"] == f"systemd://web ({real})"  # type: ignore[index]
        assert found["listeners"][0]["note"] == ""  # type: ignore[index]


def test_what_the_kernel_dropped_is_looked_at(house: House) -> None:
    """As of now, not of the last time that somebody counted."""
    endpoint = house.run(UDP, datagram=Datagrams())
    counted: list[None] = []
    endpoint.datagram_listeners[0].count_drops = lambda: counted.append(None)  # type: ignore[method-assign]
    value(house, endpoint)
    assert counted == [None]


def test_a_connection_on_a_unix_socket(house: House, tmp_path: Path) -> None:
    """The peer is a process."""
    endpoint = house.run(f"unix://{tmp_path}/a", stream=Probes())
    connected(house, endpoint)
    (server,) = endpoint.connections
    found = connection_value(endpoint, server, Moments(house.loop.seconds()))
    assert found["peer"] == f"uid={os.getuid()},pid={os.getpid()}"
    assert found["listener"] == f"unix://{tmp_path}/a"


def test_certificates(house: House) -> None:
    """What they are for, and how long yet; nothing of a key."""
    plan = made("a.example", days=20.5).plan("a.example", "*.a.example")
    other = made("b.example", days=-0.5).plan()
    endpoint = house.run("tls://127.0.0.1:0", stream=Probes(), tls=tls_plan(plan, other))
    found = value(house, endpoint)
    one, two = found["certificates"]  # type: ignore[misc]
    assert (one["names"], one["days_left"]) == (["a.example", "*.a.example"], 20)  # type: ignore[has-type]
    assert datetime.fromisoformat(one["not_after"]).timestamp() == pytest.approx(plan.not_after, abs=1)  # type: ignore[has-type]
    assert (two["names"], two["days_left"]) == ([], -1)  # type: ignore[has-type]
    assert "PRIVATE" not in json.dumps(found)


def test_an_endpoint_without_tls(house: House) -> None:
    """It has no certificates."""
    assert value(house, house.run(TCP, stream=Probes()))["certificates"] == []


def test_whom_a_certificate_names(house: House) -> None:
    """The identity of a connection; empty where there is none."""
    endpoint = house.run(TCP, stream=Probes())
    connected(house, endpoint)
    (server,) = endpoint.connections
    moments = Moments(house.loop.seconds())
    assert connection_value(endpoint, server, moments)["identity"] == ""
    server.identity = "anna.example"
    assert connection_value(endpoint, server, moments)["identity"] == "anna.example"


# -- words


def test_in_words(house: House) -> None:
    """Only what is out of the ordinary is mentioned."""
    assert in_words([], 0) == "0 endpoints, 0 listeners, 0 connections"
    one = house.run(TCP, stream=Probes())
    connected(house, one)
    assert in_words([one], 0) == "1 endpoint, 1 listener, 1 connection"
    down = house.run(
        TCP, UDP, stream=Probes(), datagram=Datagrams(), service=Service(raising(SockdError("x")))
    )
    slow = house.run(TCP, stream=Probes(), service=Service(Deferred))
    slow.suspend(True)
    assert in_words([one, down, slow], 3) == (
        "3 endpoints, 4 listeners, 1 backing off, 1 suspended, 4 connections"
    )
