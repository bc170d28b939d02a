"""The keys of `tls`, `access` and `proxy_protocol`: who may connect, and how both ends prove who they are."""

from typing import Annotated

from pydantic import AfterValidator, Field

from sockd.config.form import JsonSchema, Section, no_default, wrong
from sockd.config.hosts import (
    Accounts,
    Names,
    PeerNames,
    ProtocolNames,
    SomeNetworks,
    SomeNetworksOrOff,
)
from sockd.config.types import FilePath, FilePathIfAny, FilePathOrOff, OptionalDuration, Version


class Certificate(Section):
    """A certificate and its key."""

    certificate: FilePath = Field(
        description="A PEM file: the certificate, then those of its issuers; the root may be left out."
    )
    key: FilePath = Field(
        description="A PEM file with the certificate's key, not encrypted and not readable by others."
    )


def _not_empty(value: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    if not value:
        raise wrong("at least one certificate is needed here")
    return value


def _at_least_one(schema: JsonSchema) -> None:
    no_default(schema)
    schema["minItems"] = 1


class Tls(Section):
    """The certificates of TLS addresses, and what they ask of peers. Paths are relative to the file."""

    certificate: FilePathIfAny = Field(
        None,
        description="A PEM file: the certificate, then those of its issuers; the root may be left out.",
        json_schema_extra=no_default,
    )
    key: FilePathIfAny = Field(
        None,
        description="A PEM file with the certificate's key, not encrypted and not readable by others.",
        json_schema_extra=no_default,
    )
    certificates: Annotated[tuple[Certificate, ...], AfterValidator(_not_empty)] = Field(
        (),
        description="Several certificates, in place of `certificate` and `key`. A peer gets the first that is"
        " valid for the server name that it asks for, else the first of all.",
        json_schema_extra=_at_least_one,
    )
    names: Names = Field(
        None,
        description="DNS names and IP addresses, each of which a certificate must be valid for.",
    )
    client_ca: FilePathOrOff = Field(
        None,
        description="A PEM file of authorities: peers must show a certificate by one of them. `off`: none.",
    )
    client_names: PeerNames = Field(
        None,
        description="DNS names, IP addresses or URIs, one of which the peer's certificate must be valid for;"
        " `off`: any certificate by `client_ca`.",
    )
    recheck: OptionalDuration = Field(
        None,
        description="How often the certificates of connected clients are checked again. A connection is"
        " closed if its client's has expired, or is no longer allowed after a reload. `off`: never.",
    )
    alpn: ProtocolNames = Field(
        None,
        description="The protocols to agree on with peers (ALPN), the most wanted first, such as `[h2,"
        " http/1.1]`. `off`: what the hosted protocol itself speaks.",
    )
    min_version: Version = Field("1.2", description="The oldest version of TLS to accept: 1.2 or 1.3.")


class Access(Section):
    """Which peers may use the endpoint: networks for IP, users and groups for Unix sockets."""

    allow: SomeNetworksOrOff = Field(
        None, description="Networks that may connect, and no others; a smaller network in `deny` decides."
    )
    deny: SomeNetworksOrOff = Field(
        None, description="Networks that may not connect; a smaller network in `allow` decides."
    )
    users: Accounts = Field(
        None, description="Users that may connect to Unix sockets, and no others but members of `groups`."
    )
    groups: Accounts = Field(
        None, description="Groups whose members may connect to Unix sockets, and no others but `users`."
    )


class ProxyProtocol(Section):
    """Proxies that name their client in a PROXY header, version 1 or 2."""

    from_: SomeNetworks = Field(
        alias="from",
        description="The networks of the proxies. Each connection from there must begin with the header,"
        " whose address then counts everywhere; a header from elsewhere is refused.",
    )


NO_PROXIES = ProxyProtocol.model_construct(set(), **{"from": ()})
