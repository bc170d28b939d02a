"""Finds listeners that the kernel would not open next to each other."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from sockd.base.addresses import WILDCARDS, Address, overlap
from sockd.base.errors import Place


@dataclass(frozen=True)
class Claim:
    """An address that a listener wants, and where it is written."""

    address: Address
    shared: bool  # it sets `reuse_port`
    place: Place


@dataclass
class Claims:
    """The addresses that are wanted so far; a look-up takes as long however many there are."""

    _inet: dict[tuple[str, int], dict[str, list[Claim]]] = field(default_factory=dict)
    _named: dict[str, Claim] = field(default_factory=dict)

    def add(self, claim: Claim) -> Claim | None:
        """Note a claim, and return the earlier one that it conflicts with, if there is one."""
        if not claim.address.kind.inet:
            return self._add_named(claim)
        hosts = self._inet.setdefault((claim.address.kind.ports, claim.address.port), {})
        for other in _candidates(claim.address.host, hosts):
            if overlap(claim.address, other.address) and not (claim.shared and other.shared):
                return other
        hosts.setdefault(claim.address.host, []).append(claim)
        return None

    def _add_named(self, claim: Claim) -> Claim | None:
        address = claim.address
        has_file = address.kind.local and not address.abstract
        # Two names for one file are one address.
        name = os.path.realpath(address.path) if has_file else str(address)
        other = self._named.setdefault(name, claim)
        return None if other is claim else other


def _candidates(host: str, hosts: dict[str, list[Claim]]) -> Iterator[Claim]:
    for known in hosts if host in WILDCARDS else dict.fromkeys((host, *WILDCARDS)):
        # Of several that share, the first stands for all.
        yield from hosts.get(known, [])[:1]
