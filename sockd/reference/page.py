"""Writes the page on the configuration file, in Markdown, from its schema and an introduction (page.md)."""

from importlib.resources import files

from sockd.config.form import JsonSchema
from sockd.protocols.registry import Registry
from sockd.reference.schema import MODE, schema

PROTOCOLS = ("echo", "chat", "line-log", "factory")

# The headings of the page, each with the name of its section in the schema; the empty name is the whole file.
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
    "`log`": "EndpointLog",
}


def page(registry: Registry) -> str:
    """The whole page, with the options of the protocols that come with sockd."""
    tree = schema(registry)
    definitions = tree["$defs"]
    parts = [(files("sockd.reference") / "page.md").read_text(encoding="utf-8")]
    for title, name in _SECTIONS.items():
        section = definitions[name] if name else tree
        parts.append(f"## {title}\n\n{section['description']}\n")
        parts.append(_table(section))
    for name in PROTOCOLS:
        parts.append(f"## Options of `{name}`\n\nSee [{name}](protocols/{name}.md).\n")
        parts.append(_table(definitions[f"{name}.options"]))
    return "\n".join(parts)


def _table(section: JsonSchema) -> str:
    lines = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    needed = section.get("required", [])
    for key, value in section["properties"].items():
        default = "required" if key in needed else _default(value)
        lines.append(f"| `{key}` | {in_words(value)} | {default} | {value.get('description', '')} |")
    return "\n".join(lines) + "\n"


def _default(value: JsonSchema) -> str:
    if "default" not in value or value["default"] == []:
        return ""
    default = value["default"]
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return " ".join(f"`{item}`" for item in default)
    return f"`{default}`" if default != "" else "empty"


def in_words(value: JsonSchema) -> str:
    """What may be written as this value, in words."""
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
            return " or ".join(dict.fromkeys(in_words(one) for one in value[choice]))
    match value.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            bounds = (value.get("minimum"), value.get("maximum"))
            return "whole number" if None in bounds else f"whole number, {bounds[0]} to {bounds[1]}"
        case "array":
            return f"list of {in_words(value['items'])}"
        case "object":
            return "keys"
    return "text"
