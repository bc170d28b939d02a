"""The reference page of the file, in Markdown, from its schema and a few words around it."""

from importlib.resources import files
from typing import Any

from sockd.protocols.registry import Registry
from sockd.reference.schema import MODE, schema

OURS = ("echo", "chat", "line-log")

_SECTIONS = {
    "The file": "",
    "`daemon`": "Daemon",
    "`daemon.log`": "Log",
    "`defaults`": "Defaults",
    "`endpoints.NAME`": "Endpoint",
    "An item of `listen`": "Listen",
    "`socket`": "Socket",
    "`socket.keepalive`": "Keepalive",
    "`tls`": "Tls",
    "An item of `tls.certificates`": "Certificate",
    "`access`": "Access",
    "`proxy_protocol`": "ProxyProtocol",
    "`limits`": "Limits",
    "`restart`": "Restart",
    "`required`": "Required",
}


def page(registry: Registry) -> str:
    """The whole page; of the installed protocols only our own."""
    tree = schema(registry)
    definitions = tree["$defs"]
    parts = [(files("sockd.reference") / "page.md").read_text(encoding="utf-8")]
    for title, name in _SECTIONS.items():
        section = definitions[name] if name else tree
        parts.append(f"## {title}\n\n{section['description']}\n")
        parts.append(_table(section))
    for name in OURS:
        parts.append(f"## Options of `{name}`\n\nSee [{name}](protocols/{name}.md).\n")
        parts.append(_table(definitions[f"{name}.options"]))
    return "\n".join(parts)


def _table(section: dict[str, Any]) -> str:
    lines = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    needed = section.get("required", [])
    for key, value in section["properties"].items():
        default = "required" if key in needed else _default(value)
        lines.append(f"| `{key}` | {_form(value)} | {default} | {value.get('description', '')} |")
    return "\n".join(lines) + "\n"


def _default(value: dict[str, Any]) -> str:
    if "default" not in value or value["default"] == []:
        return ""
    default = value["default"]
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return " ".join(f"`{item}`" for item in default)
    return f"`{default}`" if default != "" else "empty"


def _form(value: dict[str, Any]) -> str:
    """What may be written, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return "file mode" if name == MODE else "keys"
    if "title" in value and "properties" not in value:
        return str(value["title"])
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    for choice in ("anyOf", "oneOf"):
        if choice in value:
            return " or ".join(dict.fromkeys(_form(one) for one in value[choice]))
    match value.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            bounds = (value.get("minimum"), value.get("maximum"))
            return "whole number" if None in bounds else f"whole number, {bounds[0]} to {bounds[1]}"
        case "array":
            return f"list of {_form(value['items'])}"
        case "object":
            return "keys"
    return "text"
