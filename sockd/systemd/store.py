"""What systemd hands us becomes sockets for listeners; what we open is left in its fd store."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from twisted.logger import Logger

from sockd.base.addresses import Address
from sockd.systemd.inherited import Inherited, address_of, stored_file, stored_name
from sockd.systemd.notify import Notify
from sockd.transports.sockets.opened import Opened, equip
from sockd.tree.sockets import Sockets


class FdStore:
    """systemd's store: it has `size` places (None: systemd keeps none for us)."""

    def __init__(self, notify: Notify, size: int | None) -> None:
        self.active = notify.active and bool(size)
        self.size = size or 0
        self._notify = notify
        self._kept: set[str] = set()

    def keep(self, opened: Opened) -> None:
        """Have systemd hold it open as well."""
        if self.active and opened.ours:
            name = _name(opened)
            if name not in self._kept:
                self._kept.add(name)
                self._notify.store(opened.sock, name)

    def has(self, opened: Opened) -> None:
        """It came from there."""
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
    """The sockets that this process was given, ready for listeners; what is no use is told and closed."""
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
                "{address} was kept, but its file is gone: it is opened anew",
                address=str(address), event="inherited",
            )  # fmt: skip
            store.forget(opened)
            sock.close()
            continue
        with suppress(OSError):
            equip(opened)
        yield address, opened


def _unreachable(opened: Opened) -> bool:
    """Whether it is a Unix socket whose path leads to it no more."""
    address = opened.address
    if not address.kind.local or address.abstract:
        return False
    return opened.file is None or not opened.file.there()
