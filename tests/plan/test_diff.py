"""Any two plans compared: what becomes of each endpoint, there and back."""

import re
from collections import Counter
from dataclasses import replace
from ipaddress import ip_network
from itertools import permutations
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sockd.base.addresses import parse
from sockd.base.errors import Place
from sockd.base.units import Rate
from sockd.config.model import Restart
from sockd.plan.changes import Kind
from sockd.plan.diff import diff
from sockd.plan.plan import (
    AccessPlan,
    CertificatePlan,
    EndpointPlan,
    Limits,
    ListenerPlan,
    LogPlan,
    Plan,
    TlsPlan,
)
from sockd.plan.words import details, settings
from sockd.protocols.contract import Options
from sockd.transports.sockets.opening import retunable
from sockd.transports.sockets.options import Keepalive, SocketOptions
from tests.fake_registry import FileOptions, SampleOptions, registry

SPECIFICATIONS = {name: registry().get(name) for name in ("sample", "file", "streams")}
PLACE = Place("f")


# -- any two plans -----------------------------------------------------------------------------------------

sockets = st.builds(
    SocketOptions,
    backlog=st.integers(1, 2),
    keepalive=st.none() | st.builds(Keepalive, st.integers(1, 2), st.integers(1, 2), st.just(6)),
    group=st.none() | st.just(7),
)
sockets_of_all_sorts = st.builds(
    SocketOptions,
    backlog=st.integers(1, 2),
    reuse_port=st.booleans(),
    receive_buffer=st.sampled_from([None, 65536, 131072]),
)
addresses = st.sampled_from(["tcp://*:0", "tcp://*:7", "udp://*:7", "unix:///a", "systemd://web"]).map(parse)
options = {
    "sample": st.builds(
        SampleOptions,
        word=st.text("ab", max_size=2),
        rate=st.none() | st.builds(Rate, st.just(5), st.just(1.0)),
    ),
    "file": st.builds(FileOptions, path=st.sampled_from("ab").map(Path)),
    "streams": st.just(Options()),
}


NETWORKS = (ip_network("10.0.0.0/8"),)


def a_certificate(day: int, key: bytes = b"key") -> CertificatePlan:
    return CertificatePlan(("a.org",), 86400.0 * day, str(day), b"chain", key, Path("/a.pem"), Path("/a.key"))


tls = st.builds(
    TlsPlan,
    st.lists(
        st.builds(a_certificate, st.integers(1, 2), st.sampled_from([b"key", b"other"])),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.sampled_from([None, b"ca"]),
    st.sampled_from([(), ("b.org",)]),
    st.sampled_from(["1.2", "1.3"]),
    client_ca_file=st.none() | st.just(Path("/ca.pem")),
)
access = st.builds(
    AccessPlan,
    st.sampled_from([(), NETWORKS]),
    st.just(NETWORKS),
    st.frozensets(st.integers(0, 2), max_size=2),
    st.just(frozenset()),
)


@st.composite
def endpoints(draw: st.DrawFn, name: str, sockets: st.SearchStrategy[SocketOptions]) -> EndpointPlan:
    protocol = draw(st.sampled_from(sorted(options)))
    return EndpointPlan(
        name=name,
        protocol=protocol,
        specification=SPECIFICATIONS[protocol],
        options=draw(options[protocol]),
        limits=Limits(draw(st.integers(1, 2)), draw(st.sampled_from([None, 5.0])), 30.0, None, None),
        restart=Restart(delay=draw(st.sampled_from([0.5, 1.0])), max_delay=30.0),
        give_up_after=draw(st.sampled_from([None, 5.0, 60.0])),
        listeners=tuple(
            draw(st.lists(st.builds(ListenerPlan, addresses, sockets, st.booleans()), min_size=1, max_size=3))
        ),
        place=PLACE,
        tls=draw(st.none() | tls),
        access=draw(st.none() | access),
        proxy_from=draw(st.sampled_from([(), NETWORKS])),
    )


@st.composite
def some_plans(draw: st.DrawFn, sockets: st.SearchStrategy[SocketOptions] = sockets) -> Plan:
    names = draw(st.lists(st.sampled_from("abcd"), unique=True))
    all_of_them = [draw(endpoints(name, sockets)) for name in names]
    running = draw(st.integers(0, len(names)))
    return Plan(
        file=Path("f"),
        drain=draw(st.sampled_from([5.0, 10.0])),
        log=LogPlan(draw(st.sampled_from(["info", "debug"])), "auto"),
        endpoints=tuple(all_of_them[:running]),
        control=draw(st.none() | st.just(parse("unix:///run/a"))),
        control_group=draw(st.none() | st.just(4)),
        disabled=tuple(all_of_them[running:]),
    )


def mirrored(line: str) -> str:
    """The line about the opposite change."""
    if line[:2] in ("+ ", "- "):
        return {"+": "-", "-": "+"}[line[0]] + line[1:]
    return re.sub(r"(\{.*?\}|\[.*?\]|\S+?) -> (\{.*?\}|\[.*?\]|[^,]+)", r"\2 -> \1", line)


@given(some_plans())
def test_nothing_changes_without_a_change(plan: Plan) -> None:
    """A plan does not differ from itself, nor from an equal one with its listeners in another order."""
    turned = replace(
        plan, endpoints=tuple(replace(one, listeners=one.listeners[::-1]) for one in plan.endpoints)
    )
    for other in (plan, turned):
        changes = diff(plan, other)
        assert {change.kind for change in changes.endpoints} <= {Kind.UNCHANGED}
        assert not any(details(change) for change in changes.endpoints)
        assert settings(changes) == []


def sockets_can_stay(old: EndpointPlan, new: EndpointPlan) -> bool:
    """Whether each new listener can have the open socket of an old one."""
    return any(
        all(
            (one.address, one.tls) == (other.address, other.tls) and retunable(one.socket, other.socket)
            for one, other in zip(chosen, new.listeners, strict=True)
        )
        for chosen in permutations(old.listeners, len(new.listeners))
    )


@given(some_plans(sockets_of_all_sorts), some_plans(sockets_of_all_sorts))
def test_kinds(old: Plan, new: Plan) -> None:
    """Every endpoint has one kind, by what differs; details are there when there is a difference."""
    changes = diff(old, new)
    before = {one.name: one for one in old.endpoints}
    after = {one.name: one for one in new.endpoints}
    assert [change.name for change in changes.endpoints] == [
        *after,
        *(name for name in before if name not in after),
    ]
    for change in changes.endpoints:
        one, other = before.get(change.name), after.get(change.name)
        assert (change.old, change.new) == (one, other)
        assert bool(details(change)) is (change.kind is not Kind.UNCHANGED)
        assert all(line.isprintable() for line in details(change))
        if one is None or other is None:
            assert change.kind is (Kind.ADDED if one is None else Kind.REMOVED)
        elif one.protocol != other.protocol or not sockets_can_stay(one, other):
            assert change.kind is Kind.REBOUND
        elif Counter(one.listeners) != Counter(other.listeners):
            assert change.kind is Kind.UPDATED
        elif change.kind is Kind.UPDATED:
            assert one != other
        else:
            assert change.kind is Kind.UNCHANGED
            streams = any(listener.address.kind.stream for listener in one.listeners)
            assert replace(one, listeners=()) == replace(
                other, listeners=(), limits=other.limits if streams else one.limits
            )
    alike = (old.drain, old.log, old.control, old.control_group) == (
        new.drain,
        new.log,
        new.control,
        new.control_group,
    )
    assert (settings(changes) == []) is alike


@given(some_plans(), some_plans())
def test_the_way_back(old: Plan, new: Plan) -> None:
    """The opposite change has the same lines with both sides swapped."""
    back = {change.name: change for change in diff(new, old).endpoints}
    for change in diff(old, new).endpoints:
        assert sorted(map(mirrored, details(change))) == sorted(details(back[change.name]))
    assert sorted(map(mirrored, settings(diff(old, new)))) == sorted(settings(diff(new, old)))
