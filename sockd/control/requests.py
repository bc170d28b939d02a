"""Reads the requests of the control socket and writes the answers: one line of JSON each."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from sockd import __version__
from sockd.base.spelling import offer
from sockd.base.text import visible
from sockd.control.commands import COMMANDS, Argument, Ids, Number, Text, Texts
from sockd.control.language import MAX_ANSWER_BYTES, VERSION, Json, Refused

# A request with more wrong arguments than this is answered with the first of them.
_MAX_PROBLEMS = 10
# Characters of a problem in an answer, and of a request in the log.
_MAX_SHOWN = 300

# Any: an annotation that is made at run time has no type for mypy.
Annotation = Any


class Arguments(BaseModel):
    """The arguments of a command. Nothing is converted, and what isn't declared is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@cache  # a model takes a third of a millisecond to make
def _model(declared: tuple[Argument, ...]) -> type[Arguments]:
    """The model that arguments which are declared so must fit."""
    # Any: `create_model` has other parameters too.
    fields: dict[str, Any] = {argument.name: _field(argument) for argument in declared}
    return create_model("Arguments", __base__=Arguments, **fields)


def _field(argument: Argument) -> tuple[Annotation, object]:
    """An annotation and a default, as pydantic takes them."""
    declared = argument.type
    found: Annotation
    match declared:
        case Text():
            found = Annotated[str, Field(min_length=1, max_length=declared.longest)]
        case Number():
            found = _number(declared)
        case Ids():
            found = Annotated[list[_number(Number())], Field(min_length=1, max_length=declared.most)]  # type: ignore[misc]
        case Texts():
            text = Annotated[str, Field(min_length=1, max_length=declared.longest)]
            found = Annotated[list[text], Field(min_length=1, max_length=declared.most)]
    if argument.required:
        return found, ...
    return (found | None if argument.default is None else found), argument.default


def _number(declared: Number) -> Annotation:
    return Annotated[int, Field(ge=declared.least, le=declared.greatest)]


ARGUMENTS: Mapping[str, type[Arguments]] = {
    name: _model(command.arguments) for name, command in COMMANDS.items()
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that may be fulfilled; `arguments` are those that its command declares, defaults filled in.

    Its text is one line for the log.
    """

    command: str
    arguments: Mapping[str, Json]

    def __str__(self) -> str:
        values = (
            " ".join(map(str, value)) if isinstance(value, list) else str(value)
            for value in self.arguments.values()
            if value is not None
        )
        text = visible(" ".join((self.command, *values)))
        return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} …"


def read(line: bytes) -> Request:
    """The request in a line; Refused, with status 64 where there is none, with 76 for another version."""
    value = _object(line)
    version = value.pop("version", None)
    if type(version) is not int:
        raise wrong('the request needs a "version", a whole number')
    if version != VERSION:
        raise Refused(
            os.EX_PROTOCOL,
            f"versions don't match: the daemon is sockd {__version__} and speaks version {VERSION} of the "
            f"control protocol, the request is of version {str(version)[:20]}",
        )
    command = value.pop("command", None)
    if not isinstance(command, str):
        raise wrong('the request needs a "command", a string')
    if command not in ARGUMENTS:
        shown = visible(command[:_MAX_SHOWN])
        raise wrong(f"there is no command '{shown}'{offer(command, ARGUMENTS)}")
    try:
        arguments = ARGUMENTS[command](**value)
    except ValidationError as error:
        raise wrong(*_problems(command, error)) from None
    return Request(command, dict(arguments))


def _object(line: bytes) -> dict[str, Json]:
    try:
        value = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise wrong("the request is not UTF-8") from None
    except RecursionError:
        raise wrong("the request is not JSON that can be read: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise wrong(f"the request is not JSON: see its character {error.pos + 1}") from None
    except ValueError:  # a number
        raise wrong("the request is not JSON that can be read: a number has too many digits") from None
    if not isinstance(value, dict):
        raise wrong("the request is not a JSON object")
    return value


def _refuse_constant(word: str) -> None:
    raise wrong(f"the request is not JSON: {word} is no value")


def wrong(*problems: str) -> Refused:
    """The refusal, of status 64, of a line that is not a request."""
    return Refused(os.EX_USAGE, *problems)


def _problems(command: str, error: ValidationError) -> list[str]:
    """What is wrong with the arguments, in the words of their declarations."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = []
    for one in found[:_MAX_PROBLEMS]:
        name, *index = one["loc"] or ("",)
        if not one["loc"]:
            text = "the name of an argument is no text: it holds half of a character"
        elif one["type"] == "missing":
            text = f"{command} needs the argument {name}"
        elif one["type"] == "extra_forbidden":
            text = f"{command} has no argument {name}"
        else:
            (declared,) = (each.type for each in COMMANDS[command].arguments if each.name == name)
            path = "".join(f"[{step}]" for step in index)
            item = declared.an_item if index and isinstance(declared, Ids | Texts) else declared
            text = f"{name}{path}: this is not {item}"
        lines.append(visible(text)[:_MAX_SHOWN])
    if found[_MAX_PROBLEMS:]:
        lines.append(f"and {len(found) - _MAX_PROBLEMS} more")
    return lines


def answer(result: Json) -> bytes:
    """The line that answers a request with its result.

    TypeError or ValueError where JSON can't say it, Refused where it is longer than a client reads.
    """
    line = _line({"version": VERSION, "ok": True, "result": result})
    if len(line) > MAX_ANSWER_BYTES:
        raise Refused(os.EX_SOFTWARE, f"the answer is too long: {len(line)} bytes")
    return line


def refusal(refused: Refused) -> bytes:
    """The line that says why a request isn't fulfilled."""
    return _line(
        {"version": VERSION, "ok": False, "status": refused.status, "problems": list(refused.problems)}
    )


def _line(value: Json) -> bytes:
    # ASCII only: neither a lone surrogate nor a control character reaches a terminal or a decoder.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"
