"""What the control socket's commands do to the daemon.

A command is declared in sockd/control/commands.py: its name, its arguments, its help. Here is a method of the
same name, which is called with the arguments once they have been checked.
"""

import os
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from operator import itemgetter

from sockd.base.metrics import End
from sockd.base.spelling import offer
from sockd.control.commands import COMMANDS
from sockd.control.language import Json, Refused
from sockd.control.server import Effect
from sockd.control.status import Moments, connection_value, endpoint_value, member_value, program
from sockd.daemon import Daemon
from sockd.process.rights import Rights
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
        return {
            **program(daemon.seconds() - daemon.began, str(daemon.plan.file), daemon.state),
            "reload": daemon.reloading.last and daemon.reloading.last.value(),
            "upgrade": daemon.last_upgrade and daemon.last_upgrade.value(),
            "endpoints": [endpoint_value(endpoint, moments, self._rights) for endpoint in daemon.endpoints],
            "leaving": daemon.leaving,
            "control": {"refused": dict(daemon.controls.counters.refused)},
        }

    async def diff(self) -> dict[str, Json]:
        return await self._daemon.reloading.diff()

    def connections(self, *, endpoint: str | None, after: int, most: int) -> dict[str, Json]:
        endpoints = self._daemon.everywhere if endpoint is None else [self._endpoint(endpoint)]
        moments = self._moments()
        found: list[tuple[int, Callable[[], dict[str, Json]]]] = []
        for one in endpoints:
            found += [
                (connection.number, partial(connection_value, one, connection, moments))
                for connection in one.connections
                if connection.number > after
            ]
            found += [
                (number, partial(member_value, one, number, listener, member, moments))
                for number, listener, member in one.members()
                if number > after
            ]
        found.sort(key=itemgetter(0))
        return {"connections": [value() for _, value in found[:most]], "more": len(found) > most}

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

    def kick(self, *, connections: list[int]) -> dict[str, Json]:
        wanted = set(connections)
        found = {
            connection.number: connection
            for endpoint in self._daemon.everywhere
            for connection in endpoint.connections
            if connection.number in wanted
        }
        for connection in found.values():
            connection.cut(End.KICKED)
        kicked = set(found)
        if wanted - kicked:
            kicked.update(
                number
                for endpoint in self._daemon.everywhere
                for number, listener, member in endpoint.members()
                if number in wanted and listener.kick(member)
            )
        return {"kicked": sorted(kicked), "unknown": sorted(wanted - kicked)}
