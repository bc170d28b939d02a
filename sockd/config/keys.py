"""Says what was probably meant by a key that is unknown where it is written.

In this order: it is indented too little, and belongs to the key above that has no value; it is the word of
another program for a key of this file; it is a key of another place in this file, or an option of the
endpoint's protocol; it is misspelt.
"""

import re
from collections.abc import Callable, Collection, Iterator
from typing import get_args

from pydantic import BaseModel

from sockd.base import addresses
from sockd.base.spelling import offer
from sockd.config.file import Main
from sockd.config.model import Endpoint
from sockd.config.values import Mapping, Scalar, read_as, shown

# The names of the options of a protocol, as far as it is known.
OptionsOf = Callable[[str], Collection[str]]

# A step that stands for the name of an endpoint, in the paths of `_places`.
_NAME = "NAME"
_ENDPOINT = ("endpoints", _NAME)

# The words of other programs' files for what an endpoint needs, by what to write here.
_WORDS = {
    "listen": "address addresses bind host hostname interface ip listener listeners listening port ports"
    " server_port socket_path uri url",
    "protocol": "application handler program proto server service socket_type type",
    "limits: {connections: 100}": "instances max_clients max_connections maxclients maxconn",
    "limits: {connect_rate: 20/s}": "cps max_rate rate rate_limit",
    "limits: {connections_per_source: 10}": "max_per_ip per_ip per_source",
    "limits: {idle: 30s}": "idle_timeout timeout",
    "access: {allow: 192.0.2.0/24}": "acl allow_from only_from whitelist",
    "access: {deny: 192.0.2.0/24}": "blacklist deny_from no_access",
    "enabled: false, or enabled: true": "active disable disabled",
    "tls: {certificate: FILE, key: FILE}": "cert certs ssl",
    "proxy_protocol: {from: 192.0.2.1}": "accept_proxy proxy send_proxy",
    "a comment: # and then text": "comment description",
    "the name as the key above, with the other keys below it": "name",
    "tcp:// or tls:// in listen; the mode of a socket file is socket: {mode: 0660}": "mode",
    "socket: {user: NAME} for a socket file; sockd runs as the user of --uid, or of its unit's User=": "owner"
    " user uid",
}
# The same for the whole file.
_WORDS_AT_TOP = {
    "endpoints, and a name for each below it": "backend frontend listeners server servers service services",
    "daemon": "global settings",
    "daemon: {log: {level: info}}": "logfile logging",
    "leave it out: sockd runs as the user of --uid, or of its unit's User=": "gid group uid user",
    "leave it out: it is twistd's option --pidfile=FILE": "pidfile",
}


def _by_word(words: dict[str, str]) -> dict[str, str]:
    return {word: meant for meant, text in words.items() for word in text.split()}


def place(steps: tuple[str | int, ...]) -> tuple[str, ...]:
    """The path of a mapping without what there may be many of: names of endpoints, numbers of a list."""
    words = [str(step) for step in steps if not isinstance(step, int)]
    return tuple(
        _NAME if number == 1 and words[0] == "endpoints" else word for number, word in enumerate(words)
    )


def of_model(model: type[BaseModel]) -> list[str]:
    """The keys that a mapping of this model may have."""
    return [field.alias or name for name, field in model.model_fields.items()]


def below(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model of the mapping under this key; None where there is none."""
    for name, field in model.model_fields.items():
        if key == (field.alias or name):
            return next(_models(field.annotation), None)
    return None


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def like_endpoints(mapping: Mapping) -> list[str]:
    """The keys of a mapping whose values look like endpoints."""
    fields = set(of_model(Endpoint))
    return [
        key for key, value in mapping.items() if isinstance(value, Mapping) and not fields.isdisjoint(value)
    ]


def no_endpoints(value: object) -> str:
    """The text of the problem that this value, which is no mapping, is where the endpoints belong."""
    if read_as(value) == "null":
        return "no endpoint is below: write its name, indented, and its keys indented below that"
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, Mapping) and isinstance(first.get("name"), str):
        name = first["name"]
        return f"this is a list: the name of an endpoint is its key, so write '{name}:' for '- name: {name}'"
    if isinstance(first, Mapping) and like_endpoints(first):
        return f"this is a list: leave out the '-' before '{like_endpoints(first)[0]}'"
    if isinstance(value, list):
        return "this is a list: write the name of each endpoint and a ':', and its keys below that"
    return f"the names of endpoints are expected below, not {shown(str(value))}"


def outdented(
    mapping: Mapping, own: Collection[str], under: Callable[[str], Collection[str]]
) -> dict[str, str]:
    """The keys of a mapping that belong to a key above them which has no value, each with that key.

    `own` are the keys that the mapping may have, and `under` says which may be below one of them.
    """
    found: dict[str, str] = {}
    parent = ""
    for key, value in mapping.items():
        if read_as(value) == "null":
            parent = key
        elif parent and key not in own and key in under(parent):
            found[key] = parent
        elif key in own:
            parent = ""
    return found


def indent(key: str, parent: str) -> str:
    """What to do with a key that is indented too little."""
    return f"'{key}' belongs to '{parent}' above: indent this line more than that one"


def unknown(key: str, value: object, at: tuple[str, ...], known: list[str], options: Collection[str]) -> str:
    """The text of the problem that a key is unknown at this path, whose mapping may have the `known` ones.

    `options` are those of the protocol of the endpoint, if the path is an endpoint's.
    """
    return f"unknown key {shown(key)}{_meant(key, value, at, known, options)}"


def _meant(key: str, value: object, at: tuple[str, ...], known: list[str], options: Collection[str]) -> str:
    word = key.lower().replace("-", "_")
    if word in known:
        return f", did you mean '{word}'?"
    if at == _ENDPOINT and word in options:
        return ": it is an option of the protocol, write it under 'options'"
    words = _WORDS if at == _ENDPOINT else _WORDS_AT_TOP if not at else {}
    foreign = _by_word(words).get(word)
    if foreign == "listen":
        return f": write {_line('listen', value)}"
    if at == (*_ENDPOINT, "listen") and word in _WORDS["listen"].split():
        return f": write {_line('address', value)}"
    if foreign == "protocol":
        return f": write {_protocol(value)}"
    if foreign:
        if isinstance(value, Scalar) and value.isdecimal():
            foreign = re.sub("[0-9]+(?=}$)", value, foreign)  # in place of the example
        return f": {'' if foreign.startswith('leave') else 'write '}{foreign}"
    if not at and isinstance(value, Mapping) and not value.keys().isdisjoint(of_model(Endpoint)):
        return ": if it is an endpoint, indent it below 'endpoints'"
    elsewhere = sorted((_distance(at, path), path) for path in _places().get(word, ()))
    if elsewhere:
        return f": it belongs {_way(at, elsewhere[0][1])}"
    return offer(key, known)


def _line(key: str, value: object) -> str:
    """The line that has an address, with that of the value if it is one."""
    if isinstance(value, Scalar):
        try:
            return f"{key}: {addresses.meant(str(value))}"
        except addresses.AddressError:
            pass
    return f"{key}: tcp://127.0.0.1:7007, or another address"


def _protocol(value: object) -> str:
    name = str(value) if isinstance(value, Scalar) and re.fullmatch("[a-z][a-z-]{0,20}", value) else "NAME"
    return f"protocol: {name}"


def _places() -> dict[str, list[tuple[str, ...]]]:
    """Where in the file each key may be."""
    found: dict[str, list[tuple[str, ...]]] = {}
    open_: list[tuple[tuple[str, ...], type[BaseModel]]] = [((), Main)]
    while open_:
        path, model = open_.pop()
        for name, field in model.model_fields.items():
            key = field.alias or name
            found.setdefault(key, []).append(path)
            below_it = (*path, key)
            open_ += [
                ((*below_it, _NAME) if inner is Endpoint else below_it, inner)
                for inner in _models(field.annotation)
            ]
    return found


def _distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Steps from one path to the other, up and down; what is shared by all endpoints is far."""
    shared = sum(1 for _ in _shared(one, other))
    return len(one) + len(other) - 2 * shared + (10 if other[:1] == ("defaults",) != one[:1] else 0)


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> Iterator[str]:
    for left, right in zip(one, other, strict=False):
        if left != right:
            return
        yield left


def _way(at: tuple[str, ...], place: tuple[str, ...]) -> str:
    """How to get from one mapping of the file to another."""
    if place[: len(at)] == at and len(place) > len(at):
        steps = ["the name of an endpoint" if step == _NAME else f"'{step}'" for step in place[len(at) :]]
        return f"under {', then '.join(steps)}"
    if place == _ENDPOINT:
        return f"to the endpoint, not under '{at[-1]}'" if at[:2] == _ENDPOINT else "to an endpoint"
    return f"under '{'.'.join(place)}'" if place else "at the left margin of the file"
