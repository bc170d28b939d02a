"""What may stand in `tls`, `access` and `proxy_protocol`: who may connect, and who proves what."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from sockd.config.form import Section, no_default
from sockd.config.hosts import Accounts, Names, PeerNames, SomeNetworks, SomeNetworksOrOff
from sockd.config.types import FilePath, FilePathIfAny, FilePathOrOff, Version, wrong


class Certificate(Section):
    """A certificate and its key."""

    certificate: FilePath = Field(
        description="A PEM file: the certificate, then those of its issuers; the root may be missing."
    )
    key: FilePath = Field(
        description="A PEM file with the certificate's key, not encrypted, that others can't read."
    )


def _not_empty(value: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    if not value:
        raise wrong("at least one certificate is needed here")
    return value


def _at_least_one(schema: dict[str, Any]) -> None:
    no_default(schema)
    schema["minItems"] = 1


class Tls(Section):
    """What TLS addresses show to peers, and ask of them. Relative paths are beside the file."""

    certificate: FilePathIfAny = Field(
        None,
        description="A PEM file: the certificate, then those of its issuers; the root may be missing.",
        json_schema_extra=no_default,
    )
    key: FilePathIfAny = Field(
        None,
        description="A PEM file with the certificate's key, not encrypted, that others can't read.",
        json_schema_extra=no_default,
    )
    certificates: Annotated[tuple[Certificate, ...], AfterValidator(_not_empty)] = Field(
        (),
        description="Several, of which a peer gets the first that is good for the server's name that it asks"
        " for, else the first of all. In place of `certificate` and `key`.",
        json_schema_extra=_at_least_one,
    )
    names: Names = Field(
        None,
        description="DNS names and IP addresses for all of which a certificate must be good.",
    )
    client_ca: FilePathOrOff = Field(
        None,
        description="A PEM file of authorities: peers must show a certificate of theirs. `off`: of nobody's.",
    )
    client_names: PeerNames = Field(
        None,
        description="DNS names, IP addresses or URIs, for one of which the peer's certificate must be; `off`"
        " takes any that `client_ca` vouches for.",
    )
    min_version: Version = Field("1.2", description="The oldest version of TLS that is spoken: 1.2 or 1.3.")


class Access(Section):
    """Who may use the endpoint: networks for IP, users and groups for Unix sockets."""

    allow: SomeNetworksOrOff = Field(
        None, description="Who may, and nobody else; where `deny` holds a smaller network, that decides."
    )
    deny: SomeNetworksOrOff = Field(
        None, description="Who may not; where `allow` holds a smaller network, that decides."
    )
    users: Accounts = Field(
        None, description="Users who may, on Unix sockets, and nobody else but the members of `groups`."
    )
    groups: Accounts = Field(
        None, description="Groups whose members may, on Unix sockets, and nobody else but `users`."
    )


class ProxyProtocol(Section):
    """Proxies that say in a PROXY header, version 1 or 2, for whom they connect."""

    from_: SomeNetworks = Field(
        alias="from",
        description="Where the proxies are. Each of their connections must begin with the header, whose"
        " address then counts everywhere; from anyone else a header is refused.",
    )


NO_PROXIES = ProxyProtocol.model_construct(set(), **{"from": ()})
