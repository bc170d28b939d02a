"""Addresses that sockd listens on, written as URLs: `tcp://127.0.0.1:7007`, `unix://echo.sock`.

A new kind of address begins here, with a member of `Kind` and its form in `parse`. Then it needs a module
that opens its sockets, in `transports/sockets/`, called by `opening.open_address`; a peer in `base/peers.py`;
its Twisted address in `transports/twisted.py`; what a source is, in `limits/sources.py`; the family of a
socket that systemd passes, in `systemd/inherited.py`; and the keys that mean something for it, in
`plan/applies.py`.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from sockd.base.errors import SockdError
from sockd.base.spelling import offer

MAX_PATH_BYTES = 107  # sun_path of unix(7) has 108, of which one is the NUL at the end


class AddressError(SockdError):
    """A text is not an address that sockd can listen on; the message says what to write."""


WILDCARDS = ("*", "0.0.0.0", "::")  # hosts that stand for every address of the machine
OWN_NAME_PREFIX = "sockd-listener-"  # of the names under which systemd's fd store keeps sockd's own sockets


class Kind(StrEnum):
    """What is spoken where: the scheme of the URL."""

    TCP = "tcp"
    TLS = "tls"
    UDP = "udp"
    UNIX = "unix"
    UNIXGRAM = "unixgram"
    SYSTEMD = "systemd"

    @property
    def stream(self) -> bool:
        """Connections may arrive here. Of systemd's sockets that isn't known before it passes them."""
        return self not in (Kind.UDP, Kind.UNIXGRAM)

    @property
    def datagram(self) -> bool:
        """Datagrams may arrive here."""
        return self not in (Kind.TCP, Kind.TLS, Kind.UNIX)

    @property
    def inet(self) -> bool:
        return self in (Kind.TCP, Kind.TLS, Kind.UDP)

    @property
    def ports(self) -> "Kind":
        """The kind whose ports it uses: TLS uses those of TCP."""
        return Kind.TCP if self is Kind.TLS else self

    @property
    def local(self) -> bool:
        """A Unix socket that sockd opens, stream or datagram."""
        return self in (Kind.UNIX, Kind.UNIXGRAM)


@dataclass(frozen=True, order=True, slots=True)
class Address:
    """One address.

    An internet address has a `host`, a canonical literal or `*`, and a `port`; a Unix socket has a `path`, or
    `@name` in the abstract namespace. Sockets that systemd passes have their name as `path`: the
    FileDescriptorName= of systemd.socket(5).
    """

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def socket(self) -> "Address":
        """The address of the socket, which is the same with TLS and without."""
        return self if self.kind is self.kind.ports else replace(self, kind=self.kind.ports)

    @property
    def abstract(self) -> bool:
        """Whether it is a name of unix(7)'s abstract namespace, which has no file."""
        return self.kind.local and self.path.startswith("@")

    def __str__(self) -> str:
        if not self.kind.inet:
            return f"{self.kind}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"


def parse(text: str) -> Address:
    """The address that a text is; AddressError, with what was probably meant, if it is none."""
    _check(text)
    several = re.split("[, ]+", text)
    if several[1:] and _are_addresses(several):
        if text.startswith("-"):
            raise AddressError("a space belongs after each '-' that begins an address")
        raise AddressError(f"these are {len(several)} addresses: write a list, [{', '.join(several)[:200]}]")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in Kind.__members__.values():
        raise AddressError(_no_address(text))
    kind = Kind(scheme)
    if kind.inet:
        return _inet(kind, rest)
    return Address(kind, path=_path(f"{kind}://", rest) if kind.local else _name(rest))


def meant(text: str) -> Address:
    """The address that a text is, or that was probably meant by it; AddressError where neither is known."""
    with suppress(AddressError):
        return parse(text)
    guess = _guess(text)
    if guess is None:
        raise AddressError(f"{text!r} is not an address")
    return guess


def parse_path(text: str) -> Address:
    """The Unix stream socket at the path that a text is; AddressError as from `parse`."""
    _check(text)
    scheme, separator, rest = text.partition("://")
    if separator and scheme in Kind.__members__.values():
        raise AddressError(f"{text!r} is an address, not a path: write {rest or 'NAME.sock'}")
    return Address(Kind.UNIX, path=_path("", text))


def resolve(address: Address, runtime: Path) -> Address:
    """The address with its path made absolute, below `runtime`; AddressError where that is too long."""
    if not address.kind.local:
        return address
    if address.abstract:
        noun, path = "the name", address.path
    else:
        noun, path = "the path", str(runtime / address.path)
    length = len(path.encode())
    if length > MAX_PATH_BYTES:
        raise AddressError(
            f"{noun} {path} is {length} bytes long: a Unix socket's has at most {MAX_PATH_BYTES}"
        )
    return replace(address, path=path)


def overlap(one: Address, other: Address) -> bool:
    """Whether the kernel would refuse to have both open; paths are compared as they are written."""
    if one.kind.local and other.kind.local:
        # The kernel looks up abstract names by the socket's type, but not files.
        return one.path == other.path and (one.kind is other.kind or not one.abstract)
    if one.kind is Kind.SYSTEMD:
        return one == other
    if one.kind.ports is not other.kind.ports or one.port != other.port or not one.port:
        return False
    return one.host == other.host or (
        not _families(one).isdisjoint(_families(other)) and (_wildcard(one) or _wildcard(other))
    )


def _wildcard(address: Address) -> bool:
    return address.host in WILDCARDS


def _families(address: Address) -> frozenset[int]:
    return frozenset({4, 6} if address.host == "*" else {6} if ":" in address.host else {4})


def _check(text: str) -> None:
    if not text.isprintable():
        raise AddressError(f"{text[:200]!r} holds a character that can't be printed")
    if len(text) > 1000:
        raise AddressError(f"{text[:40]!r}... is too long for an address")


# Schemes of other programs, and the kind that is meant: `ssl` is OpenSSL's and Twisted's, the names with
# a number and with `-` are socat's, Go's and HAProxy's.
_SCHEMES = {
    **dict.fromkeys(
        ("tcp4", "tcp6", "tcp-listen", "tcp4-listen", "tcp6-listen", "ipv4", "ipv6", "inet"), Kind.TCP
    ),
    **dict.fromkeys(("udp4", "udp6", "udp-listen", "udp-recv"), Kind.UDP),
    **dict.fromkeys(("ssl", "tls1", "ssl-listen", "openssl", "openssl-listen", "tcps", "tcp+tls"), Kind.TLS),
    **dict.fromkeys(("unix-listen", "uds", "local", "unix+stream"), Kind.UNIX),
    **dict.fromkeys(("unixdgram", "unix-dgram", "unix-recv", "unix+dgram", "dgram"), Kind.UNIXGRAM),
    **dict.fromkeys(("fd", "sd", "systemd.socket"), Kind.SYSTEMD),
}
# Those of protocols that sockd hosts on plain addresses.
_PROTOCOLS = ("http", "https", "ws", "wss", "irc", "ircs", "syslog", "telnet")


def _no_address(text: str) -> str:
    """What is wrong with a text that doesn't begin with a kind of address, and what to write."""
    if text.startswith("-") and _like_address(text[1:]):
        return f"a space belongs after the '-': write - {text[1:]}"
    if _NETWORK.search(text):
        return _no_network(text)
    scheme, separator, rest = text.partition("://")
    if separator and scheme in _PROTOCOLS:
        kind = Kind.TLS if scheme.endswith("s") and scheme != "ws" else Kind.TCP
        return f"{scheme!r} is a protocol, not a kind of address: write {kind}://{rest}"
    guess = _guess(text)
    if guess is not None:
        return f"{text!r} is not an address: write {guess}"
    if separator:
        return f"unknown kind of address {scheme!r}{offer(scheme, map(str, Kind))}"
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and re.fullmatch("[A-Za-z0-9.-]*[A-Za-z][A-Za-z0-9.-]*", host):
        return f"{text!r} is not an address: write tcp://ADDRESS:{port}, as host names are not looked up"
    return f"{text!r} is not an address: write it like tcp://127.0.0.1:7007 or unix://echo.sock"


_NETWORK = re.compile(r"[0-9a-f:]\]?/[0-9]+\]?(?::|$)")


def _no_network(text: str) -> str:
    return f"{text!r} is a network, not an address: write one address of this machine, or * for all of them"


def _are_addresses(several: list[str]) -> bool:
    """Whether a text is several addresses; a path may hold spaces and commas, but hardly `://`."""
    words = [one.removeprefix("-") for one in several]
    path = words[0].startswith(("unix://", "unixgram://", "systemd://"))
    return all((not path or "://" in word) and _like_address(word) for word in words)


def _like_address(text: str) -> bool:
    try:
        meant(text)
    except AddressError:
        return False
    return True


def _guess(text: str) -> Address | None:
    """The address that was probably meant by a text that is none; None where that isn't known."""
    for guess in _guesses(text):
        with suppress(AddressError):
            return parse(guess)
    return None


def _guesses(text: str) -> Iterator[str]:
    """What may be meant by a text that is no address, whether that is one or not."""
    found = re.fullmatch(r"([A-Za-z0-9.+-]+?):?(?://?|:|\\\\)(.*)", text)
    if found:
        word, rest = found[1].lower(), found[2]
        kind = Kind(word) if word in Kind.__members__.values() else _SCHEMES.get(word)
        if kind:
            if kind.local and ":/" in text and "://" not in text:
                rest = text[text.index(":") + 1 :]
            yield f"{kind}://{rest}"
            if kind.inet:
                yield f"{kind}://*:{rest}"
    if text.startswith(("/", "./", "@")) or text.endswith(".sock"):
        yield f"unix://{text}"
    elif re.fullmatch(r"(\*|[0-9.]+|\[[0-9a-f:]+\]):[0-9]+", text):
        yield f"tcp://{text}"
    elif text.startswith("localhost:"):
        yield f"tcp://127.0.0.1:{text[10:]}"
    elif re.fullmatch(":?[0-9]+", text):
        yield f"tcp://*:{text.lstrip(':')}"


def _path(scheme: str, text: str) -> str:
    if text in ("", "@"):
        raise AddressError(f"there is no path: write {scheme}/run/NAME.sock, or {scheme}NAME.sock")
    if text.startswith("@"):
        return text
    if text.endswith("/") or text.rpartition("/")[2] in (".", ".."):
        raise AddressError(f"{text!r} is a directory: a socket needs a name")
    path = re.sub("/(\\./|/)*", "/", text).removeprefix("./")
    if path.startswith(("~", "@")):
        raise AddressError(f"{text!r}: '{path[0]}' has no meaning here, write the whole path")
    return path


def _name(text: str) -> str:
    """A name as systemd.socket(5) allows it: printable ASCII without ':'."""
    if not text:
        raise AddressError("there is no name: write systemd://NAME, as FileDescriptorName= of a .socket unit")
    if not re.fullmatch("[ -9;-~]{1,255}", text):
        raise AddressError(
            f"{text[:60]!r} is not a FileDescriptorName=: write 1 to 255 ASCII characters without ':'"
        )
    if text.startswith(OWN_NAME_PREFIX):
        raise AddressError(
            f"{text!r}: names that begin with {OWN_NAME_PREFIX!r} are reserved for sockd: write another"
        )
    return text


def _inet(kind: Kind, text: str) -> Address:
    if _NETWORK.search(text):
        raise AddressError(_no_network(f"{kind}://{text}"))
    found = re.fullmatch(r"(?P<host>\[[^\]]*\]|[^:\[\]]*):(?P<port>[^:]*)", text)
    if not found:
        raise AddressError(f"{kind}://{text}: {_without_port(kind, text)}")
    return Address(kind, _host(kind, found["host"], found["port"]), _port(found["port"]))


def _without_port(kind: Kind, text: str) -> str:
    if ":" not in text or re.fullmatch(r"\[[^\]]*\]", text):
        return f"there is no port, write {kind}://{text}:PORT"
    host, _, port = text.rpartition(":")
    for literal, number in ((host, port), (text, "PORT")):
        try:
            return f"an IPv6 address needs brackets: write {kind}://[{IPv6Address(literal)}]:{number}"
        except ValueError:
            continue
    return "this is not HOST:PORT"


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        hint = "nothing may follow the port" if re.match("[0-9]+/", text) else "write a number"
        raise AddressError(
            f"port {text!r} is not a number: {hint}" if text else "there is no port after the ':'"
        )
    if len(text) > 10 or int(text) > 65535:
        raise AddressError(f"port {text[:20]} is out of range (0 to 65535)")
    if text != str(int(text)):
        raise AddressError(f"port {text} begins with a zero: write {int(text)}")
    return int(text)


def _host(kind: Kind, text: str, port: str) -> str:
    if text == "*":
        return text
    if not text:
        raise AddressError(
            f"there is no host: write {kind}://*:{port} for all, {kind}://127.0.0.1:{port} for one"
        )
    literal = text[1:-1] if text.startswith("[") else text
    if "%" in literal:
        raise AddressError(
            f"{text} has an IPv6 zone, which is not supported: leave out the % and what follows"
        )
    host: IPv4Address | IPv6Address
    try:
        host = IPv6Address(literal) if text.startswith("[") else IPv4Address(literal)
    except ValueError:
        raise AddressError(_no_literal(text, literal)) from None
    if isinstance(host, IPv6Address) and host.ipv4_mapped:
        raise AddressError(f"{text} is an IPv4 address in IPv6 form: write {host.ipv4_mapped}")
    if host.is_multicast or str(host) == "255.255.255.255":
        raise AddressError(f"{text} is a multicast or broadcast address: write one of this machine's own")
    return str(host)


def _no_literal(text: str, literal: str) -> str:
    if text.startswith("["):
        try:
            return f"{text} is not an IPv6 address: write {ip_address(literal)} without brackets"
        except ValueError:
            return f"{text} is not an IPv6 address"
    if re.fullmatch("[0-9.]+", text):
        return f"{text} is not an IPv4 address"
    return (
        f"{text!r} is a host name, and names are not looked up: write 127.0.0.1, [::1], * or another address"
    )
