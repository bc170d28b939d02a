"""What may be asked on the control socket: a line becomes a request whose arguments are sound."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sockd import __version__
from sockd.base.errors import offer
from sockd.base.text import visible
from sockd.control.language import LONGEST_ANSWER, VERSION, Refused

# What is wrong with the arguments of one request is told in so many lines, each of so many characters.
_PROBLEMS = 10
_PROBLEM = 300

Name = Annotated[str, Field(min_length=1, max_length=100)]
Number = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Arguments(BaseModel):
    """The arguments of a command; by itself, of one that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OneEndpoint(Arguments):
    endpoint: Name


class Listing(Arguments):
    """Which connections: of this endpoint or of all, with a greater id than this, and how many at most."""

    endpoint: Name | None = None
    after: Number = 0
    most: Annotated[int, Field(ge=1, le=10_000)] = 1000


class Kicking(Arguments):
    connections: Annotated[list[Number], Field(min_length=1, max_length=10_000)]


ARGUMENTS: Mapping[str, type[Arguments]] = {
    "status": Arguments,
    "diff": Arguments,
    "reload": Arguments,
    "suspend": OneEndpoint,
    "resume": OneEndpoint,
    "restart": OneEndpoint,
    "drain": OneEndpoint,
    "connections": Listing,
    "kick": Kicking,
    "upgrade": Arguments,
}
# These only look; who asks for any other is told in the log.
LOOKING = frozenset({"status", "diff", "connections"})


@dataclass(frozen=True, slots=True)
class Request:
    """One command; `arguments` are those that its model allows, defaults filled in."""

    command: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        values = (
            " ".join(map(str, value)) if isinstance(value, list) else str(value)
            for value in self.arguments.values()
        )
        text = visible(" ".join((self.command, *values)))
        return text if len(text) <= _PROBLEM else f"{text[:_PROBLEM]} …"


def read(line: bytes) -> Request:
    """A request; Refused with status 64 where it is none, with 76 where it is of another version."""
    value = _object(line)
    version = value.pop("version", None)
    if type(version) is not int:
        raise wrong('the request has no "version", which is a whole number')
    if version != VERSION:
        raise Refused(
            os.EX_PROTOCOL,
            f"versions don't match: the daemon is sockd {__version__} and speaks version {VERSION} of the "
            f"control protocol, the request is of version {str(version)[:20]}",
        )
    command = value.pop("command", None)
    if not isinstance(command, str):
        raise wrong('the request has no "command", which is a string')
    if command not in ARGUMENTS:
        shown = visible(command[:_PROBLEM])
        raise wrong(f"there is no command '{shown}'{offer(command, ARGUMENTS)}")
    try:
        arguments = ARGUMENTS[command](**value)
    except ValidationError as error:
        raise wrong(*_problems(command, error)) from None
    return Request(command, dict(arguments))


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise wrong("the request is not UTF-8") from None
    except RecursionError:
        raise wrong("the request is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise wrong(f"the request is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise wrong("the request is not a JSON object")
    return value


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no value")


def wrong(*problems: str) -> Refused:
    """For what is no request that can be understood."""
    return Refused(os.EX_USAGE, *problems)


def _problems(command: str, error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = []
    for one in found[:_PROBLEMS]:
        path = "".join(f"[{step}]" if isinstance(step, int) else step for step in one["loc"])
        if one["type"] == "missing":
            text = f"{command} needs the argument {path}"
        elif one["type"] == "extra_forbidden":
            text = f"{command} has no argument {path}"
        else:
            text = f"{path}: {one['msg'][0].lower()}{one['msg'][1:]}"
        lines.append(visible(text)[:_PROBLEM])
    if found[_PROBLEMS:]:
        lines.append(f"and {len(found) - _PROBLEMS} more")
    return lines


def answer(result: Any) -> bytes:
    """The line that says what came of a request; raises TypeError, ValueError or Refused if it can't."""
    line = _line({"version": VERSION, "ok": True, "result": result})
    if len(line) > LONGEST_ANSWER:
        raise Refused(os.EX_SOFTWARE, f"the answer is too long: {len(line)} bytes")
    return line


def refusal(refused: Refused) -> bytes:
    """The line that says why not."""
    return _line(
        {"version": VERSION, "ok": False, "status": refused.status, "problems": list(refused.problems)}
    )


def _line(value: Any) -> bytes:
    # Nothing but ASCII, so that neither a lone surrogate nor a control character can do any harm.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"
