"""Turns what a model refuses into problems, each with its place in the file and words that say what to do."""

from collections.abc import Callable, Collection
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sockd.base.errors import Place, Problem
from sockd.base.spelling import offer
from sockd.base.units import counted
from sockd.config import keys
from sockd.config.values import Items, Mapping, Scalar, Value, read_as, shown

# What pydantic's error says of its kind. Any: as pydantic has it.
_Context = dict[str, Any]
Steps = tuple[str | int, ...]  # from the root of a file to a value


def show(path: Steps) -> str:
    """`endpoints.echo.listen[0]`"""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            word = step if step.isprintable() and len(step) <= 80 else shown(step)
            text += f".{word}" if text else word
    return text


def place_of(root: Value, path: Steps) -> Place:
    """The place of the value at this path, or of the innermost value around it that is there."""
    here: Value = root
    place = root.place
    for step in path:
        if isinstance(here, Mapping) and isinstance(step, str) and step in here:
            place = here.keys_at[step]
            here = here[step]
        elif isinstance(here, Items) and isinstance(step, int) and step < len(here):
            here = here[step]
            place = here.place
        else:
            return place
    return here.place if isinstance(here, Scalar | Items) else place


def key_place(root: Value, path: Steps) -> Place:
    """The place of the key at the end of this path, or of the item in a list."""
    parent: Any = root  # Any: the model has found something at each step
    for step in path[:-1]:
        parent = parent[step]
    return parent.keys_at[str(path[-1])] if isinstance(parent, Mapping) else place_of(root, path)


def of_model(
    error: ValidationError,
    model: type[BaseModel],
    root: Value,
    at: Steps,
    options: Collection[str] = (),
) -> list[Problem]:
    """The problems of the value at the path `at` of `root`, which the model refused.

    `options` are those of the protocol, if the value is an endpoint: a key may be one of them.
    """
    return [_problem(one, model, root, at, options) for one in error.errors(include_url=False)]


def steps_to(error: ErrorDetails) -> Steps:
    """The steps to what an error of pydantic's is about, from the value that the model refused."""
    *before, last = error["loc"] or ("<whole>",)
    # A step in angle brackets is the tag of one of several forms, not of the file; an unknown key is its own.
    inner = tuple(step for step in before if not str(step).startswith("<"))
    return inner + ((last,) if error["type"] == "extra_forbidden" or not str(last).startswith("<") else ())


def _problem(
    error: ErrorDetails, model: type[BaseModel], root: Value, at: Steps, options: Collection[str]
) -> Problem:
    kind = error["type"]
    unknown = kind == "extra_forbidden"
    inner = steps_to(error)
    path = at + inner
    if unknown:
        known = keys.of_model(_model_at(model, inner[:-1]))
        place = keys.place(path[:-1])
        text = keys.unknown(str(path[-1]), error["input"], place, known, options)
        return Problem(key_place(root, path), show(path[:-1]), text)
    if kind == "missing":
        last = path[-1]
        what = f"the key '{last}'" if isinstance(last, str) else f"number {last + 1} of the list"
        return Problem(place_of(root, path[:-1]), show(path[:-1]), f"{what} is missing")
    if kind == "sockd_key":
        return Problem(key_place(root, path), show(path[:-1]), str(error["msg"]))
    words = _WORDS.get(kind)
    text = words(error["input"], error.get("ctx", {})) if words else _others(error)
    return Problem(place_of(root, path), show(path), text)


def _model_at(model: type[BaseModel], path: Steps) -> type[BaseModel]:
    """The model of the mapping at this path below a model."""
    for step in path:
        model = keys.below(model, str(step)) or model
    return model


def _others(error: ErrorDetails) -> str:
    """The message of a type that isn't sockd's, on one line and with a lower-case letter at its beginning."""
    text = " ".join(str(error["msg"]).split())
    return text[:1].lower() + text[1:] if error["type"] != "sockd" else text


def not_a_mapping(value: object, _context: object = None) -> str:
    """The text of a problem: this value is where a mapping belongs."""
    kind = read_as(value)
    if kind == "null":
        return "there is no value here: write keys below, or leave it out"
    return f"keys and values are expected here, not {'a list' if kind == 'list' else shown(str(value))}"


def _not_a_list(value: object, _context: object) -> str:
    return f"a list is expected here, not {shown(str(value)) if isinstance(value, str) else 'a mapping'}"


def _none_of(value: object, context: _Context) -> str:
    words = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
    kind = read_as(value)
    if kind in ("list", "mapping"):
        return f"one of {', '.join(words)} is expected here, not a {kind}"
    return f"{shown(str(value))} is not known here{offer(str(value), words)}"


# Any: the value that was refused, whose type is its kind of error's.
_WORDS: dict[str, Callable[[Any, _Context], str]] = {
    "int_parsing": lambda value, _context: f"{shown(str(value))} is not a whole number",
    "float_parsing": lambda value, _context: f"{shown(str(value))} is not a number",
    "model_type": not_a_mapping,
    "model_attributes_type": not_a_mapping,
    "dict_type": not_a_mapping,
    "list_type": _not_a_list,
    "tuple_type": _not_a_list,
    "literal_error": _none_of,
    "greater_than_equal": lambda value, context: f"{value} is too small: at least {context['ge']}",
    "less_than_equal": lambda value, context: f"{value} is too large: at most {context['le']}",
    "greater_than": lambda value, context: f"{value} is too small: more than {context['gt']}",
    "less_than": lambda value, context: f"{value} is too large: less than {context['lt']}",
    "too_short": lambda _value, context: f"at least {context['min_length']} is needed here",
    "too_long": lambda _value, context: f"at most {context['max_length']} are possible here",
    "string_too_short": lambda value, context: (
        f"{shown(str(value))} is too short: at least {counted(context['min_length'], 'character')}"
    ),
    "string_too_long": lambda value, context: (
        f"{shown(str(value))} is too long: at most {counted(context['max_length'], 'character')}"
    ),
    "string_pattern_mismatch": lambda value, context: (
        f"{shown(str(value))} does not fit the pattern {context['pattern']}"
    ),
}
