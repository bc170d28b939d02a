"""The client's end of the control socket: sends one request and returns its result."""

import json
import os
import socket
import stat
import struct
import time

from sockd import __version__
from sockd.base.text import visible
from sockd.base.units import format_duration
from sockd.control.commands import COMMANDS
from sockd.control.language import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, VERSION, Json, NotThereError, Refused

_CHUNK_BYTES = 256 * 1024
# Values in an answer, as commas and brackets count them: ten times what 10,000 connections have. A program
# that isn't sockd could answer with 5 million empty lists, which take up 400 MB.
_MOST_VALUES = 2_000_000
# How often a question is asked: an upgrade closes the connection of one that is not answered yet, and the new
# program answers the next. What changes something is asked for once, as it may have been done.
_ATTEMPTS = 3
# Of a refusal: how many lines are shown, and how many characters of each.
_MOST_PROBLEMS, _LONGEST_PROBLEM = 1000, 4000
_TIMEVAL = struct.Struct("@ll")


def ask(path: str, command: str, timeout: float | None = None, **arguments: Json) -> Json:
    """The result of a command of the daemon whose control socket is at `path` (`@name`: an abstract one).

    `timeout` is in seconds; without it the command's own counts. Raises Refused, with the status to exit
    with, where the daemon refuses the request or can't be reached, or doesn't answer in time.
    """
    seconds = timeout or COMMANDS[command].timeout
    line = json.dumps({"version": VERSION, "command": command, **arguments}).encode() + b"\n"
    if len(line) > MAX_REQUEST_BYTES:
        raise Refused(
            os.EX_USAGE,
            f"the request is too long: {len(line)} bytes, and at most {MAX_REQUEST_BYTES} are read",
        )
    deadline = time.monotonic() + seconds
    shown = visible(path)
    attempts = 1 if COMMANDS[command].changes else _ATTEMPTS
    while True:
        attempts -= 1
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                _connect(sock, path, _left(deadline))
                return result_of(shown, _exchange(sock, line, deadline))
        except TimeoutError:
            raise Refused(
                os.EX_UNAVAILABLE, f"sockd did not answer within {format_duration(seconds)} at {shown}"
            ) from None
        except ConnectionError:
            if not attempts:
                raise Refused(
                    os.EX_UNAVAILABLE, f"sockd closed the connection before it answered at {shown}"
                ) from None


def _connect(sock: socket.socket, path: str, seconds: float) -> None:
    shown = visible(path)
    # connect(2) waits this long for room in the backlog; with Python's own time-out it wouldn't wait at all,
    # as the socket wouldn't block.
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000))
    )
    try:
        sock.connect(f"\0{path[1:]}" if path.startswith("@") else path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotThereError(
            os.EX_UNAVAILABLE,
            f"there is no control socket at {shown}: sockd isn't running, or its socket is elsewhere"
            " (--control, SOCKD_CONTROL)",
        ) from None
    except ConnectionRefusedError:
        if _exists_as_another_file(path):
            raise NotThereError(
                os.EX_UNAVAILABLE,
                f"{shown}: that is not a socket: name sockd's control socket (--control, SOCKD_CONTROL)",
            ) from None
        raise NotThereError(os.EX_UNAVAILABLE, f"sockd is not running: nothing listens at {shown}") from None
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


def _exists_as_another_file(path: str) -> bool:
    """Whether `path` is not a socket, which connect(2) refuses like one that nothing listens at."""
    try:
        return not path.startswith("@") and not stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _exchange(sock: socket.socket, line: bytes, deadline: float) -> bytes:
    """The first line that the daemon sends."""
    try:
        _wait_until(sock, deadline)
        sock.sendall(line)
    except ConnectionError:
        pass  # the daemon may have answered before it closed the connection
    answer = bytearray()
    while True:
        _wait_until(sock, deadline)
        chunk = sock.recv(_CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError
        answer += chunk
        end = answer.find(b"\n", len(answer) - len(chunk))
        if (end if end >= 0 else len(answer)) >= MAX_ANSWER_BYTES:
            raise Refused(os.EX_PROTOCOL, f"sockd's answer is longer than {MAX_ANSWER_BYTES} bytes")
        if end >= 0:
            return bytes(answer[:end])


def _wait_until(sock: socket.socket, deadline: float) -> None:
    sock.settimeout(_left(deadline))


def _left(deadline: float) -> float:
    """The seconds until then; TimeoutError where there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def result_of(shown: str, line: bytes) -> Json:
    if sum(map(line.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise Refused(os.EX_PROTOCOL, f"what answers at {shown} is not sockd: it has too much to say")
    try:
        answer = json.loads(line)
        version = answer["version"]
    except (ValueError, RecursionError, LookupError, TypeError, MemoryError):
        raise Refused(os.EX_PROTOCOL, f"what answers at {shown} is not sockd") from None
    if answer.get("ok") is False:  # a refusal has the same form in all versions
        raise refusal_of(answer)
    if version != VERSION:
        raise Refused(
            os.EX_PROTOCOL,
            f"versions don't match: the daemon speaks version {visible(str(version))[:20]} of the control "
            f"protocol, this is sockd {__version__}, which speaks version {VERSION}",
        )
    if answer.get("ok") is not True or "result" not in answer:
        raise Refused(os.EX_PROTOCOL, f"what answers at {shown} is not sockd")
    return answer["result"]


def refusal_of(answer: dict[str, Json]) -> Refused:
    status, problems = answer.get("status"), answer.get("problems")
    if type(status) is not int or not 0 < status < 256:
        status = os.EX_SOFTWARE
    if not isinstance(problems, list) or not problems:
        problems = ["sockd refused the request without a reason"]
    lines = [visible(str(problem)[:_LONGEST_PROBLEM]) for problem in problems[:_MOST_PROBLEMS]]
    if problems[_MOST_PROBLEMS:]:
        lines.append(f"and {len(problems) - _MOST_PROBLEMS} more")
    return Refused(status, *lines)
