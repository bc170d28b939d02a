"""What a reload reports is what it did: its lines held against sockets, services and connections."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred

from sockd.base.addresses import Kind
from sockd.config.model import Restart
from sockd.plan import words
from sockd.plan.diff import diff
from sockd.plan.plan import LogPlan, Plan
from sockd.transports.sockets.options import SocketOptions
from sockd.tree.moves import without_reload
from sockd.tree.reconcile import Reconciliation, ReloadRefusedError
from tests.tree.reloads import Reloads
from tests.tree.town import Resident, Town, resident, taken
from tests.tree.trees import (
    Seen,
    SeenEndpoint,
    Trouble,
    addresses,
    free_ports,
    plans,
    specifications,
)

WITHIN = 5.0  # seconds that drained connections have
PORTS = free_ports(2)
# The keys of `socket` of which the kernel always shows that they have changed.
SHOWN = {Kind.TCP: {"backlog", "keepalive", "nodelay", "reuse_port"}, Kind.UDP: {"reuse_port"}}


class Calls(Trouble):
    """Counts what the protocols were asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()

    def at(self, place: str) -> Any:
        self.places[place] += 1
        return super().at(place)


@dataclass(frozen=True)
class Told:
    """What was reported of one endpoint."""

    kind: str
    lines: tuple[str, ...] = ()

    def count(self, beginning: str, address: str) -> int:
        """How many lines begin so and are about this address."""
        pattern = re.compile(re.escape(f"{beginning}{address}") + "(: .*)?")
        return sum(bool(pattern.fullmatch(line)) for line in self.lines)

    def addresses(self) -> set[str]:
        """All that lines are about."""
        found = (
            re.match(r"(?:[+-]|(?:new |future )?socket of) ([a-z]+://\S*?)(?:: |$)", line)
            for line in self.lines
        )
        return {match[1] for match in found if match}

    def about(self, *sections: str) -> bool:
        """Whether a line is about one of these sections of the file."""
        beginnings = tuple(f"{section}{end}" for section in sections for end in (".", ": "))
        return any(line.startswith(beginnings) for line in self.lines)

    @property
    def replaced(self) -> bool:
        """Whether another protocol, or the same one started anew, has taken its place."""
        return self.about("protocol")

    def not_open(self, address: str) -> int:
        """How many listeners of this address are said not to be open yet."""
        return sum(line.startswith(f"{address} isn't open yet: ") for line in self.lines)

    def options(self, address: str) -> list[set[str]]:
        """For each open socket of this address that has other options, their keys."""
        beginning = f"socket of {address}: "
        texts = [line.removeprefix(beginning) for line in self.lines if line.startswith(beginning)]
        return [set(re.findall(r"(?:^|, )([a-z_]+)(?:\.[a-z]+)? ", text)) for text in texts]


def by_name(report: dict[str, Any]) -> dict[str, Told]:
    """The report of a reload, by the names of the endpoints."""
    told = {name: Told("unchanged") for name in report["unchanged"]}
    for kind in ("added", "removed", "rebound", "updated"):
        told |= {one["name"]: Told(kind, tuple(one["details"])) for one in report[kind]}
    return told


# -- what happened


def by_address(seen: SeenEndpoint) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {}
    for each in seen.listeners:
        found.setdefault(str(each.plan.address), []).append(each)
    return found


def sockets(seen: list[Seen]) -> set[int]:
    """The inodes of those that are open."""
    return {each.inode for each in seen} - {0}


@dataclass
class Happened:
    """A tree before a reload and right after it, and what its protocols were asked to do in between."""

    before: dict[str, SeenEndpoint]
    after: dict[str, SeenEndpoint]
    limits: dict[str, tuple[int, int]]  # of connections, before and after
    calls: Counter[str]

    def check(self, told: dict[str, Told]) -> None:
        """Every endpoint was reported, and what was reported is what happened."""
        assert set(told) == set(self.before) | set(self.after)
        for name, one in told.items():
            before, after = self.before.get(name), self.after.get(name)
            assert bool(one.lines) is (one.kind != "unchanged")
            if before is None or after is None:
                check_come_or_gone(one, before, after)
            else:
                assert one.kind in ("rebound", "updated", "unchanged")
                had, has = by_address(before), by_address(after)
                assert one.addresses() <= (had | has).keys()
                others = sum(
                    check_address(one, had.get(address, []), has.get(address, [])) for address in had | has
                )
                unopened = any(one.not_open(str(each.plan.address)) for each in after.listeners)
                if one.kind == "rebound":
                    assert others or unopened or one.replaced
                else:
                    assert not others
                    assert not one.replaced
                check_protocol(one, before, after)
                check_limits(one, *self.limits[name])
        self.check_calls(told)

    def check_calls(self, told: dict[str, Told]) -> None:
        """Services were made where a protocol began, and took options where that is reported."""
        services = {name: seen.service for name, seen in self.after.items()}
        begun = [services[name] for name, one in told.items() if one.kind == "added" or one.replaced]
        assert self.calls["service"] == sum(service is not None for service in begun)
        reloaded = [
            services[name]
            for name, one in told.items()
            if one.kind in ("updated", "rebound") and one.about("options") and not one.replaced
        ]
        assert self.calls["reload"] == sum(service is not None for service in reloaded)


def check_come_or_gone(told: Told, before: SeenEndpoint | None, after: SeenEndpoint | None) -> None:
    """All its addresses are reported, and those that aren't open yet."""
    assert told.kind == ("added" if before is None else "removed")
    seen = after or before
    assert seen is not None
    had = by_address(seen)
    listed = Counter(line for line in told.lines if " " not in line)
    assert listed == Counter({address: len(each) for address, each in had.items()})
    assert all(" isn't open yet: " in line for line in told.lines if " " in line)
    if after is not None:
        for address, each in had.items():
            assert told.not_open(address) == sum(not one.inode for one in each)


def check_address(told: Told, old: list[Seen], new: list[Seen]) -> int:
    """As many sockets were opened, closed and changed as there are lines; how many others there are now."""
    address = str((old or new)[0].plan.address)
    opened, closed = told.count("+ ", address), told.count("- ", address)
    assert told.count("future socket of ", address) <= told.not_open(address)
    rebound = told.count("new socket of ", address)
    assert len(new) - len(old) == opened - closed
    others, lost = len(sockets(new) - sockets(old)), len(sockets(old) - sockets(new))
    assert others <= opened + rebound
    not_open = told.not_open(address)
    assert opened + rebound - others <= not_open
    assert not_open == (0 if told.kind == "unchanged" else sum(not each.inode for each in new))
    assert lost <= closed + rebound
    if all(each.inode for each in old):
        assert lost == closed + rebound
    check_options(told, address, old, new)
    return others


def check_options(told: Told, address: str, old: list[Seen], new: list[Seen]) -> None:
    """Of the sockets that are still open, those have other options of which that is reported."""
    where = (old or new)[0].plan.address
    were = {each.inode: each.options for each in old if each.inode}
    changed = sum(each.inode in were and each.options != were[each.inode] for each in new)
    shown = SHOWN[where.kind.ports] if where.kind.inet else set() if where.abstract else {"mode"}
    reported = told.options(address)
    assert changed <= len(reported)
    assert changed >= sum(bool(keys & shown) for keys in reported)


def check_protocol(told: Told, before: SeenEndpoint, after: SeenEndpoint) -> None:
    """What runs is the same as before, but for what is reported."""
    assert (after.endpoint is before.endpoint) is not told.replaced
    if told.replaced:
        return
    assert after.service is before.service
    assert (after.factory is before.factory) is not told.about("options")
    assert (after.admission is before.admission) is not told.about("tls", "access", "proxy_protocol")
    assert (after.plan.restart == before.plan.restart) is not told.about("restart")
    if not told.about("options"):
        were = {each.inode: each.protocol for each in before.listeners if each.inode}
        assert all(each.protocol is were.get(each.inode, each.protocol) for each in after.listeners)


def check_limits(told: Told, before: int, after: int) -> None:
    """Limits that come and go with their addresses aren't reported apart from those."""
    if told.replaced:
        return
    assert before != after or not told.about("limits")
    assert before == after or told.about("limits") or any(line[:2] in ("+ ", "- ") for line in told.lines)


def check_residents(happened: Happened, told: dict[str, Told], residents: dict[str, list[Resident]]) -> None:
    """Connections end where their protocol or their address went, and nowhere else."""
    for name, those in residents.items():
        for one in those:
            closed = told[name].count("- ", str(one.address))
            if told[name].kind == "removed" or told[name].replaced:
                assert one.client.answer() == b""
            elif not closed:
                assert one.client.answered() == one.answer
            elif closed == len(by_address(happened.before[name])[str(one.address)]):
                assert one.client.answer() == b""


# -- any plan after any other


def reload(town: Town, plan: Plan, calls: Calls) -> tuple[Happened, dict[str, Told]] | None:
    """What happened and what was reported; nothing where the reload was refused."""
    old = tuple(endpoint.plan for endpoint in town.endpoints.values())
    changes = diff(replace(plan, endpoints=old), plan, without_reload(town.endpoints))
    before = town.look()
    limits = {name: endpoint.connections.limits.connections for name, endpoint in town.endpoints.items()}
    calls.places.clear()
    reconciliation = Reconciliation(town.endpoints, changes, town.house.surroundings)
    prepared: list[Any] = []
    ensureDeferred(reconciliation.prepare()).addBoth(prepared.append)
    town.house.run_clock(lambda: prepared)
    if prepared[0] is not None:
        assert prepared[0].check(ReloadRefusedError), prepared[0]
        return None
    reconciliation.commit(WITHIN)
    town.endpoints, town.gone = reconciliation.endpoints, reconciliation.gone
    both = {
        name: (limits[name], endpoint.connections.limits.connections)
        for name, endpoint in town.endpoints.items()
        if name in limits
    }
    happened = Happened(before, town.look(), both, Counter(calls.places))
    return happened, by_name(words.as_json(reconciliation.done))


def residents_of(town: Town) -> dict[str, list[Resident]]:
    found: dict[str, list[Resident]] = {}
    for client in town.clients():
        if client.address.kind.stream:
            one = resident(town, client)
            found.setdefault(one.endpoint.name, []).append(one)
        else:
            client.close()
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_reported_is_done(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever changes, and though an address can't be had at first, or at all."""
    for path in tmp_path.iterdir():
        path.unlink()  # of an example that failed
    (tmp_path / "same").symlink_to(tmp_path)
    pool = addresses(PORTS, tmp_path)
    calls = Calls()
    known = specifications(calls)
    old = data.draw(plans(pool, known), label="before")
    new = data.draw(plans(pool, known, old), label="after")
    busy = data.draw(st.one_of(st.none(), st.sampled_from(pool)), label="busy")
    freed = data.draw(st.booleans(), label="freed")
    town = Town(tmp_path)
    with ExitStack() as until:
        until.callback(town.close)
        somebody = until.enter_context(ExitStack())
        somebody.enter_context(taken(busy))
        town.start(old)
        residents = residents_of(town)
        if freed:
            somebody.close()
        outcome = reload(town, new, calls)
        if outcome is not None:
            happened, told = outcome
            happened.check(told)
            town.end_gone()
            connections = [endpoint.connections for endpoint in town.endpoints.values()]
            town.house.run_clock(lambda: not any(each.draining(one) for each in connections for one in each))
            check_residents(happened, told, residents)
        for one in (one for those in residents.values() for one in those):
            one.client.close()


# -- the check itself


@pytest.fixture
def told_and_done(tmp_path: Path) -> Iterator[tuple[Happened, dict[str, Told]]]:
    """A reload with every kind of change."""
    town, calls = Town(tmp_path), Calls()
    make = Reloads(town.house)
    make.known = specifications(calls)
    here, there = (f"tcp://127.0.0.1:{port}" for port in PORTS)
    shared = SocketOptions(reuse_port=True)
    old = (
        make.plan("same", "keen", f"unix://{tmp_path}/same"),
        make.plan("options", "keen", f"unix://{tmp_path}/options"),
        make.plan("limits", "plain", f"unix://{tmp_path}/limits"),
        make.plan("backlog", "plain", here),
        make.plan("anew", "plain", there),
        make.plan("protocol", "plain", f"unix://{tmp_path}/protocol"),
        make.plan("service", "served", f"unix://{tmp_path}/service"),
        make.plan("fewer", "plain", f"unix://{tmp_path}/fewer", f"unixgram://{tmp_path}/datagrams"),
        make.plan("removed", "plain", f"unix://{tmp_path}/removed"),
    )
    changed = {
        "options": make.plan("options", "keen", f"unix://{tmp_path}/options", word="v"),
        "limits": replace(make.plan("limits", "plain", f"unix://{tmp_path}/limits", connections=7)),
        "backlog": make.plan("backlog", "plain", here, socket=SocketOptions(backlog=7)),
        "anew": make.plan("anew", "plain", there, socket=shared),
        "protocol": make.plan("protocol", "keen", f"unix://{tmp_path}/protocol"),
        "service": make.plan("service", "served", f"unix://{tmp_path}/service", word="v"),
        "fewer": make.plan(
            "fewer", "plain", f"unix://{tmp_path}/fewer", restart=Restart(delay=2.0, max_delay=4.0)
        ),
    }
    new = [changed.get(plan.name, plan) for plan in old if plan.name != "removed"]
    new.append(make.plan("added", "served", f"unix://{tmp_path}/added"))
    try:
        plan = Plan(tmp_path / "sockd.yaml", WITHIN, LogPlan("info", "auto"), old)
        town.start(plan)
        outcome = reload(town, replace(plan, endpoints=tuple(new)), calls)
        assert outcome is not None
        yield outcome
        town.end_gone()
    finally:
        town.close()


def other_reports(told: dict[str, Told], happened: Happened) -> Iterator[tuple[str, Told]]:
    """What could have been reported of each endpoint, and would have been wrong."""
    for name, one in told.items():
        for kind in ("added", "removed", "rebound", "updated", "unchanged"):
            if kind != one.kind:
                yield name, replace(one, kind=kind)
        if one.lines:
            yield name, Told("unchanged")
        seen = happened.after.get(name) or happened.before[name]
        address = seen.listeners[0].plan.address
        lines = [f"{sign} {where}" for sign in "+-" for where in (address, "tcp://127.0.0.9:1")]
        lines += [f"new socket of {address}", f"future socket of {address}: backlog 1 -> 2"]
        lines += [f"{address} isn't open yet: nobody knows why"]
        lines += [f"socket of {address}: backlog 1 -> 2, mode 0660 -> 0600"]
        for line in one.lines:
            if not (one.replaced and line.startswith("options.")):  # which no one can see there
                yield name, replace(one, lines=tuple(each for each in one.lines if each != line))
        if not one.replaced and one.kind not in ("added", "removed"):
            lines += ["protocol: plain -> keen", "tls.min_version: off -> 1.2"]
            lines += ["" if one.about("options") else "options.word: u -> v"]
            lines += ["" if one.about("restart") else "restart.delay: 1s -> 2s"]
            lines += ["" if one.about("limits") else "limits.connections: 1 -> 2"]
        for line in filter(None, lines):
            if not any(each.startswith(line.partition(":")[0]) for each in one.lines):
                kind = "updated" if one.kind == "unchanged" else one.kind
                yield name, Told(kind, (*one.lines, line))


def test_a_false_report_is_found(told_and_done: tuple[Happened, dict[str, Told]]) -> None:
    """Each kind in place of another, each line too few and each line too many."""
    happened, told = told_and_done
    happened.check(told)
    assert {name: one.kind for name, one in told.items()} == {
        "same": "unchanged",
        "options": "updated",
        "limits": "updated",
        "backlog": "updated",
        "anew": "rebound",
        "protocol": "rebound",
        "service": "rebound",
        "fewer": "updated",
        "added": "added",
        "removed": "removed",
    }
    falsified = list(other_reports(told, happened))
    assert len(falsified) > 100
    assert not [(name, other) for name, other in falsified if passes(happened, told | {name: other})]


def passes(happened: Happened, told: dict[str, Told]) -> bool:
    """Whether the check believes this report."""
    try:
        happened.check(told)
    except AssertionError:
        return False
    return True
