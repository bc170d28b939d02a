"""Where listeners get their sockets from: sockets that were handed to the program open, else new ones."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from sockd.base.account import Account
from sockd.base.addresses import Address, Kind, overlap
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.opening import Opened, open_address, shares, tune
from sockd.transports.sockets.options import SocketOptions


class Store(Protocol):
    """Holds duplicates of our listening sockets in case the process ends: systemd's fd store."""

    active: bool
    size: int  # how many it has room for

    def keep(self, opened: Opened) -> None: ...
    def has(self, opened: Opened) -> None: ...
    def forget(self, opened: Opened) -> None: ...


class NoStore:
    """No fd store."""

    active = False
    size = 0

    def keep(self, opened: Opened) -> None:
        """Nothing keeps it."""

    has = keep

    def forget(self, opened: Opened) -> None:
        """Nothing kept it."""


class Sockets:
    """The sockets of all listeners.

    `given` are sockets of ours that survived the program that opened them, by the address that its file had;
    `named` are those of .socket units, by their name.
    """

    def __init__(
        self,
        named: Mapping[str, list[Opened]] | None = None,
        given: Iterable[tuple[Address, Opened]] = (),
        store: Store | None = None,
    ) -> None:
        self._given: dict[Address, list[Opened]] = {}
        for address, opened in given:
            self._given.setdefault(address.socket, []).append(opened)
        self._named = dict(named or {})
        self.store: Store = store or NoStore()
        self.user: Account | None = None  # that the daemon, while it is root, is going to be
        self._stay = False

    @property
    def stay(self) -> bool:
        """Whether the next program is to find again what is closed now."""
        return self._stay and self.store.active

    def leave_to_store(self) -> None:
        """The process ends: what the store has stays open there."""
        self._stay = True

    def open(self, address: Address, options: SocketOptions) -> Opened:
        """The socket that was handed over for this address, or a new one; OpenError where that fails."""
        opened = self._take(address, options) or open_address(address, options, self.user)
        self.store.keep(opened)
        return opened

    def _take(self, address: Address, options: SocketOptions) -> Opened | None:
        # Where the machine has no IPv6, `*` is an IPv4 socket.
        address = address.socket
        for wanted in (address, replace(address, host="0.0.0.0") if address.host == "*" else address):
            for opened in self._given.get(wanted, ()):
                if shares(opened) == options.reuse_port:
                    self._given[wanted].remove(opened)
                    tune(opened, None, options)
                    return opened
        self._make_way(address, options)
        return None

    def _make_way(self, address: Address, options: SocketOptions) -> None:
        """Close sockets of another address that overlap this one: the file has changed."""
        for other, found in self._given.items():
            if other != address and not overlap(other, address):
                continue
            for opened in tuple(found):
                if not (options.reuse_port and shares(opened)):  # else both may be open
                    found.remove(opened)
                    self.discard(opened)

    @property
    def passed(self) -> Mapping[str, list[Opened]]:
        """systemd's sockets, by their names."""
        return self._named

    def how_many(self, name: str) -> int:
        """How many sockets systemd passed under this name."""
        return len(self._named.get(name, ()))

    def kind(self, address: Address, number: int) -> Kind:
        """What the socket of this address is: systemd's names don't say whether streams or datagrams."""
        passed = self._named.get(address.path, ()) if address.kind is Kind.SYSTEMD else ()
        return passed[number].address.kind if number < len(passed) else address.kind

    def named(self, name: str, number: int, options: SocketOptions) -> Opened:
        """The nth socket of this name, with these options; a duplicate, so that it can be had again."""
        passed = self._named.get(name, [])
        if number >= len(passed):
            raise OpenError(f"systemd passed no socket named {name}")
        tune(passed[number], None, options)
        return passed[number].duplicate()

    def close(self, opened: Opened, *, stays: bool = False) -> None:
        """Close our descriptor; without `stays` the store's as well."""
        if not stays and opened.ours:
            self.store.forget(opened)
        opened.sock.close()

    def let_go(self, opened: Opened) -> None:
        """Have the store forget it and remove its file, unless the next program is to find them."""
        if not self.stay:
            self.store.forget(opened)
            if opened.file is not None:
                with suppress(OSError):
                    opened.file.remove()

    def discard(self, opened: Opened) -> None:
        """The same, and close it."""
        self.let_go(opened)
        opened.sock.close()

    def unclaimed(self, addresses: Iterable[Address]) -> list[str]:
        """The names of systemd's sockets that are at none of these addresses."""
        claimed = {address.path for address in addresses if address.kind is Kind.SYSTEMD}
        return sorted(self._named.keys() - claimed)

    def drop_given(self) -> None:
        """Close what an earlier program had open and the file doesn't mention any more."""
        for found in self._given.values():
            for opened in found:
                self.discard(opened)
        self._given.clear()


class UdpPorts:
    """The UDP ports that sockd listens on; several listeners may have the same one."""

    def __init__(self) -> None:
        self._ports: Counter[int] = Counter()

    def __contains__(self, port: object) -> bool:
        return port in self._ports

    def __iter__(self) -> Iterator[int]:
        return iter(self._ports)

    def __len__(self) -> int:
        return len(self._ports)

    def listeners(self, port: int) -> int:
        """How many listeners have this port."""
        return self._ports[port]

    def add(self, port: int) -> None:
        self._ports[port] += 1

    def discard(self, port: int) -> None:
        """One listener fewer has this port."""
        if self._ports[port] > 1:
            self._ports[port] -= 1
        else:
            del self._ports[port]
