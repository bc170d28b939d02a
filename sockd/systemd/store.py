"""systemd's fd store, which holds listening sockets while there is no daemon.

A socket that sockd opens is sent to systemd, which keeps a copy of its descriptor (FileDescriptorStoreMax= in
the unit). When the daemon stops, or crashes, the copy keeps the socket open: the kernel goes on completing
connections up to the backlog, and the next process of the unit gets the socket back, as it does those of
.socket units. `adopt` turns both into sockets for listeners; one that no listener of the plan wants is
closed.

A socket's name in the store is made of its inode, which is the same for all copies, so that a process knows
which of its sockets are kept. A Unix socket is of use only while the file at its path still leads to it; the
name says which file that was. Closing a socket for good (an address that the file has no more) begins with
`forget`.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from twisted.logger import Logger

from sockd.base.addresses import Address
from sockd.systemd.inherited import Inherited, address_of, stored_file, stored_name
from sockd.systemd.notify import Notify
from sockd.transports.sockets.opening import Opened, equip
from sockd.tree.sockets import Sockets


class FdStore:
    """The store as a Store of sockets.py, with `size` places; None: systemd keeps none for this unit."""

    def __init__(self, notify: Notify, size: int | None) -> None:
        self.active = notify.active and bool(size)
        self.size = size or 0
        self._notify = notify
        self._kept: set[str] = set()

    def keep(self, opened: Opened) -> None:
        """Have systemd keep it open as well."""
        if self.active and opened.ours:
            name = _name(opened)
            if name not in self._kept:
                self._kept.add(name)
                self._notify.store(opened.sock, name)

    def has(self, opened: Opened) -> None:
        """This socket has come from the store."""
        self._kept.add(_name(opened))

    def forget(self, opened: Opened) -> None:
        """Have systemd let go of it."""
        name = _name(opened)
        if self.active and name in self._kept:
            self._kept.discard(name)
            self._notify.forget(name)


def _name(opened: Opened) -> str:
    return stored_name(opened.sock, opened.file)


def adopt(inherited: Inherited, store: FdStore, log: Logger) -> Sockets:
    """The sockets that this process was given, ready for listeners; those of no use are logged and closed."""
    for problem in inherited.problems:
        log.warn("systemd: {problem}", problem=problem, event="inherited")  # noqa: G010
    return Sockets(dict(_named(inherited, log)), _stored(inherited, store, log), store)


def _named(inherited: Inherited, log: Logger) -> Iterator[tuple[str, list[Opened]]]:
    for name, sockets in inherited.named.items():
        usable = []
        for sock in sockets:
            try:
                opened = Opened(sock, address_of(sock), ours=False)
            except ValueError as error:
                log.warn(  # noqa: G010
                    "systemd passed a socket named {name} that can't be used: {why}",
                    name=name, why=str(error), event="inherited",
                )  # fmt: skip
                sock.close()
                continue
            equip(opened)
            usable.append(opened)
        yield name, usable


def _stored(inherited: Inherited, store: FdStore, log: Logger) -> Iterator[tuple[Address, Opened]]:
    for name, sock in inherited.stored:
        try:
            address = address_of(sock)
        except ValueError as error:
            log.warn(  # noqa: G010
                "the fd store had {name}, of no use: {why}", name=name, why=str(error), event="inherited"
            )
            sock.close()
            continue
        opened = Opened(sock, address)
        if address.kind.local:
            opened = replace(opened, file=stored_file(name, address.path))
        store.has(opened)
        if _unreachable(opened):
            log.info(
                "{address} was kept, but its file is gone: it is opened again",
                address=str(address), event="inherited",
            )  # fmt: skip
            store.forget(opened)
            sock.close()
            continue
        with suppress(OSError):
            equip(opened)
        yield address, opened


def _unreachable(opened: Opened) -> bool:
    """Whether it is a Unix socket whose path doesn't lead to it any more."""
    address = opened.address
    if not address.kind.local or address.abstract:
        return False
    return opened.file is None or not opened.file.there()
