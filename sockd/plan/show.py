"""Prints a plan: as a file that gives the same plan, and as a table of what will run."""

import json
import re
from dataclasses import fields
from typing import Any

import yaml

from sockd.base.addresses import Kind
from sockd.base.errors import Place
from sockd.base.tables import aligned
from sockd.base.text import visible_json
from sockd.base.units import counted, format_duration
from sockd.config import model
from sockd.config.form import OFF
from sockd.config.guards import Tls
from sockd.config.types import write_networks
from sockd.config.values import Scalar, read_as
from sockd.plan import applies
from sockd.plan.build import usual_limits
from sockd.plan.plan import EndpointPlan, Limits, ListenerPlan, Plan, TlsPlan
from sockd.protocols.contract import Options
from sockd.transports.sockets.options import SocketOptions

# Keys and values as the file has them, of which mappings and lists hold others. Any: whatever PyYAML writes.
Value = Any
Tree = dict[str, Value]


# The value of an option whose type has no form as text.
NOT_SHOWN = "(not shown)"


def daemon_tree(plan: Plan) -> Tree:
    """The settings of the daemon in the file's words."""
    tree: Tree = {"control": OFF if plan.control is None else plan.control.path}
    if plan.control_group is not None:
        tree["control_group"] = plan.control_group
    log = {"level": plan.log.level, "format": plan.log.format, "to": plan.log.to}
    return tree | {"drain": format_duration(plan.drain), "log": log}


def required_tree(give_up_after: float | None) -> Value:
    """`required` in the file's words."""
    return give_up_after is not None and {"give_up_after": format_duration(give_up_after)}


def limits_tree(limits: Limits) -> Tree:
    """The limits in the file's words."""
    values = {field.name: getattr(limits, field.name) for field in fields(limits)}
    return model.Limits(**values | {"exempt": limits.exempt or None}).model_dump(mode="json")


def socket_tree(socket: SocketOptions) -> Tree:
    """The socket options in the file's words."""
    keepalive = socket.keepalive and model.Keepalive(
        idle=socket.keepalive.idle, interval=socket.keepalive.interval, count=socket.keepalive.count
    )
    values = {field.name: getattr(socket, field.name) for field in fields(socket)}
    tree = model.Socket(**values | {"keepalive": keepalive}).model_dump(mode="json")
    return {key: OFF if value is None else value for key, value in tree.items()}


def options_tree(options: Options, *, whole: bool) -> Tree:
    """The options of a protocol in the types of JSON: all of them, or those that aren't the defaults."""
    tree: Tree = {}
    for name, field in type(options).model_fields.items():
        try:
            tree |= options.model_dump(mode="json", by_alias=True, exclude_defaults=not whole, include={name})
        except Exception:  # noqa: BLE001 - a third party's type
            tree[field.alias or name] = NOT_SHOWN
    return tree


def guards_tree(endpoint: EndpointPlan) -> Tree:
    """`tls`, `access` and `proxy_protocol` in the file's words."""
    tree: Tree = {}
    if endpoint.tls is not None:
        tree["tls"] = tls_tree(endpoint.tls)
    if endpoint.access is not None:
        access = endpoint.access
        lists = {
            "allow": write_networks(access.allow),
            "deny": write_networks(access.deny),
            "users": sorted(access.users),
            "groups": sorted(access.groups),
        }
        tree["access"] = {key: value for key, value in lists.items() if value}
    if endpoint.proxy_from:
        tree["proxy_protocol"] = {"from": write_networks(endpoint.proxy_from)}
    return tree


def tls_tree(tls: TlsPlan) -> Tree:
    """`tls` in the file's words: certificates and keys by their paths."""
    pairs = [{"certificate": str(one.file), "key": str(one.key_file)} for one in tls.certificates]
    tree: Tree = dict(pairs[0]) if not pairs[1:] else {"certificates": pairs}
    if tls.names:
        tree["names"] = list(tls.names)
    if tls.client_ca_file is not None:
        tree["client_ca"] = str(tls.client_ca_file)
    if tls.client_names:
        tree["client_names"] = list(tls.client_names)
    if tls.recheck is not None:
        tree["recheck"] = format_duration(tls.recheck)
    if tls.alpn:
        tree["alpn"] = list(tls.alpn)
    return tree | {"min_version": tls.min_version}


_HARMLESS = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./:@*\[\]+-]*")


class _Dumper(yaml.SafeDumper):
    """Writes YAML in which text has quotes only where YAML 1.2 would read something else."""

    # Any: as PyYAML declares it.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)  # lists are indented below their key


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_STRING, text, None if _plain(text) else '"')


def _plain(text: str) -> bool:
    """Whether YAML reads this text as it is without quotes."""
    return bool(_HARMLESS.fullmatch(text)) and read_as(Scalar(text, Place(""))) == "string"


def _word(dumper: _Dumper, value: float | None) -> yaml.ScalarNode:
    return dumper.represent_scalar(_STRING, json.dumps(value))


_STRING = "tag:yaml.org,2002:str"
_Dumper.add_representer(str, _text)
for _type in (bool, int, float, type(None)):
    _Dumper.add_representer(_type, _word)


def render(plan: Plan) -> str:
    """A file that gives an equal plan when it is read on the same machine; nothing in it is inherited."""
    tree = {
        "daemon": daemon_tree(plan),
        "endpoints": {
            endpoint.name: _endpoint(endpoint, enabled=enabled)
            for enabled, endpoints in ((True, plan.endpoints), (False, plan.disabled))
            for endpoint in endpoints
        },
    }
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    # Unsafe characters stand in double quotes only, where YAML takes JSON's escapes.
    return "\n".join(map(visible_json, text.split("\n")))


def table(plan: Plan, now: float, width: int | None = None) -> str:
    """What will run, a line for each address, with all that differs from the defaults; `now` is wall clock.

    What all addresses of an endpoint have in common is in the first of its lines. `width` is the terminal's.
    """
    rows = [("endpoint", "address", "protocol", "differs from the default")]
    for endpoint in (*plan.endpoints, *plan.disabled):
        name, protocol = endpoint.name, endpoint.protocol
        unusual = [] if endpoint in plan.endpoints else ["disabled"]
        shared = _shared_socket(endpoint)
        unusual += _flat(_unusual(endpoint) | shared) + _certificates(endpoint.tls, now)
        for listener in endpoint.listeners:
            own = {key: value for key, value in _unusual_socket(listener).items() if key not in shared}
            speaks = ["tls: true"] if _begins_tls(listener) else []
            rows.append((name, str(listener.address), protocol, ", ".join([*unusual, *speaks, *_flat(own)])))
            name, protocol, unusual = "", "", []
    return aligned(rows, width)


def _certificates(tls: TlsPlan | None, now: float) -> list[str]:
    """The names that the certificates are good for, and the days that are left of each."""
    words = []
    for one in () if tls is None else tls.certificates:
        days = int((one.not_after - now) // 86400)
        names = in_line(list(one.names)) if one.names[1:] else in_line("".join(one.names) or str(one.file))
        words.append(f"certificate: {names} ({counted(days, 'day')} left)")
    return words


def _endpoint(endpoint: EndpointPlan, *, enabled: bool) -> Tree:
    tree: Tree = {} if enabled else {"enabled": False}
    tree["listen"] = [_listener(listener) for listener in endpoint.listeners]
    tree["protocol"] = endpoint.protocol
    options = options_tree(endpoint.options, whole=False)
    if options:
        tree["options"] = options
    tree |= guards_tree(endpoint)
    tree["limits"] = _limits(endpoint)
    tree["restart"] = endpoint.restart.model_dump(mode="json")
    tree["log"] = endpoint.log.model_dump(mode="json")
    if endpoint.give_up_after is not None:
        tree["required"] = required_tree(endpoint.give_up_after)
    return tree


def _listener(listener: ListenerPlan) -> Value:
    tree: Tree = {"address": str(listener.address)}
    if _begins_tls(listener):
        tree["tls"] = True
    socket = _unusual_socket(listener)
    if socket:
        tree["socket"] = socket
    return tree if tree.keys() > {"address"} else tree["address"]


def _begins_tls(listener: ListenerPlan) -> bool:
    """Whether TLS is spoken on an address whose kind doesn't say so."""
    return listener.tls and listener.address.kind is not Kind.TLS


_GUARDS = (
    *(("tls", key) for key in ("client_ca", "client_names", "alpn", "min_version")),
    *(("access", key) for key in ("allow", "deny", "users", "groups")),
    ("proxy_protocol", "from"),
)


def _unusual(endpoint: EndpointPlan) -> Tree:
    """What of an endpoint differs from the defaults."""
    tree = _endpoint(endpoint, enabled=True)
    limits = usual_limits(endpoint.specification).model_dump(mode="json")
    restart = model.Restart().model_dump(mode="json")
    log = model.EndpointLog().model_dump(mode="json")
    unusual = dict(tree.get("options", {}))
    unusual |= _different(tree["limits"], limits)
    unusual |= {f"restart.{key}": value for key, value in _different(tree["restart"], restart).items()}
    unusual |= {f"log.{key}": value for key, value in _different(tree["log"], log).items()}
    if tree.get("tls", {}).get("min_version") == Tls().min_version:
        del tree["tls"]["min_version"]
    for section, key in _GUARDS:
        if key in tree.get(section, {}):
            unusual[f"{section}.{key}"] = tree[section][key]
    if "required" in tree:
        unusual["required"] = tree["required"]["give_up_after"]
    return unusual


def _limits(endpoint: EndpointPlan) -> Tree:
    addresses = [listener.address for listener in endpoint.listeners]
    written = limits_tree(endpoint.limits)
    return {key: value for key, value in written.items() if applies.limit(key, addresses)}


def _unusual_socket(listener: ListenerPlan) -> Tree:
    written, usual = socket_tree(listener.socket), _USUAL_SOCKET
    unusual = _different(written, usual)
    if listener.socket.keepalive and "keepalive" in unusual:
        unusual["keepalive"] = _different(written["keepalive"], usual["keepalive"])
    return unusual


_USUAL_SOCKET: Tree = {
    key: OFF if value is None else value for key, value in model.Socket().model_dump(mode="json").items()
}


def _different(tree: Tree, usual: Tree) -> Tree:
    return {key: value for key, value in tree.items() if value != usual[key]}


def _shared_socket(endpoint: EndpointPlan) -> Tree:
    """Options that differ from the defaults, and are the same on all of several sockets that have them."""
    shared = {}
    for key in model.Socket.model_fields:
        sockets = [one for one in endpoint.listeners if applies.socket_key(key, one.address)]
        values = [_unusual_socket(one).get(key) for one in sockets]
        if values[1:] and values[0] is not None and values.count(values[0]) == len(values):
            shared[key] = values[0]
    return shared


def _flat(tree: Tree) -> list[str]:
    """`key: value` for each, on one line, in characters that every terminal shows."""
    return [_line({key: value})[1:-1] for key, value in tree.items()]


def in_line(value: Value) -> str:
    """A value on one line, in characters that every terminal shows."""
    if isinstance(value, str) and _plain(value):
        return value  # a reload compares many, and the dumper is slow
    return _line([value])[1:-1]


def _line(value: Value) -> str:
    # Any: each has a type of its own.
    form: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "width": float("inf")}
    return str(yaml.dump(value, Dumper=_Dumper, **form)).strip()
