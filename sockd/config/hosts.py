"""The types of lists of hosts, users and groups: each takes one item or several, but not none."""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, TypeVar

from pydantic import ValidationInfo

from sockd.config.form import Form, JsonSchema
from sockd.config.types import (
    ACCOUNT_SCHEMA,
    NETWORKS_SCHEMA,
    read_account,
    read_networks,
    read_text,
    write_networks,
)
from sockd.config.values import shown

_T = TypeVar("_T")

_LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_PROTOCOL = re.compile("[!-~]{1,255}")
_URI = re.compile("[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,1000}")


def _some(read: Callable[[object], _T], what: str) -> Callable[[object, ValidationInfo], tuple[_T, ...]]:
    """A reader of one or several of `what`; an empty list is refused, since it might mean all or none."""

    def reading(value: object, _info: ValidationInfo) -> tuple[_T, ...]:
        values = value if isinstance(value, list | tuple | frozenset) else (value,)
        if not values:
            raise ValueError(f"at least one {what} is needed here")
        return tuple(dict.fromkeys(read(one) for one in values))

    return reading


def _some_networks(value: object, info: ValidationInfo) -> tuple[IPv4Network | IPv6Network, ...]:
    return _some(lambda one: read_networks((one,), info)[0], "network")(value, info)


def _name(value: object) -> str:
    """A DNS name in lower case or an IP address, as certificates hold them."""
    text = read_text(value)
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    name = text.lower()
    if _NAME.fullmatch(name) and not re.fullmatch("[0-9.]+", name):
        return name
    hint = ""
    if not text.isascii():
        try:
            hint = f": write {text.encode('idna').decode().lower()}"
        except UnicodeError:
            hint = ""
    raise ValueError(f"{shown(text)} is neither a DNS name nor an IP address{hint}")


def _own_name(value: object) -> str:
    text = read_text(value)
    return f"*.{_name(text[2:])}" if text.startswith("*.") else _name(text)


def _peer_name(value: object) -> str:
    text = read_text(value)
    if _URI.fullmatch(text) and not re.fullmatch("[^:]*:[0-9]*", text) and not _is_ip(text):
        return text
    if text.startswith("*."):
        raise ValueError(f"{shown(text)}: a peer has one name: write it without a wildcard")
    return _name(text)


def _protocol(value: object) -> str:
    """The name of a protocol as ALPN has it: 1 to 255 bytes (RFC 7301, 3.1), here of visible ASCII."""
    text = read_text(value)
    if not _PROTOCOL.fullmatch(text):
        raise ValueError(f"{shown(text)} is no name of a protocol, such as h2 or http/1.1")
    return text


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _one_or_more(schema: JsonSchema, title: str) -> JsonSchema:
    return {"title": title, "anyOf": [schema, {"type": "array", "items": schema, "minItems": 1}]}


_TEXT: JsonSchema = {"type": "string"}
_NETWORKS = _one_or_more(_TEXT, NETWORKS_SCHEMA["title"])

SomeNetworks = Annotated[
    tuple[IPv4Network | IPv6Network, ...], Form(_some_networks, write_networks, _NETWORKS)
]
SomeNetworksOrOff = Annotated[
    tuple[IPv4Network | IPv6Network, ...] | None, Form(_some_networks, write_networks, _NETWORKS, off=True)
]
Accounts = Annotated[
    tuple[str | int, ...] | None,
    Form(
        _some(read_account, "name or number"),
        list,
        _one_or_more(ACCOUNT_SCHEMA, "name or number, or a list of them"),
        off=True,
    ),
]
Names = Annotated[
    tuple[str, ...] | None,
    Form(_some(_own_name, "name"), list, _one_or_more(_TEXT, "name, or a list of them"), off=True),
]
PeerNames = Annotated[
    tuple[str, ...] | None,
    Form(_some(_peer_name, "name"), list, _one_or_more(_TEXT, "name, or a list of them"), off=True),
]
ProtocolNames = Annotated[
    tuple[str, ...] | None,
    Form(_some(_protocol, "protocol"), list, _one_or_more(_TEXT, "protocol, or a list of them"), off=True),
]
