"""Two machines on a wire of their own, as network namespaces: the daemon's, and one that forges."""

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
OURS, THEIRS = "10.77.0.1", "10.77.0.2"  # the daemon's address, and the attacker's


class NoNetworkError(Exception):
    """None can be made here, and why."""


class Network:
    """The namespaces and the wire between them; the daemon's machine routes everything to the other."""

    def __init__(self) -> None:
        if os.getuid() != 0:
            raise NoNetworkError("a network namespace needs root")
        self.ours, self.theirs = (f"sockd-{os.getpid()}-{name}" for name in ("a", "b"))
        try:
            for name in (self.ours, self.theirs):
                self._ip("netns", "add", name)
            self._ip("link", "add", "wire", "netns", self.ours, "type", "veth", "peer", "name", "wire",
                     "netns", self.theirs)  # fmt: skip
            for name, address, other in ((self.ours, OURS, THEIRS), (self.theirs, THEIRS, OURS)):
                self._ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
                for device in ("lo", "wire"):
                    self._ip("-n", name, "link", "set", device, "up")
                self._ip("-n", name, "route", "add", "default", "via", other)
            self._ip("netns", "exec", self.ours, "sh", "-c",
                     "for each in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$each; done")  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise NoNetworkError(f"no network namespaces: {error}") from error

    @property
    def door(self) -> tuple[str, ...]:
        """What a command begins with that is to run on the daemon's machine."""
        return ("ip", "netns", "exec", self.ours)

    @property
    def other_door(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.theirs)

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def cut(self) -> None:
        """Nothing goes over the wire any more, and neither end hears of it."""
        self._ip("-n", self.theirs, "link", "set", "wire", "down")

    def repair(self) -> None:
        self._ip("-n", self.theirs, "link", "set", "wire", "up")

    @contextmanager
    def attacking(self) -> Iterator[None]:
        """Sockets that this thread makes in here are on the attacker's machine, for as long as they live."""
        setns = ctypes.CDLL(None, use_errno=True).setns
        ours, theirs = Path("/proc/thread-self/ns/net"), Path(f"/run/netns/{self.theirs}")
        with ours.open() as before, theirs.open() as after:
            if setns(after.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if setns(before.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")

    def forger(self) -> socket.socket:
        """A socket that sends what `forged` makes."""
        with self.attacking():
            return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def close(self) -> None:
        for name in (self.ours, self.theirs):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def forged(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram (RFC 791, RFC 768) that claims to come from `source`.

    The kernel fills in the header's checksum; the datagram has none, as it may.
    """
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    length = 8 + len(data)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0)
    return header + addresses + struct.pack("!HHHH", source[1], target[1], length, 0) + data
