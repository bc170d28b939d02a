"""The asking end of the control socket: one request, one answer, or a line that says why there is none."""

import json
import os
import socket
import struct
import time
from typing import Any

from sockd import __version__
from sockd.base.text import visible
from sockd.base.units import format_duration
from sockd.control.language import LONGEST_ANSWER, LONGEST_REQUEST, VERSION, Refused

# How long (seconds) an answer is waited for. Draining takes as long as the file says.
USUAL_TIMEOUT = 60.0
TIMEOUTS = dict.fromkeys(("drain", "reload", "restart", "upgrade"), 600.0)
_CHUNK = 256 * 1024
_TIMEVAL = struct.Struct("@ll")


def ask(path: str, command: str, timeout: float | None = None, **arguments: Any) -> Any:
    """What the daemon behind the socket at `path` (`@name`: an abstract one) answers.

    `timeout` is in seconds; without it each command has its own. Refused, with the status to exit with, where
    there is no answer or it is a refusal.
    """
    seconds = timeout or TIMEOUTS.get(command, USUAL_TIMEOUT)
    line = json.dumps({"version": VERSION, "command": command, **arguments}).encode() + b"\n"
    if len(line) > LONGEST_REQUEST:
        raise Refused(os.EX_USAGE, f"that is too much for one request of at most {LONGEST_REQUEST} bytes")
    deadline = time.monotonic() + seconds
    shown = visible(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _connect(sock, path, seconds)
            return _result(shown, _exchange(sock, line, deadline))
        except TimeoutError:
            raise Refused(
                os.EX_UNAVAILABLE, f"sockd did not answer within {format_duration(seconds)} at {shown}"
            ) from None
        except ConnectionError:
            raise Refused(os.EX_UNAVAILABLE, f"sockd went away before it had answered at {shown}") from None


def _connect(sock: socket.socket, path: str, seconds: float) -> None:
    shown = visible(path)
    # The kernel waits for room in the backlog so long; a socket that doesn't block isn't waited for.
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000))
    )
    try:
        sock.connect(f"\0{path[1:]}" if path.startswith("@") else path)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(os.EX_UNAVAILABLE, f"sockd is not running: there is no socket at {shown}") from None
    except ConnectionRefusedError:
        raise Refused(os.EX_UNAVAILABLE, f"sockd is not running: nobody answers at {shown}") from None
    except PermissionError:
        raise Refused(
            os.EX_NOPERM,
            f"not allowed to use {shown}: it is for root, the daemon's user and the daemon.control_group",
        ) from None
    except BlockingIOError:
        raise TimeoutError from None
    except OSError as error:  # a path that is too long, or of another kind of socket
        why = error.strerror or str(error)
        raise Refused(os.EX_UNAVAILABLE, f"{shown} can't be used: {why}") from None


def _exchange(sock: socket.socket, line: bytes, deadline: float) -> bytes:
    """The answer's line; what follows it is of no interest."""
    try:
        _wait_until(sock, deadline)
        sock.sendall(line)
    except ConnectionError:
        pass  # it may have said why before it closed
    answer = bytearray()
    while True:
        _wait_until(sock, deadline)
        chunk = sock.recv(_CHUNK)
        if not chunk:
            raise ConnectionResetError
        answer += chunk
        if b"\n" in chunk:
            return bytes(answer.partition(b"\n")[0])
        if len(answer) > LONGEST_ANSWER:
            raise Refused(os.EX_PROTOCOL, f"sockd's answer is longer than {LONGEST_ANSWER} bytes")


def _wait_until(sock: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _result(shown: str, line: bytes) -> Any:
    try:
        answer = json.loads(line)
        version = answer["version"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise Refused(os.EX_PROTOCOL, f"what answers at {shown} is not sockd") from None
    if answer.get("ok") is False:  # the form of a refusal is the same in all versions
        raise _refusal(answer)
    if version != VERSION:
        raise Refused(
            os.EX_PROTOCOL,
            f"versions don't match: the daemon speaks version {visible(str(version))[:20]} of the control "
            f"protocol, this is sockd {__version__}, which speaks version {VERSION}",
        )
    if answer.get("ok") is not True or "result" not in answer:
        raise Refused(os.EX_PROTOCOL, f"what answers at {shown} is not sockd")
    return answer["result"]


def _refusal(answer: dict[str, Any]) -> Refused:
    status, problems = answer.get("status"), answer.get("problems")
    if type(status) is not int or not 0 < status < 256:
        status = os.EX_SOFTWARE
    if not isinstance(problems, list) or not problems:
        problems = ["sockd refused, and did not say why"]
    return Refused(status, *(visible(str(problem)) for problem in problems))
