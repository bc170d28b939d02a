"""The keys of an endpoint: the form, the default and the description of each."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag
from pydantic.json_schema import WithJsonSchema

from sockd.base import addresses
from sockd.base.addresses import Address, Kind
from sockd.config.form import Form, Section, no_default, wrong
from sockd.config.guards import NO_PROXIES, Access, ProxyProtocol, Tls
from sockd.config.hosts import SomeNetworksOrOff
from sockd.config.types import (
    Account,
    Boolean,
    Duration,
    Integer,
    Mode,
    OptionalDuration,
    OptionalRate,
    Text,
    duration,
    number,
    size,
)
from sockd.config.values import read_as, shown

NAME = r"^[a-z][a-z0-9._-]{0,62}$"
GIVE_UP_AFTER = 60.0  # seconds: the value for `required: true`


# -- values of more than one form --------------------------------------------------------------------------


# The tags of the form that was written. The brackets keep them out of the paths of problems.
def _short_or_long(value: object) -> str:
    return "<long>" if isinstance(value, dict | BaseModel) else "<short>"


def _one_or_many(value: object) -> str:
    return "<many>" if isinstance(value, list | tuple) else "<one>"


def _read_off(value: object) -> None:
    if value is not None and value != "off":
        raise wrong("write 'off', or keys and values")


def _read_address(value: object, _info: object) -> Address:
    if isinstance(value, Address):
        return value
    if read_as(value) not in ("string", "number"):
        raise wrong("an address is expected here, like tcp://127.0.0.1:7007")
    try:
        return addresses.parse(str(value))
    except addresses.AddressError as error:
        raise wrong(str(error)) from None


def _read_options(value: object) -> object:
    if not isinstance(value, dict):
        raise wrong("keys and values are expected here: the options of the protocol")
    return value


Off = Annotated[None, BeforeValidator(_read_off), WithJsonSchema({"const": "off"})]
Where = Annotated[
    Address,
    Form(
        _read_address,
        str,
        {
            "title": "address",
            "type": "string",
            "pattern": f"^(?:{'|'.join(Kind)})://",
            "examples": ["tcp://127.0.0.1:7007", "tls://*:7443", "udp://*:7007", "unix://echo.sock"],
        },
    ),
]


# -- sections ----------------------------------------------------------------------------------------------


class Keepalive(Section):
    """How idle TCP connections are probed, so that peers that vanished are noticed."""

    idle: Annotated[float, duration(1, 32767, whole=True)] = Field(
        60.0, description="How long a connection is idle before it is probed, in whole seconds."
    )
    interval: Annotated[float, duration(1, 32767, whole=True)] = Field(
        10.0, description="The time between two probes, in whole seconds."
    )
    count: Integer = Field(6, ge=1, le=127, description="How many probes may stay unanswered.")


class Socket(Section):
    """What is set on the sockets before they accept connections."""

    backlog: Integer = Field(
        1024,
        ge=1,
        le=65535,
        description="How many connections may wait in the kernel to be accepted (streams).",
    )
    keepalive: Annotated[
        Annotated[Keepalive, Tag("<long>")] | Annotated[Off, Tag("<short>")], Discriminator(_short_or_long)
    ] = Field(Keepalive(), description="How idle connections are probed, or `off` (TCP).")
    nodelay: Boolean = Field(
        True, description="Send small writes immediately instead of gathering them (TCP)."
    )
    reuse_port: Boolean = Field(
        False, description="Share the port with other listeners that also set this (TCP and UDP)."
    )
    receive_buffer: Annotated[int | None, size(2048, 2**30, off=True)] = Field(
        None, description="The kernel's receive buffer, or `off` for the kernel's own choice (TCP and UDP)."
    )
    mode: Mode = Field(0o660, description="The mode of the socket's file (Unix sockets).")
    user: Account = Field(
        None, description="The owner of the socket's file; `off`: the user that sockd runs as (Unix sockets)."
    )
    group: Account = Field(
        None,
        description="The group of the socket's file; `off`: the group that sockd runs as (Unix sockets).",
    )


# Where each is enforced: `connections` in `tree/connections.py`; the times in `tree/sweep.py`, by the rules
# in `tree/timeouts.py`; one source's share in `tree/admission.py`, which asks `limits/sources.py`; the rates
# of datagrams in `transports/datagrams/port.py`. A new key needs a line in `plan/applies.py`, which says for
# which kinds of address it means something.
class Limits(Section):
    """How much an endpoint accepts, and for how long; a rate is also the size of its burst."""

    connections: Integer = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="How many connections may be open, on all stream addresses together; further ones wait.",
    )
    idle: OptionalDuration = Field(
        None,
        description="How long a peer that we are waiting for may send nothing. The connection ends up to an"
        " eighth of that later, at most 2 s. The default is the protocol's.",
        json_schema_extra=no_default,
    )
    stall: OptionalDuration = Field(
        30.0,
        description="How long a peer may take nothing of what is unsent before sockd closes the connection.",
    )
    unsent: Annotated[int, size(4096)] = Field(
        16 * 1024 * 1024,
        description="How many bytes may wait for a peer to read them. A longer answer is sent as well, while"
        " the peer takes 64 KiB of it within `stall`; what is written after it may only replace what the peer"
        " has taken. A protocol may have a smaller bound of its own.",
    )
    datagrams: OptionalRate = Field(
        None,
        description="How many datagrams are accepted from all peers together. The default is the protocol's.",
        json_schema_extra=no_default,
    )
    datagrams_per_source: OptionalRate = Field(
        None,
        description="How many datagrams are accepted from one source. The default is the protocol's.",
        json_schema_extra=no_default,
    )
    connections_per_source: Annotated[int | None, number(1, 1_000_000, off=True)] = Field(
        None,
        description="How many connections one source may have open: an IPv4 address, an IPv6 /64, a user on"
        " Unix sockets.",
    )
    connect_rate: OptionalRate = Field(
        None, description="How many new connections are accepted from one source."
    )
    handshake: Duration = Field(
        10.0, description="How long a TLS handshake may take, a PROXY header before it included."
    )
    first_byte: OptionalDuration = Field(
        None, description="How long a new connection may stay open before its first byte."
    )
    lifetime: OptionalDuration = Field(
        None, description="How long a connection may last, however busy it is."
    )
    exempt: SomeNetworksOrOff = Field(
        None, description="Networks whose addresses the limits of one source do not apply to."
    )


# How many connections there are for each that is logged: `all` is 1, `1/100` is 100, `refused` is 0, `off`
# is None.
_SHARES = {"all": 1, "refused": 0}
_SHARE = "1/([1-9][0-9]{0,5})"


def _read_share(value: object, _info: object) -> int:
    if isinstance(value, int):
        return value
    text = str(value)
    found = re.fullmatch(_SHARE, text) if read_as(value) == "string" else None
    if found:
        return int(found[1])
    if text not in _SHARES:
        raise wrong(f"{shown(text)} says nothing about connections: write all, refused, or 1/100")
    return _SHARES[text]


def _write_share(share: int) -> str:
    return next((word for word, number in _SHARES.items() if number == share), f"1/{share}")


Share = Annotated[
    int | None,
    Form(
        _read_share,
        _write_share,
        {
            "title": "all, refused, or a share like 1/100",
            "type": "string",
            "pattern": f"^(?:all|refused|{_SHARE})$",
        },
        off=True,
    ),
]


class EndpointLog(Section):
    """What is logged of an endpoint's connections. What failed is always logged."""

    connections: Share = Field(
        1,
        description="Which have a line: `all`; `1/100`, one in a hundred and those that were refused; only"
        " the `refused`; or `off`, none.",
    )


class Restart(Section):
    """When a failed service is tried again: after `delay`, doubled each time up to `max_delay`.

    Chance takes up to a quarter off each delay, so that what failed together is not tried together.
    """

    delay: Annotated[float, duration(0.01, 3600)] = Field(
        0.5, description="The time before the first new attempt."
    )
    max_delay: Annotated[float, duration(0.01, 86400)] = Field(
        30.0, description="The longest time between attempts; not less than `delay`."
    )


class Required(Section):
    """The daemon stops, with status 69, if this endpoint does not run for a time."""

    give_up_after: Annotated[float, duration(0.01)] = Field(
        GIVE_UP_AFTER, description="How long the endpoint may fail to run."
    )


class Listen(Section):
    """One address with settings of its own."""

    address: Where = Field(description="The address, like `tcp://127.0.0.1:7007`.")
    tls: Boolean = Field(
        False,
        description="Speak TLS on a socket that systemd passes; other addresses have `tls://HOST:PORT`.",
    )
    socket: Socket = Field(Socket(), description="What is set on this address's socket.")


def _item(value: object) -> Listen:
    return value if isinstance(value, Listen) else Listen(address=value)


def _not_empty(value: tuple[Listen, ...]) -> tuple[Listen, ...]:
    if not value:
        raise wrong("at least one address is needed here")
    return value


def _items(value: object) -> tuple[Listen, ...]:
    return value if isinstance(value, tuple) else (value,)


_Item = Annotated[
    Annotated[Where, Tag("<short>")] | Annotated[Listen, Tag("<long>")],
    Discriminator(_short_or_long),
    AfterValidator(_item),
]
_LISTENERS = Annotated[
    Annotated[_Item, Tag("<one>")]
    | Annotated[
        tuple[_Item, ...], AfterValidator(_not_empty), Field(json_schema_extra={"minItems": 1}), Tag("<many>")
    ],
    Discriminator(_one_or_many),
    AfterValidator(_items),
]


def _required(value: Required | bool) -> Required | None:
    if isinstance(value, Required):
        return value
    return Required() if value else None


if TYPE_CHECKING:
    Listeners = tuple[Listen, ...]
    Requirement = Required | None
else:  # the forms that may be written: their validators return the types above
    Listeners = _LISTENERS
    Requirement = Annotated[
        Annotated[Boolean, Tag("<short>")] | Annotated[Required, Tag("<long>")],
        Discriminator(_short_or_long),
        AfterValidator(_required),
    ]


class Endpoint(Section):
    """One protocol and the addresses on which it is served."""

    enabled: Boolean = Field(True, description="If `false`, the endpoint is checked but not run.")
    listen: Listeners = Field(
        description="Where it listens: addresses, or mappings with more about an address.",
        json_schema_extra={"title": "address, keys, or a list of them"},
    )
    socket: Socket = Field(
        Socket(), description="What is set on the sockets of all addresses of this endpoint."
    )
    tls: Tls = Field(Tls(), description="Certificates and keys of the endpoint's TLS addresses.")
    access: Access = Field(Access(), description="Which peers may use the endpoint.")
    proxy_protocol: ProxyProtocol = Field(
        NO_PROXIES,
        description="Proxies in front of the TCP and TLS addresses that name their clients.",
    )
    protocol: Text = Field(description="The protocol's name, as `sockd protocols` shows it.")
    # Any: only the protocol's own model knows their types.
    options: Annotated[Mapping[str, Any], BeforeValidator(_read_options)] = Field(
        {}, description="The options of the protocol."
    )
    limits: Limits = Field(Limits(), description="How much the endpoint accepts, and for how long.")
    restart: Restart = Field(Restart(), description="When a failed listener or protocol is tried again.")
    log: EndpointLog = Field(EndpointLog(), description="What is logged of the connections.")
    required: Requirement = Field(
        None,
        description="Whether the daemon stops, with status 69, if the endpoint does not run for a time;"
        " `true` means `{give_up_after: 1m}`.",
        json_schema_extra={"default": False, "title": "true, false or keys"},
    )
