"""Who may use an endpoint: networks, the best match winning; users and groups on Unix sockets."""

from collections.abc import Set as AbstractSet
from typing import Protocol

from sockd.limits.networks import Network, Networks
from sockd.peers import Peer

REFUSED = "access"  # the counter's name


class Rules(Protocol):
    """As the plan has them."""

    @property
    def allow(self) -> tuple[Network, ...]: ...
    @property
    def deny(self) -> tuple[Network, ...]: ...
    @property
    def users(self) -> AbstractSet[int]: ...
    @property
    def groups(self) -> AbstractSet[int]: ...


class Access:
    """The rules, ready to be asked for each peer.

    Peers with an address: the smallest network that holds it decides, `deny` where both name it; all others
    may where nothing is allowed expressly, and may not where something is. Peers on Unix sockets: networks
    don't concern them; all may where neither users nor groups are named.
    """

    def __init__(self, rules: Rules) -> None:
        allowed = [(network, True) for network in rules.allow]
        denied = [(network, False) for network in rules.deny]
        self._networks = Networks(allowed + denied)
        self._others = not allowed
        self._users = rules.users
        self._groups = rules.groups

    def refusal(self, peer: Peer, groups: AbstractSet[int] | None = None) -> str | None:
        """The counter's name of the reason, or None; `groups` are the gids that a local peer has."""
        allowed = self._local(peer.uid, groups or frozenset()) if peer.local else self._remote(peer.host)
        return None if allowed else REFUSED

    def _remote(self, host: str) -> bool:
        best = self._networks.best(host)
        return self._others if best is None else best

    def _local(self, uid: int | None, groups: AbstractSet[int]) -> bool:
        if not self._users and not self._groups:
            return True
        return uid in self._users or not self._groups.isdisjoint(groups)
