"""What a callable takes, by its signature, and how the file's `arguments` are read for it."""

import inspect
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

from sockd.base.spelling import offer
from sockd.config.form import OFF, wrong, wrong_key
from sockd.protocols.contract import AnyHost, Host
from sockd.protocols.factory.forms import Annotation, as_yaml, form_of
from sockd.protocols.factory.modules import Named

HOST = "host"
_EMPTY = inspect.Parameter.empty
_BY_POSITION = inspect.Parameter.POSITIONAL_ONLY
_MORE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Arguments:
    """The arguments of one endpoint: equal if the file says the same."""

    written: Mapping[str, object] = field(default_factory=dict)  # as YAML reads them
    shown: Mapping[str, object] = field(default_factory=dict)  # as a file anywhere may have them
    # By callable, in their types.
    values: Mapping[str, Mapping[str, object]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Callee:
    """A callable that an endpoint names: `name` is its own, for messages."""

    name: str
    what: Named
    takes: Mapping[str, inspect.Parameter]
    types: Mapping[str, Annotation]
    host: bool = False  # whether it asks for the host
    any_other: bool = False  # whether it takes arguments that it doesn't name

    @classmethod
    def of(cls, name: str, what: Named) -> "Callee":
        """By its signature; one that hides it takes anything."""
        try:
            parameters = inspect.signature(what).parameters
        except (TypeError, ValueError):
            return cls(name, what, {}, {}, any_other=True)
        types = _types_of(what, parameters)
        host = _is_host(types.get(HOST))
        takes = {
            key: one
            for key, one in parameters.items()
            if one.kind not in _MORE and not (host and key == HOST)
        }
        others = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        return cls(name, what, takes, types, host, others)

    def call(self, values: Mapping[str, object], host: AnyHost) -> Named:
        """What it returns for these arguments, in their types, and this host."""
        named = dict(values)
        if self.host:
            named[HOST] = host
        first = []
        for key, one in self.takes.items():
            if one.kind is _BY_POSITION:
                if key not in named:
                    break
                first.append(named.pop(key))
        return self.what(*first, **named)


def is_factory(what: Any) -> bool:
    """Whether it serves connections as it is, without being called."""
    return not inspect.isclass(what) and hasattr(what, "buildProtocol")


def _is_host(annotation: Annotation) -> bool:
    origin: Annotation = typing.get_origin(annotation)
    return annotation is Host or origin is Host


def _types_of(what: Named, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Annotation]:
    """The annotations; one that only a type checker can resolve is none."""
    called: Named = what.__init__ if inspect.isclass(what) else getattr(what, "func", what)
    function = inspect.unwrap(called)
    if not hasattr(function, "__annotations__"):
        function = type(function).__call__
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation may be any expression
        names = getattr(function, "__globals__", {})
        hints = {key: _evaluated(one.annotation, names) for key, one in parameters.items()}
    return {key: hint for key in parameters if (hint := hints.get(key, _EMPTY)) is not _EMPTY}


def _evaluated(annotation: Annotation, names: dict[str, object]) -> Annotation:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)  # noqa: S307 - it is part of a module that was just imported
    except Exception:  # noqa: BLE001
        return _EMPTY


def read(
    callees: Mapping[str, Callee],
    given: Mapping[str, object],
    context: object,
    errors: list[InitErrorDetails],
) -> Arguments:
    """The arguments that the file gives, for each callable that takes them; `errors` gets what is wrong."""
    written = {key: as_yaml(value) for key, value in given.items()}
    shown = dict(written)
    values: dict[str, dict[str, object]] = {role: {} for role in callees}
    for key, value in given.items():
        takers = [(role, one) for role, one in callees.items() if key in one.takes or one.any_other]
        if not takers:
            errors.append(_error(_unknown(key, callees.values()), (key,), value))
        for role, callee in takers:
            try:
                values[role][key], shown[key] = _read(callee, key, value, context)
            except ValidationError as error:
                errors += [_again(one, (key,)) for one in error.errors(include_url=False)]
                break
    for key, callee in _missing(callees.values(), given):
        text = f"the argument {key!r} of {callee.name} is missing"
        errors.append(_error(wrong(text), (), written))
    return Arguments(written, shown, values)


def _read(callee: Callee, key: str, value: object, context: object) -> tuple[object, object]:
    """The value in its type, and as a file would have it."""
    annotation = callee.types.get(key, object)
    try:
        adapter: TypeAdapter[object] = TypeAdapter(form_of(annotation))
    except (PydanticSchemaGenerationError, PydanticUserError):
        kind = getattr(annotation, "__qualname__", str(annotation))
        text = f"the argument {key!r} of {callee.name} is a {kind}, which no file can have"
        raise ValidationError.from_exception_data(key, [_error(wrong(text), (), value, below="")]) from None
    found = adapter.validate_python(value, context=context)
    return found, _as_written(adapter, found, value)


def _as_written(adapter: TypeAdapter[object], found: object, value: object) -> object:
    if found is None and value is not None:
        return OFF if value == OFF else None
    try:
        return adapter.dump_python(found, mode="json", warnings=False)
    except Exception:  # noqa: BLE001 - a third party's type
        return as_yaml(value)


def _unknown(key: str, callees: Collection[Callee]) -> PydanticCustomError:
    names = " or ".join(callee.name for callee in callees)
    if key == HOST and any(callee.host for callee in callees):
        return wrong_key(f"{names} gets its {key!r} from sockd: leave it out")
    known = {name for callee in callees for name in callee.takes}
    if not known:
        return wrong_key(f"{names} takes no arguments")
    return wrong_key(f"{names} takes no argument {key!r}{offer(key, known)}")


def _missing(callees: Collection[Callee], given: Mapping[str, object]) -> Iterator[tuple[str, Callee]]:
    missing = {
        key: callee
        for callee in callees
        for key, one in callee.takes.items()
        if one.default is _EMPTY and key not in given
    }
    yield from missing.items()


def _error(
    kind: PydanticCustomError, at: tuple[str | int, ...], value: object, below: str = "arguments"
) -> InitErrorDetails:
    return InitErrorDetails(type=kind, loc=(below, *at) if below else at, input=value)


# Any: whether its type is one of pydantic's own is found out by trying it.
def _again(error: Any, at: tuple[str, ...]) -> InitErrorDetails:
    """An ErrorDetails of pydantic's as it was before it was reported, further up in the file."""
    kind, context = error["type"], error.get("ctx")
    again = InitErrorDetails(type=kind, loc=("arguments", *at, *error["loc"]), input=error["input"])
    try:
        PydanticKnownError(kind, context)
    except (KeyError, TypeError):
        again["type"] = wrong(error["msg"])
        return again
    if kind in ("value_error", "assertion_error"):
        again["type"] = wrong(error["msg"].partition(", ")[2] or error["msg"])
    elif context:
        again["ctx"] = context
    return again
