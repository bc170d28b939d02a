"""Who is meant by a request to kick: connections by ids, addresses, networks, users and names."""

import os
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from sockd.base.peers import Peer, unmapped
from sockd.control.language import Refused
from sockd.limits.access import packed

_NAME = "name:"  # before a name that looks like something else
_USER = re.compile("uid=([0-9]{1,10})")
# A peer as `sockd connections` shows it: an address and a port, or a user and a process.
_PEER = re.compile(r"[0-9.]+:[0-9]+|\[[0-9A-Fa-f:.]+(?:%[^\]]*)?\]:[0-9]+|uid=[0-9]+,pid=[0-9]+")


class Who:
    """What a list of words means; Refused where one of them is no network."""

    def __init__(self, words: Iterable[str]) -> None:
        self._ids: dict[int, str] = {}
        self._exact: dict[str, str] = {}  # the texts of peers
        self._users: dict[int, str] = {}
        self._names: dict[str, str] = {}
        self._networks: list[tuple[int, int, int, str]] = []  # bytes of an address, host bits, the rest, word
        for word in words:
            self._add(word)

    def _add(self, word: str) -> None:
        if word.startswith(_NAME):
            self._names[word.removeprefix(_NAME)] = word
        elif word.isascii() and word.isdecimal():
            self._ids[int(word)] = word
        elif user := _USER.fullmatch(word):
            self._users[int(user[1])] = word
        elif _PEER.fullmatch(word):
            self._exact[word] = word
        elif (network := _network(word)) is not None:
            rest = network.max_prefixlen - network.prefixlen
            size = network.max_prefixlen // 8
            self._networks.append((size, rest, int(network.network_address) >> rest, word))
        else:
            self._names[word] = word

    def meant(self, number: int, peer: Peer, name: str) -> list[str]:
        """The words that mean the connection with this number, peer and name."""
        found = [self._ids.get(number), self._exact.get(peer.text)]
        if name:
            found.append(self._names.get(name))
        if peer.local:
            if peer.uid is not None:
                found.append(self._users.get(peer.uid))
        elif self._networks:
            address = packed(peer.host)
            there = int.from_bytes(address, "big")
            found += [
                word
                for size, rest, number_of_network, word in self._networks
                if size == len(address) and there >> rest == number_of_network
            ]
        return [word for word in found if word is not None]


def _network(word: str) -> IPv4Network | IPv6Network | None:
    """The network, or the one address, that a word is; None where it is neither."""
    if "/" in word:
        try:
            return ip_network(word)
        except ValueError as error:
            raise Refused(
                os.EX_USAGE, f"{word[:100]!r} is no network: {error}; a name is written as {_NAME}NAME"
            ) from None
    try:
        return ip_network(unmapped(str(ip_address(word.strip("[]").partition("%")[0]))))
    except ValueError:
        return None
