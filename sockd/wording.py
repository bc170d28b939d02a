"""Parts of a plan in the file's words, as trees of keys and values."""

from dataclasses import fields
from typing import Any

from sockd.config import model
from sockd.config.types import OFF, write_networks
from sockd.plan import EndpointPlan, Limits, Plan, Restart, TlsPlan
from sockd.transports.options import SocketOptions
from sockd.units import format_duration


def daemon_tree(plan: Plan) -> dict[str, Any]:
    """The settings of the daemon in the file's words."""
    tree: dict[str, Any] = {"control": OFF if plan.control is None else plan.control.path}
    if plan.control_group is not None:
        tree["control_group"] = plan.control_group
    log = {"level": plan.log.level, "format": plan.log.format}
    return tree | {"drain": format_duration(plan.drain), "log": log}


def restart_tree(restart: Restart) -> dict[str, Any]:
    """Times of restarting in the file's words."""
    return model.Restart(delay=restart.delay, max_delay=restart.max_delay).model_dump(mode="json")


def required_tree(give_up_after: float | None) -> Any:
    """`required` in the file's words."""
    return give_up_after is not None and {"give_up_after": format_duration(give_up_after)}


def limits_tree(limits: Limits) -> dict[str, Any]:
    """The limits in the file's words."""
    values = {field.name: getattr(limits, field.name) for field in fields(limits)}
    return model.Limits(**values | {"exempt": limits.exempt or None}).model_dump(mode="json")


def socket_tree(socket: SocketOptions) -> dict[str, Any]:
    """The socket options in the file's words."""
    keepalive = socket.keepalive and model.Keepalive(
        idle=socket.keepalive.idle, interval=socket.keepalive.interval, count=socket.keepalive.count
    )
    values = {field.name: getattr(socket, field.name) for field in fields(socket)}
    tree = model.Socket(**values | {"keepalive": keepalive}).model_dump(mode="json")
    return {key: OFF if value is None else value for key, value in tree.items()}


def guards_tree(endpoint: EndpointPlan) -> dict[str, Any]:
    """`tls`, `access` and `proxy_protocol` in the file's words."""
    tree: dict[str, Any] = {}
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


def tls_tree(tls: TlsPlan) -> dict[str, Any]:
    """`tls` in the file's words: of the files, only where they are."""
    pairs = [{"certificate": str(one.file), "key": str(one.key_file)} for one in tls.certificates]
    tree: dict[str, Any] = dict(pairs[0]) if not pairs[1:] else {"certificates": pairs}
    if tls.names:
        tree["names"] = list(tls.names)
    if tls.client_ca_file is not None:
        tree["client_ca"] = str(tls.client_ca_file)
    if tls.client_names:
        tree["client_names"] = list(tls.client_names)
    return tree | {"min_version": tls.min_version}
