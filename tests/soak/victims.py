"""Endpoints of the file that are there to be attacked, with tight limits."""

from collections.abc import Callable
from typing import Any

TLS = {"certificate": "server.pem", "key": "server.key"}
WITH_TLS = ("tcp", "udp", "unix", "unixgram", "tls")


def victims(addresses: Callable[..., list[str]]) -> dict[str, Any]:
    """By name; `addresses(name, kinds)` says where one listens."""
    return {
        "victim": {
            "listen": addresses("victim", WITH_TLS),
            "protocol": "echo",
            "tls": TLS,
            "access": {"deny": ["10.0.0.0/8"]},
            "limits": {
                "connections": 100,
                "connections_per_source": 80,
                "connect_rate": "200/s",
                "handshake": "2s",
                "first_byte": "2s",
                "idle": "5s",
                "stall": "5s",
                "lifetime": "20s",
            },
        },
        "proxied": {
            "listen": addresses("proxied", ["tcp"]),
            "protocol": "echo",
            "proxy_protocol": {"from": ["127.0.0.0/8"]},
            "limits": {"handshake": "2s"},
        },
        "victim-chat": {
            "listen": ["unix://victim-chat.sock", "unixgram://victim-chat-dgram.sock"],
            "protocol": "chat",
        },
        "victim-log": {
            "listen": ["unix://victim-log.sock", "unixgram://victim-log-dgram.sock"],
            "protocol": "line-log",
            "options": {"path": "/dev/null", "format": "raw"},
        },
    }
