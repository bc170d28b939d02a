"""Turns the annotation of an argument into a type that reads the forms of the file.

Types of `sockd.api` read what they read everywhere. A plain `int`, `str`, `bool`, `float`, `bytes`, `Path` or
`timedelta` reads the file's form of it, on its own and within lists, mappings and optional values; anything
else is pydantic's to read, from what YAML makes of the text.
"""

import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)

from sockd.base.units import format_duration
from sockd.config.form import OFF, Form, wrong
from sockd.config.types import Boolean, FilePath, Integer, Text, duration, read_text
from sockd.config.values import read_as, shown

# An annotation. Any: a class, a form of `typing`, or anything else that somebody wrote there.
Annotation = Any

_WORDS = {"true": True, "false": False, ".inf": math.inf, ".nan": math.nan}


def as_yaml(value: object) -> object:
    """What YAML makes of a value of the file, in Python's own types; any other object is itself."""
    if isinstance(value, dict):
        return {str(key): as_yaml(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_yaml(one) for one in value]
    if not isinstance(value, str):
        return value
    text = str(value)
    match read_as(value):
        case "null":
            return None
        case "boolean":
            return _WORDS[text.lower()]
        case "number":
            return _number(text.lower())
    return text


def _number(text: str) -> float:
    word = text.lstrip("+-")
    if word in _WORDS:
        return -_WORDS[word] if text.startswith("-") else _WORDS[word]
    for prefix, base in (("0x", 16), ("0o", 8)):
        if text.startswith(prefix):
            return int(text, base)
    return int(text) if word.isdigit() else float(text)


def form_of(annotation: Annotation) -> Annotation:
    """A type for pydantic that reads what the file may have for an argument with this annotation."""
    try:
        if annotation in _FORMS:
            return _FORMS[annotation]
    except TypeError:  # it can't be hashed
        return annotation
    origin: Annotation = typing.get_origin(annotation)
    inner: tuple[Annotation, ...] = typing.get_args(annotation)
    if origin is Annotated:
        own, *more = inner
        return annotation if any(isinstance(one, Form) for one in more) else Annotated[(form_of(own), *more)]
    if origin in (typing.Union, types.UnionType):
        return _union(inner)
    if origin is Literal and all(isinstance(one, str) for one in inner):
        return annotation
    if origin in _MAPPINGS and inner:
        return origin[inner[0], form_of(inner[1])]
    if origin in _CONTAINERS and inner:
        return _CONTAINERS[origin][tuple(one if one is ... else form_of(one) for one in inner)]
    return Annotated[annotation, BeforeValidator(as_yaml)]


def _union(members: tuple[Annotation, ...]) -> Annotation:
    forms = [form_of(one) for one in members if one is not type(None)]
    form = forms[0] if len(forms) == 1 else Annotated[object, PlainValidator(_first_of(forms))]
    return Annotated[form, WrapValidator(_or_off)] if len(forms) < len(members) else form


def _or_off(value: object, read: Callable[[object], object]) -> object:
    if value is None or value == OFF:
        return None
    if read_as(value) == "null":
        raise wrong("there is no value here: write off, or leave the key out")
    return read(value)


def _first_of(forms: list[Annotation]) -> Callable[[object, ValidationInfo], object]:
    adapters: list[TypeAdapter[object]] = [TypeAdapter(form) for form in forms]

    def read(value: object, info: ValidationInfo) -> object:
        reasons = []
        for adapter in adapters:
            try:
                return adapter.validate_python(value, context=info.context)
            except ValidationError as error:
                reasons += [one["msg"] for one in error.errors(include_url=False)]
        raise wrong(", and ".join(dict.fromkeys(reasons)))

    return read


def _read_float(value: object, _info: object) -> float:
    found = as_yaml(value)
    if isinstance(found, bool) or not isinstance(found, int | float):
        said = shown(str(value)) if isinstance(value, str) else f"a {read_as(value)}"
        raise wrong(f"{said} is not a number")
    return float(found)


def _read_bytes(value: object, _info: object) -> bytes:
    return value if isinstance(value, bytes) else read_text(value).encode()


_seconds = duration()


def _read_timedelta(value: object, info: ValidationInfo) -> timedelta:
    if isinstance(value, timedelta):
        return value
    seconds: Any = _seconds.read(value, info)  # Any: a Form has no type for what it reads
    return timedelta(seconds=seconds)


_FORMS: dict[Annotation, Annotation] = {
    Any: Annotated[object, PlainValidator(as_yaml)],  # Any: one of the annotations that a file may meet
    object: Annotated[object, PlainValidator(as_yaml)],
    int: Integer,
    str: Text,
    bool: Boolean,
    float: Annotated[float, Form(_read_float, float, {"title": "number", "type": "number"})],
    bytes: Annotated[
        bytes, Form(_read_bytes, lambda data: data.decode(errors="replace"), {"type": "string"})
    ],
    Path: FilePath,
    timedelta: Annotated[
        timedelta,
        Form(_read_timedelta, lambda time: format_duration(time.total_seconds()), _seconds.schema),
    ],
}
_MAPPINGS = (dict, Mapping)
# What is read for each: pydantic would leave an Iterable unread until somebody iterates.
_CONTAINERS = {one: one for one in (list, tuple, set, frozenset)} | dict.fromkeys(
    (Sequence, Iterable, Collection), list
)
