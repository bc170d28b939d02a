"""What other programs of the same machine say: the control socket, a program before us, systemd."""

import fcntl
import json
import os
import socket

from sockd.control import requests
from sockd.control.language import Refused
from sockd.systemd import inherited
from sockd.upgrade import passing
from sockd.upgrade.value import Handover, HandoverError
from tests.fuzz.parsers.checks import are_messages, is_message

_FIRST = 700  # a descriptor that nobody here uses: those from 3 on are the fuzzer's


def ask(data: bytes) -> None:
    """A request whose arguments are sound, or an answer that says why not."""
    try:
        request = requests.read(data)
    except Refused as refused:
        _is_refusal(refused)
        return
    is_message(str(request))
    assert request.command in requests.ARGUMENTS
    assert set(request.arguments) == set(requests.ARGUMENTS[request.command].model_fields)
    json.dumps(dict(request.arguments))


def _is_refusal(refused: Refused) -> None:
    are_messages(refused.problems)
    assert refused.status in (os.EX_USAGE, os.EX_PROTOCOL)
    answer = requests.refusal(refused)
    assert json.loads(answer)["problems"] == list(refused.problems)
    assert answer.isascii()
    assert answer.count(b"\n") == 1


def hand_over(data: bytes) -> None:
    """A value that is written as it is read, perhaps a whole handover; or a line that says what is wrong."""
    try:
        value = passing.decode(data)
        again = passing.decode(passing.encode(value))
        assert again == value or "NaN" in data.decode(errors="replace")
        handover = Handover.from_value(value)
        list(handover.fds())
        assert Handover.from_value(passing.decode(passing.encode(handover.to_value()))) == handover
    except HandoverError as error:
        _is_said(str(error))


def _is_said(text: str) -> None:
    assert text, "an empty message"
    assert "\n" not in text.strip(), text
    assert len(text) < 4000, len(text)


def inherit(data: bytes) -> None:
    """An environment block: sockets by name or problems, never an exception, and nothing is left in it."""
    inherited.FIRST_DESCRIPTOR = _FIRST
    pid = os.getpid()
    ours, theirs = socket.socketpair()
    os.dup2(ours.fileno(), _FIRST, inheritable=True)
    block = data.replace(b"PID", str(pid).encode())
    environ = {"LISTEN_PID": str(pid), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "late"}
    taken = inherited.take(environ, pid, block)
    assert environ == {}
    are_messages(taken.problems)
    sockets = [sock for named in taken.named.values() for sock in named]
    sockets += [sock for _name, sock in taken.stored]
    assert len(sockets) <= 1
    for sock in sockets:
        assert fcntl.fcntl(sock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        sock.close()
    for name in taken.named:
        assert name.isprintable(), name
    if not sockets:
        os.close(_FIRST)
    ours.close()
    theirs.close()
