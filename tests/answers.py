"""Answers of a daemon, for tests of what is made of them."""

from typing import Any

NOW = 1_800_000_000.0
STARTED = "2027-01-15T07:56:40.000Z"  # 200 s before


def listener(address: str, **more: Any) -> dict[str, Any]:
    return {
        "address": address,
        "state": "running",
        "causes": [],
        "since": STARTED,
        "why": "",
        "restarts": 0,
        "connections": 0,
        "accepted": 0,
        "bytes_in": 0,
        "bytes_out": 0,
        "datagrams_in": 0,
        "datagrams_out": 0,
        "refused": {},
    } | more


def endpoint(name: str, *listeners: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "protocol": "echo",
        "state": "running",
        "causes": [],
        "since": STARTED,
        "why": "",
        "restarts": 0,
        "connections": 0,
        "limit": 1000,
        "refused": {},
        "certificates": [],
        "listeners": list(listeners),
    } | more


def status(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "pid": 4711,
        "uptime": 200.5,
        "file": "/etc/sockd/sockd.yaml",
        "state": "running",
        "reload": None,
        "upgrade": None,
        "endpoints": list(endpoints),
        "leaving": 0,
        "longest_hold": None,
    } | more


def source(**more: Any) -> dict[str, Any]:
    return {
        "endpoint": "echo",
        "source": "192.0.2.7",
        "connections": 3,
        "open": 0,
        "datagrams": 0,
        "bytes_in": 2048,
        "bytes_out": 0,
        "refused": {},
        "last": STARTED,
        **more,
    }


def connection(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "kind": "stream",
        "endpoint": "echo",
        "listener": "tcp://127.0.0.1:7007",
        "peer": "127.0.0.1:40000",
        "identity": "",
        "name": "",
        "since": STARTED,
        "idle": None,
        "bytes_in": 0,
        "bytes_out": 0,
        "unsent": 0,
        "draining": False,
    } | more


def changes(**more: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "added": [],
        "removed": [],
        "rebound": [],
        "updated": [],
        "unchanged": [],
        "daemon": [],
    }
    return {"changes": nothing | more, "warnings": []}


BUSY = status(
    endpoint(
        "echo",
        listener("tcp://127.0.0.1:7007", connections=2, accepted=17, bytes_in=1234, bytes_out=5_000_000),
        listener(
            "udp://127.0.0.1:7007", bytes_in=12, datagrams_in=1,
            refused={"datagrams_per_source": 3, "datagrams": 1},
        ),
        connections=2,
    ),
    endpoint(
        "applog",
        listener(
            "tcp://127.0.0.1:5514",
            state="backing off", since="2027-01-15T07:59:58.000Z",
            why="in use by another program", restarts=3,
        ),
        listener("systemd://log", causes=["held", "suspended"], datagrams_in=5),
        state="backing off", protocol="line-log", why="app.log: [red]No space[/red]\x1b left", restarts=1,
    ),
    reload={"at": "2027-01-15T07:59:00.000Z", "ok": False, "message": "the file is wrong"},
    upgrade={"at": "2027-01-15T06:00:00.000Z", "ok": True, "message": ""},
    leaving=1,
    control={"refused": {"accepting failed": 1, "not allowed": 3}},
)  # fmt: skip
