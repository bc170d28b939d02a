"""Peers: the IP address and port of the other end, or its uid and pid on a Unix socket."""

from ipaddress import IPv6Address
from typing import Any

from sockd.base.frozen import Frozen

# What sendmsg(2) takes besides the bytes: level, type and data of each control message.
Ancillary = tuple[tuple[int, int, bytes], ...]
# An address as the socket module has it. Any: its type depends on the family, a tuple of two or four, a path,
# or the bytes of an abstract name.
Sockaddr = Any


# Characters kept of what a protocol calls a peer, who may have chosen them.
NAME_LIMIT = 100


class Peer:
    """The other end of a connection, or the sender of a datagram.

    `text` is how logs show it. Peers are equal if a reply to one reaches the other. `sockaddr` is what
    sendto(2) takes, or None for a Unix datagram sender without an address of its own. `control` is the
    ancillary data of a reply, by which it leaves from the address that was asked.

    `proved` says that it reads what is sent to its address. The kernel vouches for peers on Unix sockets,
    and a handshake for those of connections. The source of a datagram over UDP may be forged, so a protocol
    sets it, once it knows better; until then the peer is sent no more than came from it.
    """

    __slots__ = (
        "_key",
        "control",
        "datagrams",
        "gid",
        "host",
        "packed",
        "pid",
        "pinned",
        "port",
        "proved",
        "size",
        "sockaddr",
        "text",
        "uid",
    )

    def __init__(
        self,
        sockaddr: Sockaddr = None,
        *,
        host: str = "",
        port: int = 0,
        uid: int | None = None,
        pid: int | None = None,
        gid: int | None = None,
        control: Ancillary = (),
    ) -> None:
        self.sockaddr = sockaddr
        self.host = host
        self.port = port
        self.uid = uid
        self.pid = pid
        self.gid = gid  # of a Unix datagram's sender
        self.control = control
        if host:
            self.text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        else:
            self.text = "uid=?,pid=?" if uid is None else f"uid={uid},pid={pid}"
        self._key = (sockaddr, control, uid, pid)
        # `sockaddr` and `control` as the kernel reads them, made by the transport that answers first, and the
        # memory they are in.
        self.packed: bytes | None = None
        self.proved = not host
        # Datagrams that came since they were last entered into the accounts (`limits.accounts`), and their
        # bytes.
        self.datagrams = self.size = 0
        self.pinned: object = None

    @classmethod
    def inet(cls, sockaddr: tuple[str, int, *tuple[object, ...]], control: Ancillary = ()) -> "Peer":
        """The peer of an address from accept(2) or recvfrom(2); an IPv4-mapped one is shown as IPv4."""
        return cls(sockaddr, host=unmapped(sockaddr[0]), port=sockaddr[1], control=control)

    @classmethod
    def unix(
        cls,
        uid: int | None,
        pid: int | None,
        sockaddr: str | bytes | None = None,
        gid: int | None = None,
    ) -> "Peer":
        """The peer of the kernel's credentials; a sender that isn't bound (no address) can't be answered."""
        return cls(sockaddr or None, uid=uid, pid=pid, gid=gid)

    def freeze(self) -> dict[str, object]:
        """A state from which `thaw` makes an equal peer in another program."""
        sockaddr = list(self.sockaddr) if isinstance(self.sockaddr, tuple) else self.sockaddr
        return {
            "sockaddr": sockaddr,
            "host": self.host,
            "port": self.port,
            "uid": self.uid,
            "pid": self.pid,
            "gid": self.gid,
            "control": [list(item) for item in self.control],
            "proved": self.proved,
        }

    @classmethod
    def thaw(cls, state: Frozen) -> "Peer":
        """The peer that was frozen to this state."""
        sockaddr = state["sockaddr"]
        peer = cls(
            tuple(sockaddr) if isinstance(sockaddr, list) else sockaddr,
            host=state["host"],
            port=state["port"],
            uid=state["uid"],
            pid=state["pid"],
            gid=state.get("gid"),
            control=tuple((level, kind, data) for level, kind, data in state.get("control", ())),
        )
        peer.proved = bool(state.get("proved", True))  # versions before knew of no others
        return peer

    @property
    def local(self) -> bool:
        """Whether it is on this machine, and the kernel vouches for its uid and pid: on a Unix socket."""
        return not self.host

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peer) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<Peer {self.text}>"


def unmapped(host: str) -> str:
    """The IPv4 address inside `::ffff:a.b.c.d`, anything else as it is."""
    if host.startswith("::ffff:"):
        mapped = IPv6Address(host).ipv4_mapped
        if mapped is not None:
            return str(mapped)
    return host
