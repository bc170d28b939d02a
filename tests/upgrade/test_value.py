"""The handover as a value that other versions read, too."""

from typing import Any

import pytest

from sockd.transports.sockets.unix import SocketFile
from sockd.upgrade.passing import decode, encode
from sockd.upgrade.value import HandedConnection, HandedEndpoint, HandedListener, Handover, HandoverError

WHOLE = Handover(
    file="/etc/sockd/sockd.yaml",
    runtime="/run/sockd",
    logs="/var/log/sockd",
    started=12.5,
    options=("--logfile", "log"),
    pid_file="sockd.pid",
    listeners=(
        HandedListener(7, "tcp://127.0.0.1:7007", "echo", "tcp://127.0.0.1:0"),
        HandedListener(
            8, "unix:///run/echo.sock", "echo", file=SocketFile("/run/echo.sock", 1, 2), name="web"
        ),
    ),
    endpoints={
        "echo": HandedEndpoint(
            protocol="echo",
            service=({"rooms": []},),
            connections=(HandedConnection({"fd": 9, "unsent": b"\xff"}, None),),
            datagrams={"udp://127.0.0.1:7007": [b"x", None]},
            suspended=True,
            counters={"refused": {}},
        )
    },
    control=({"fd": 5, "state": {}},),
    reload={"ok": True},
    begun=100.25,
)
LEAST = {"file": "f", "runtime": "r", "logs": "l", "started": 1.0}


def test_it_comes_back_as_it_was() -> None:
    """Through the form in which it is handed over."""
    assert Handover.from_value(decode(encode(WHOLE.to_value()))) == WHOLE


def test_what_goes_over_open() -> None:
    """Listeners, connections, clients that asked; what has no number has none that could be a socket's."""
    assert list(WHOLE.fds()) == [7, 8, 9, 5]
    assert list(Handover.from_value({**LEAST, "control": [{}]}).fds()) == [-1]
    assert list(Handover.from_value({**LEAST, "endpoints": {"a": _endpoint()}}).fds()) == [-1]


def _endpoint() -> dict[str, Any]:
    return {"protocol": "echo", "connections": [{"transport": {}, "protocol": None}]}


def test_another_versions_keys_do_no_harm() -> None:
    """What it knows more is ignored, what it doesn't know yet has its usual value."""
    listener = {"fd": 3, "address": "tcp://[::1]:1", "endpoint": "a", "later": 1}
    read = Handover.from_value({**LEAST, "later": {}, "listeners": [listener]})
    assert read.listeners == (HandedListener(3, "tcp://[::1]:1", "a"),)
    assert (read.endpoints, read.control, read.pid_file) == ({}, (), None)
    assert str(read.directories.runtime) == "r"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "can't be used"),
        ({**LEAST, "started": "soon"}, "started: "),
        ({**LEAST, "control": [3]}, "control.0: "),
        ({"file": "f"}, "runtime: Field required"),
        ({**LEAST, "listeners": [{"fd": 3}]}, "listeners.0.address: Field required"),
        ({**LEAST, "endpoints": {"a": {"protocol": "p", "connections": [3]}}}, "endpoints.a.connections.0: "),
    ],
)
def test_what_can_not_be_used_is_told_in_one_line(value: Any, said: str) -> None:
    """The place and the reason."""
    with pytest.raises(HandoverError, match=r"^[^\n]*$") as caught:
        Handover.from_value(value)
    assert said in str(caught.value)
