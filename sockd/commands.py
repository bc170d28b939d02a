"""What the control socket's commands do to the daemon.

A command is declared in sockd/control/commands.py: its name, its arguments, its help. Here is a method of the
same name, which is called with the arguments once they have been checked.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial

from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.base.spelling import offer
from sockd.base.waiting import Turns
from sockd.control.answers import Afterwards, Rows
from sockd.control.commands import COMMANDS
from sockd.control.language import Json, Refused
from sockd.control.listing import Listing, members_of
from sockd.control.server import Effect
from sockd.control.sources import RANKINGS, sources
from sockd.control.status import (
    Moments,
    disabled_value,
    endpoint_value,
    hold_value,
    program,
)
from sockd.control.who import Who
from sockd.daemon import Daemon
from sockd.process.rights import Rights
from sockd.transports.connection import Connection
from sockd.transports.flush import SLICE
from sockd.tree.endpoint import Endpoint


def commands(daemon: Daemon, upgrade: Effect) -> Mapping[str, Effect]:
    """What each command does, by its name; `upgrade`, which replaces the program, comes from the caller."""
    effects = Effects(daemon)
    return {name: upgrade if name == "upgrade" else getattr(effects, name) for name in COMMANDS}


class Effects:
    """A method for each command: it returns a result, which docs/control.md describes, or raises Refused."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    @cached_property
    def _rights(self) -> Rights:
        """The rights that the process has left, now that it has dropped those it doesn't need."""
        return Rights.ours()

    def _moments(self) -> Moments:
        return Moments(self._daemon.seconds())

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self._daemon.by_name.get(name)
        if endpoint is None:
            raise Refused(
                os.EX_USAGE, f"there is no endpoint {name[:100]!r}{offer(name, self._daemon.by_name)}"
            )
        return endpoint

    # -- what only looks

    def status(self) -> dict[str, Json]:
        daemon, moments = self._daemon, self._moments()
        longest = daemon.holds.longest
        return {
            **program(daemon.seconds() - daemon.began, str(daemon.plan.file), daemon.state),
            "reload": daemon.reloading.last and daemon.reloading.last.value(),
            "upgrade": daemon.last_upgrade and daemon.last_upgrade.value(),
            "endpoints": Rows(endpoint_value(each, moments, self._rights) for each in daemon.endpoints),
            "disabled": Rows(map(disabled_value, daemon.plan.disabled)),
            "leaving": daemon.leaving,
            "longest_hold": longest and hold_value(longest, moments),
            "control": {"refused": dict(daemon.controls.counters.refused)},
        }

    async def diff(self) -> dict[str, Json]:
        return await self._daemon.reloading.diff()

    async def connections(self, *, endpoint: str | None, after: int, most: int) -> dict[str, Json]:
        endpoints = self._daemon.everywhere if endpoint is None else [self._endpoint(endpoint)]
        moments = self._moments()
        members = [await members_of(each, after, moments) for each in endpoints]
        listing = Listing(endpoints, members, after, most, moments)
        return {"connections": Rows(listing), "more": Afterwards(lambda: listing.more)}

    async def sources(self, *, endpoint: str | None, by: str, most: int) -> dict[str, Json]:
        endpoints = self._daemon.everywhere if endpoint is None else [self._endpoint(endpoint)]
        if by not in RANKINGS:
            raise Refused(os.EX_USAGE, f"sources can't be ranked by {by!r}: write {', '.join(RANKINGS)}")
        return await sources(endpoints, by, most, self._moments())

    # -- what changes something

    async def reload(self) -> dict[str, Json]:
        return await self._daemon.reloading.reload()

    def suspend(self, *, endpoint: str) -> dict[str, Json]:
        self._endpoint(endpoint).suspend(True)
        return {"endpoint": endpoint}

    def resume(self, *, endpoint: str) -> dict[str, Json]:
        self._endpoint(endpoint).suspend(False)
        return {"endpoint": endpoint}

    async def restart(self, *, endpoint: str) -> dict[str, Json]:
        await self._endpoint(endpoint).restart(self._daemon.plan.drain)
        return {"endpoint": endpoint}

    async def drain(self, *, endpoint: str) -> dict[str, Json]:
        drain = self._endpoint(endpoint).drain_by_hand(self._daemon.plan.drain)
        await drain.done
        return {"endpoint": endpoint, "finished": drain.finished, "closed": drain.cut}

    async def kick(
        self, *, connections: list[int] | None, who: list[str] | None, endpoint: str | None
    ) -> dict[str, Json]:
        if not connections and not who:
            raise Refused(os.EX_USAGE, "kick needs the argument connections or who")
        wanted = set(connections or ())
        words = Who(who or ())
        kicked: set[int] = set()
        met: set[str] = set()  # words that mean somebody
        endpoints = self._daemon.everywhere if endpoint is None else [self._endpoint(endpoint)]
        turns = Turns(self._daemon.around.reactor, SLICE)
        for number, peer, name, kick in _kickable(endpoints):
            meant = words.meant(number, peer, name) if who else ()
            if (number in wanted or meant) and kick():
                kicked.add(number)
                met.update(meant)
            await turns.over()
        unknown: list[Json] = [*sorted(wanted - kicked), *(word for word in who or () if word not in met)]
        return {"kicked": sorted(kicked), "unknown": unknown}


def _kickable(endpoints: Sequence[Endpoint]) -> Iterator[tuple[int, Peer, str, Callable[[], bool]]]:
    """All that can be kicked: number, peer, name, and what kicks it, which says whether it did."""
    # Only copied at first: it may take many turns of the reactor to look at all of them.
    connections = [tuple(endpoint.connections) for endpoint in endpoints]
    for found in connections:
        for each in found:
            yield each.number, each.peer, each.name, partial(_cut, each)
    for endpoint in endpoints:
        for number, listener, member in endpoint.members():
            yield number, member.peer, member.name, partial(listener.kick, member)


def _cut(connection: Connection) -> bool:
    if connection.end is End.KICKED or connection.fileno() < 0:
        return False  # it is gone, or about to be
    connection.cut(End.KICKED)
    return True
