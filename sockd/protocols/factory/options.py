"""The options of a factory endpoint: they name its callables, which are imported as the file is read."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, ValidationError, ValidationInfo, model_validator
from pydantic.functional_serializers import PlainSerializer
from pydantic.json_schema import WithJsonSchema
from pydantic_core import InitErrorDetails

from sockd.base.hidden import hidden_by_unit
from sockd.config.form import Form, no_default, wrong
from sockd.config.types import read_file_path, read_text
from sockd.config.values import read_as, shown
from sockd.protocols.contract import Hosted, Options
from sockd.protocols.factory.arguments import Arguments, Callee, is_factory, read
from sockd.protocols.factory.explain import why_not
from sockd.protocols.factory.modules import Directories, Named, modules

_WORD = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
ROLES = ("factory", "datagram")


def _read_name(value: object, _info: object) -> str:
    text = read_text(value)
    if re.fullmatch(f"{_WORD}:{_WORD}", text):
        return text
    meant = ""
    if re.fullmatch(_WORD, text) and "." in text:
        meant = ", like {}:{}".format(*text.rsplit(".", 1))
    raise ValueError(f"{shown(text)} is not a module, a colon and a name in it{meant}")


def _read_path(value: object, info: ValidationInfo) -> Directories:
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple(dict.fromkeys(Path(os.path.abspath(read_file_path(one, info))) for one in items))


def _read_arguments(value: object) -> object:
    """A mapping as it is in the file, until the callables are known."""
    if not isinstance(value, dict | Arguments):
        raise wrong(f"keys and values are expected here: the arguments, not a {read_as(value)}")
    return value


Name = Annotated[
    str | None,
    Form(
        _read_name,
        str,
        {
            "title": "module:name",
            "type": "string",
            "pattern": f"^{_WORD}:{_WORD}$",
            "examples": ["mysite.app:make_site"],
        },
    ),
]
SearchPath = Annotated[
    Directories,
    Form(
        _read_path,
        lambda path: [str(one) for one in path],
        {"title": "directory, or a list of them", "anyOf": [{"type": "string"},
         {"type": "array", "items": {"type": "string"}}]},
    ),
]  # fmt: skip
SomeArguments = Annotated[
    Arguments,
    PlainValidator(_read_arguments),
    PlainSerializer(lambda arguments: dict(arguments.shown)),
    WithJsonSchema({"title": "keys and values", "type": "object"}),
]


class FactoryOptions(Options):
    """The options of a factory endpoint."""

    factory: Name = Field(
        None,
        description="What serves connections, as `package.module:name`: a Twisted factory, a Protocol, or"
        " what returns a factory when it is called.",
        json_schema_extra=no_default,
    )
    datagram: Name = Field(
        None,
        description="What serves datagrams, named the same way: it returns a protocol for each address.",
        json_schema_extra=no_default,
    )
    path: SearchPath = Field(
        (), description="Directories with modules that aren't installed; beside the file where relative."
    )
    arguments: SomeArguments = Field(
        Arguments(),
        description="What both are called with; each gets the arguments that it names.",
    )

    @model_validator(mode="after")
    def _load(self, info: ValidationInfo) -> Self:
        context = info.context or {}
        errors = list(_unreadable(self.path))
        callees: dict[str, Callee] = {}
        named = {role: name for role in ROLES if (name := getattr(self, role)) is not None}
        if not named:
            text = "name what serves connections as factory, or what serves datagrams as datagram"
            errors.append(InitErrorDetails(type=wrong(text), loc=(), input=None))
        for role, name in named.items() if not errors else ():
            endpoint, reading = str(context.get("endpoint", "")), context.get("reading")
            try:
                what = modules.find(name, self.path, endpoint, reading).what
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module raises
                why = _hidden(name, self.path) or why_not(name, self.path, error)
            else:
                why = _hidden(name, self.path) or _unusable(role, name, what)
                own = name.partition(":")[2]
                called = role != "factory" or not is_factory(what)
                callees[role] = Callee.of(own, what) if called else Callee(own, what, {}, {})
            if why:
                errors.append(InitErrorDetails(type=wrong(why), loc=(role,), input=name))
        if not errors:
            errors += _unreadable_modules(self.path)
        given: Any = self.arguments  # Any: as the file has them, or as they were read before
        if not errors:
            given = given.written if isinstance(given, Arguments) else given
            self.__dict__["arguments"] = read(callees, given, info.context, errors)
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self

    def hosted(self) -> Hosted:
        """What serves the endpoint, and what an upgrade would change."""
        named = {role: name for role in ROLES if (name := getattr(self, role)) is not None}
        remarks = ((modules.known(name).remark, role) for role, name in named.items())
        lacking = "there are {} here, and the options have no {!r}, which names what serves them"
        return Hosted(
            names=tuple(dict.fromkeys(named.values())),
            reads=self.path,
            remarks=tuple(remark for remark in remarks if remark[0])[:1],
            no_streams="" if "factory" in named else lacking.format("connections", "factory"),
            no_datagrams="" if "datagram" in named else lacking.format("datagrams", "datagram"),
        )


def _unreadable(path: Directories) -> Iterator[InitErrorDetails]:
    for number, directory in enumerate(path):
        why = _why_unreadable(directory)
        if why:
            at = ("path",) if len(path) == 1 else ("path", number)
            text = f"{directory}: {why}{hidden_by_unit(directory)}"
            yield InitErrorDetails(type=wrong(text), loc=at, input=str(directory))


def _why_unreadable(directory: Path) -> str:
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        return "there is no such directory"
    except OSError as error:
        return f"this directory can't be found: {error.strerror}"
    if not stat.S_ISDIR(mode):
        return "this is not a directory"
    return "" if os.access(directory, os.R_OK | os.X_OK) else "this directory can't be read"


def _unreadable_modules(path: Directories) -> Iterator[InitErrorDetails]:
    """Modules that this process may have imported while it was another user."""
    for file in modules.below(path):
        if os.path.lexists(file) and not os.access(file, os.R_OK):
            yield InitErrorDetails(type=wrong(f"{file} can't be read"), loc=("path",), input=file)
            return


def _hidden(name: str, path: Directories) -> str:
    other = modules.hides(name, path)
    if not other:
        return ""
    module = name.partition(":")[0].partition(".")[0]
    return f"{module} is {other}, as what is installed comes first: give the module in path another name"


def _unusable(role: str, name: str, what: Named) -> str:
    if hasattr(what, "__code__") and what.__code__.co_flags & 0x80:  # inspect.CO_COROUTINE
        return f"{name} is a coroutine function, and a factory is needed at once: make it a plain function"
    if callable(what) or (role == "factory" and is_factory(what)):
        return ""
    kind = f"{name} is of the type {type(what).__name__}"
    if role == "factory":
        return f"{kind}, and neither a factory nor can it be called"
    return f"{kind}, which can't be called for the protocol of an address"
