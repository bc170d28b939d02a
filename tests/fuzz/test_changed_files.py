"""Right files with something changed: each gives a plan or problems, never anything else."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.parsers.files import read_plan
from tests.writing import as_yaml

RIGHT: dict[str, Any] = {
    "daemon": {"control": "control.sock", "drain": "10s", "log": {"level": "info", "format": "auto"}},
    "defaults": {
        "limits": {"connections": 1000, "idle": "30s", "datagrams": "20/s"},
        "socket": {"keepalive": {"idle": "60s", "interval": "10s", "count": 6}},
    },
    "endpoints": {
        "echo": {
            "listen": ["tcp://127.0.0.1:7007", {"address": "unix://echo.sock", "socket": {"mode": "0660"}}],
            "protocol": "echo",
            "options": {"prefix": "> ", "answer": ["10.0.0.0/8"]},
            "limits": {
                "stall": "off",
                "connections_per_source": 20,
                "connect_rate": "5/s",
                "handshake": "5s",
                "first_byte": "off",
                "lifetime": "1h",
                "exempt": ["127.0.0.0/8", "::1"],
            },
            "access": {"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"], "users": ["root"], "groups": [0]},
            "proxy_protocol": {"from": ["192.0.2.1"]},
        },
        "safe": {
            "enabled": False,
            "listen": ["tls://127.0.0.1:7071", {"address": "systemd://safe", "tls": True}],
            "protocol": "echo",
            "tls": {
                "certificates": [{"certificate": "server.pem", "key": "server.key"}],
                "client_ca": "server.pem",
                "client_names": ["a.example"],
                "min_version": "1.3",
                "names": ["soak.example"],
            },
        },
        "lobby": {"listen": "udp://*:7070", "protocol": "chat", "options": {"room": "x", "history": 20}},
        "log": {
            "listen": ["systemd://log"],
            "protocol": "line-log",
            "options": {"path": "app.log", "format": "json", "max_line": "64KiB", "mode": "0640"},
            "restart": {"delay": "500ms", "max_delay": "30s"},
            "required": {"give_up_after": "1m"},
        },
    },
}

WORDS = st.sampled_from(
    [
        "",
        "off",
        "true",
        "1",
        "-1",
        "0",
        "1e9",
        "tcp://*:0",
        "30s",
        "1GiB",
        "5/s",
        "*",
        "echo",
        "a" * 200,
        "\x85",
        "~",
    ]
)
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in inside for place in places(inner, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at this path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def renamed(value: Any, path: tuple[Any, ...], key: str) -> Any:
    """The value with another key at the end of this path."""
    if len(path) > 1:
        return changed(value, path[:1], renamed(value[path[0]], path[1:], key))
    if not isinstance(value, dict):
        return value
    return {key if old == path[0] else old: inner for old, inner in value.items()}


PLACES = st.sampled_from(places(RIGHT)[1:])


@given(PLACES, VALUES)
def test_another_value(path: tuple[Any, ...], value: Any) -> None:
    """Wherever it stands, whatever it is."""
    read_plan(as_yaml(changed(RIGHT, path, value)).encode())


@given(PLACES, WORDS)
def test_another_key(path: tuple[Any, ...], key: str) -> None:
    """Wherever it stands, whatever it is called."""
    read_plan(as_yaml(renamed(RIGHT, path, key)).encode())
