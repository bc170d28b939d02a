"""The schema accepts what the model accepts, and more only where a text has to be parsed, as an address."""

import copy
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from sockd.base.addresses import AddressError, parse
from sockd.base.errors import Place, ProtocolUnavailableError
from sockd.config import document
from sockd.config.file import Daemon, Main
from sockd.config.values import Mapping, Scalar
from sockd.protocols.registry import Registry
from sockd.reference.schema import schema
from tests.fake_registry import registry
from tests.writing import as_yaml

REGISTRY = registry()

Path = tuple[str | int, ...]


def _as_ecma(value: Any) -> Any:
    """The same schema for Python's `re`, whose `$` matches before a line end too, and ECMA 262's does not."""
    if isinstance(value, dict):
        return {_as_ecma(key): _as_ecma(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_ecma(inner) for inner in value]
    is_pattern = isinstance(value, str) and value.startswith("^") and value.endswith("$")
    return value[:-1] + r"\Z" if is_pattern else value


VALIDATOR = Draft202012Validator(_as_ecma(schema(REGISTRY)))


def model_takes(value: Any) -> bool:
    """Whether the value, written as YAML, passes the model and its protocols' models."""
    root = document.parse(as_yaml(value), "f").root
    try:
        main = Main.model_validate(root)
        assert isinstance(root, Mapping)
        for name, endpoint in main.endpoints.items():
            options = root["endpoints"][name].get("options", {})
            REGISTRY.get(endpoint.protocol).options.model_validate(options)
    except (ValidationError, ProtocolUnavailableError):
        return False
    return True


FILES: list[dict[str, Any]] = [
    {
        "daemon": {
            "control": "control.sock",
            "control_group": "adm",
            "drain": "10s",
            "log": {"level": "info", "format": "auto"},
        },
        "defaults": {
            "tls": {"certificate": "a.pem", "key": "a.key"},
            "access": {"deny": ["10.0.0.0/8"]},
            "socket": {"keepalive": {"idle": "60s", "interval": "10s", "count": 6}},
            "limits": {"connections": 5, "idle": "off", "stall": "5m"},
            "restart": {"delay": "500ms", "max_delay": "1h"},
        },
        "include": ["conf.d/*.yaml"],
        "endpoints": {
            "a": {
                "enabled": True,
                "listen": [
                    "tcp://*:7",
                    {"address": "unix://a", "socket": {"mode": 660, "user": "adm", "group": 5}},
                ],
                "socket": {
                    "backlog": 5,
                    "keepalive": "off",
                    "nodelay": False,
                    "reuse_port": True,
                    "receive_buffer": "64KiB",
                },
                "protocol": "sample",
                "options": {
                    "word": "w",
                    "count": 3,
                    "flag": False,
                    "wait": "1s",
                    "room": "1MB",
                    "rate": "5/s",
                    "mode": "0600",
                },
                "limits": {"datagrams": "5/s", "datagrams_per_source": "off"},
                "required": {"give_up_after": "1m"},
                "access": {"allow": "10.0.0.0/8", "deny": "off", "users": ["adm", 5], "groups": "adm"},
                "proxy_protocol": {"from": ["10.0.0.1"]},
            },
            "b": {"listen": "udp://*:7", "protocol": "file", "options": {"path": "a.log"}, "required": True},
            "c": {
                "listen": [{"address": "unixgram://c"}, {"address": "systemd://c", "tls": True}],
                "protocol": "streams",
                "tls": {
                    "certificates": [{"certificate": "a.pem", "key": "a.key"}],
                    "names": "example.org",
                    "client_ca": "ca.pem",
                    "client_names": ["a.example.org"],
                    "min_version": 1.3,
                },
                "limits": {
                    "connections_per_source": 5,
                    "connect_rate": "5/m",
                    "handshake": "5s",
                    "first_byte": "5s",
                    "lifetime": "off",
                    "exempt": ["10.0.0.0/8"],
                },
            },
            "d": {
                "listen": "tls://*:7",
                "protocol": "streams",
                "tls": {"certificate": "a.pem", "key": "a.key", "min_version": "1.2"},
            },
        },
    },
    {"include": "a.yaml"},
    {"endpoints": {}},
]

WORDS = [
    *("", "off", "on", "true", "null", "0", "5", "-5", "0x5", "1e3", "5.0", "660", "0660", "7777", "0o660"),
    *("0s", "1s", "5s ", "30s", "30", "99999s", "1m", "1h", "24h", "25h", "7d", "8d", "500ms", "05s", "1.5s"),
    *(
        "0B",
        "5B",
        "2KiB",
        "1GiB",
        "2GiB",
        "64 KiB",
        "5/s",
        "0/s",
        "5/m",
        "5/d",
        "a.log",
        "~/a",
        "/x",
        "a\nb",
        "30s\n",
    ),
    *(
        "adm",
        "no user",
        "a$",
        "sample",
        "file",
        "streams",
        "broken",
        "info",
        "json",
        "tcp://*:7",
        "unix://a",
        "systemd://a",
        "x",
    ),
]
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 1100)
    | st.sampled_from([65535, 65536, 10**6, 10**6 + 1, 2**32 - 2, 2**32 - 1, 0.5, 5.0, -0.0, 660.0, 1e300])
    | st.sampled_from(WORDS)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*WORDS, "address", "path"]), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = sorted(set(re.findall(r'"(\w+)": ', as_yaml(FILES[0]))) | {"x", "A", "a\n"})


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*at, key))


@st.composite
def changed(draw: st.DrawFn) -> Any:
    """A valid file with something replaced, removed or added."""
    tree = copy.deepcopy(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 2))):
        *steps, last = draw(st.sampled_from([path for path in paths(tree) if path] or [("endpoints",)]))
        parent = tree
        for step in steps:
            parent = parent[step]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "add" and isinstance(parent, dict):
            parent[draw(st.sampled_from(KEYS))] = draw(values)
        elif how == "remove" and isinstance(parent, dict):
            parent.pop(last, None)
        else:
            parent[last] = draw(values)
    return tree


def needs_parsing(tree: Any) -> bool:
    """Whether there is an address, or a similar text, that begins well and is wrong further on."""
    for path in paths(tree):
        value = tree
        for step in path:
            value = value[step]
        if isinstance(value, str) and re.match("(tcp|tls|udp|unix|unixgram|systemd)://", value):
            try:
                parse(value)
            except AddressError:
                return True
        if path and path[-1] in ("networks", "allow", "deny", "from", "exempt", "names", "client_names"):
            return True
        if path[-2:] == ("daemon", "control") and isinstance(value, str):
            try:
                Daemon.model_validate({"control": Scalar(value, Place(""))})
            except ValidationError:
                return True
    return False


@settings(max_examples=500)
@given(changed())
@example({"endpoints": {"a\n": {"listen": "unix://a", "protocol": "streams"}}})
@example({"endpoints": {"a": {"listen": "unix://a", "protocol": "file"}}})
@example({"daemon": {}})
@example([])
def test_takes_what_the_model_takes(tree: Any) -> None:
    """The model accepts a file, written as YAML 1.2, exactly if the schema does."""
    assume(not needs_parsing(tree))
    takes = VALIDATOR.is_valid(tree)
    if tree == {"daemon": {}} or (isinstance(tree, dict) and not {"endpoints", "include"} & set(tree)):
        assert not takes  # the loading of files reports that one of the two is needed
    else:
        loaded = tree if not isinstance(tree, dict) or "endpoints" in tree else {**tree, "endpoints": {}}
        assert takes == model_takes(loaded)


def test_the_right_files_are_right() -> None:
    """The files that the property test changes are valid."""
    assert [error.message for file in FILES for error in VALIDATOR.iter_errors(file)] == []


def test_modes() -> None:
    """Every file mode passes as it is written, with and without the zero, quoted or not."""
    tree = {"endpoints": {"a": {"listen": "unix://a", "protocol": "sample", "options": {"mode": ""}}}}
    for mode in range(0o1000):
        for written in (f"{mode:04o}", f"{mode:o}", int(f"{mode:o}")):
            tree["endpoints"]["a"]["options"] = {"mode": written}
            assert VALIDATOR.is_valid(tree)


def _properties(tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for definition in (tree, *tree["$defs"].values()):
        yield from definition.get("properties", {}).items()


def test_every_key_has_a_sentence() -> None:
    """Every key has a description for editors, in our own protocols too."""
    tree = schema(Registry())
    Draft202012Validator.check_schema(tree)
    for key, value in _properties(tree):
        # Its own: the sentence of a section that it refers to is not in the key's row of the page.
        assert value.get("description", "").endswith("."), key


def test_defaults_are_as_they_are_written_in_the_file() -> None:
    """A default can be copied into the file."""
    tree = schema(registry())
    defaults = {
        key: value["default"]
        for key, value in tree["$defs"]["Socket"]["properties"].items()
        if "default" in value
    }
    assert defaults == {
        "backlog": 1024,
        "nodelay": True,
        "reuse_port": False,
        "receive_buffer": "off",
        "mode": "0660",
        "user": "off",
        "group": "off",
    }
    assert tree["$defs"]["Endpoint"]["properties"]["required"]["default"] is False
    assert tree["$defs"]["sample.options"]["properties"]["room"]["default"] == "1KiB"
    assert "default" not in tree["$defs"]["Limits"]["properties"]["idle"]
    assert "sample.Nested" in tree["$defs"]
