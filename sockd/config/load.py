"""Loads the main file and those that it includes into models, and collects every problem in them."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sockd.base.errors import Place, Problem
from sockd.config import document, keys, problems
from sockd.config.file import Daemon, Defaults, Main
from sockd.config.form import Section
from sockd.config.model import NAME, Endpoint, Listeners
from sockd.config.problems import Steps, place_of
from sockd.config.types import Text
from sockd.config.values import Mapping, Value, read_as, shown

MAX_INCLUDED_FILES = 1000

ModelT = TypeVar("ModelT", bound=BaseModel)


class Draft(Endpoint):
    """An endpoint some of whose keys are wrong or missing: the others are checked all the same."""

    listen: Listeners = ()
    protocol: Text = ""


@dataclass(frozen=True)
class Written:
    """An endpoint, and its place in its file."""

    name: str
    endpoint: Endpoint
    root: Mapping  # the whole file

    @property
    def steps(self) -> Steps:
        return ("endpoints", self.name)

    @property
    def value(self) -> Mapping:
        """The mapping under its name; an empty one where that is something else."""
        value = self.root["endpoints"][self.name]
        return value if isinstance(value, Mapping) else Mapping(self.place)

    @property
    def place(self) -> Place:
        """The place of its name."""
        return problems.key_place(self.root, self.steps)

    def place_of(self, *steps: str | int) -> Place:
        """The place of the value at these steps below the endpoint."""
        return place_of(self.root, (*self.steps, *steps))

    def problem(self, text: str, *steps: str | int) -> Problem:
        return Problem(self.place_of(*steps), problems.show((*self.steps, *steps)), text)

    def listen_steps(self, number: int) -> Steps:
        """The steps to the address with this number; a single one needs no list."""
        return ("listen", number) if isinstance(self.value["listen"], list) else ("listen",)


@dataclass
class Loaded:
    """What the files say, as far as it is right, and every problem in them."""

    daemon: Daemon = field(default_factory=Daemon)
    defaults: Defaults = field(default_factory=Defaults)
    endpoints: list[Written] = field(default_factory=list)
    root: Mapping | None = None  # of the main file
    problems: list[Problem] = field(default_factory=list)
    options_of: keys.OptionsOf = lambda _protocol: ()

    def problem(self, text: str, *steps: str | int) -> Problem:
        """A problem with the value at these steps in the main file."""
        place = place_of(self.root, steps) if self.root else Place("")
        return Problem(place, problems.show(steps), text)


class _Top(Main):
    """The main file without its endpoints, which are read one by one."""

    endpoints: Any = None  # Any: each is read by itself, whatever it is


class _IncludedTop(Section):
    """An included file without its endpoints."""

    endpoints: object = None


def validate(
    model: type[ModelT],
    draft: type[ModelT],
    root: Value,
    at: Steps,
    found: list[Problem],
    options: Callable[[], Collection[str]] = tuple,
) -> ModelT:
    """The value at the path as a model, or, with its problems noted in `found`, the keys that are right.

    `options` returns the names of those that the protocol has, if the value is an endpoint.
    """
    value: Any = root  # Any: only the model knows what is at the path
    for step in at:
        value = value[step]
    with suppress(ValidationError):
        return model.model_validate(value)
    # Only now, as it takes longer than reading, is it found out what was meant.
    known = options()
    if isinstance(value, Mapping):

        def under(key: str) -> Collection[str]:
            if key == "endpoints":
                return keys.like_endpoints(value)
            inner = keys.below(model, key)
            return keys.of_model(inner) if inner else known if key == "options" else ()

        value = _without_outdented(value, keys.of_model(model), under, root, at, found)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found += problems.of_model(error, model, root, at, known)
        if not isinstance(value, Mapping):
            return draft.model_validate({})
        failed = [problems.steps_to(one) for one in error.errors(include_url=False)]
        try:
            return draft.model_validate(_without(value, failed))
        except ValidationError:  # a key that is needed next to those that are wrong
            wrong = {steps[:1] for steps in failed}
            return draft.model_validate({key: value[key] for key in value if (key,) not in wrong})


def _without(mapping: Mapping, failed: list[Steps]) -> Mapping:
    """A mapping without the values at these steps, so that those next to them are checked all the same."""
    right = Mapping(mapping.place)
    right.keys_at = mapping.keys_at
    for key, value in mapping.items():
        inner = [steps[1:] for steps in failed if steps[:1] == (key,)]
        if not inner:
            right[key] = value
        elif isinstance(value, Mapping) and all(steps and steps[0] in value for steps in inner):
            right[key] = _without(value, inner)
    return right


def _without_outdented(
    mapping: Mapping,
    own: Collection[str],
    under: Callable[[str], Collection[str]],
    root: Value,
    at: Steps,
    found: list[Problem],
) -> Mapping:
    """The mapping, without keys that should be indented and those above them; the first is a problem."""
    outdented = keys.outdented(mapping, own, under)
    if not outdented:
        return mapping
    reported: set[str] = set()
    for key, parent in outdented.items():
        if parent not in reported:
            reported.add(parent)
            place = problems.key_place(root, (*at, key))
            found.append(Problem(place, problems.show((*at, parent)), keys.indent(key, parent)))
    rest = Mapping(mapping.place)
    rest.keys_at = mapping.keys_at
    rest.update({key: mapping[key] for key in mapping if key not in outdented and key not in reported})
    return rest


def load(file: Path, options_of: keys.OptionsOf = lambda _protocol: ()) -> Loaded:
    """Load this file and those that it includes. Nothing is raised: see `problems` of the result.

    `options_of` returns the names of a protocol's options, for messages about keys that are unknown.
    """
    loaded = Loaded(options_of=options_of)
    root = _read(file, loaded.problems)
    if root is None:
        if not loaded.problems:
            text = "the file is empty: it needs the key 'endpoints' at least"
            loaded.problems.append(Problem(Place(str(file)), "", text))
        return loaded
    loaded.root = root
    top = validate(_Top, _Top, root, (), loaded.problems)
    loaded.daemon, loaded.defaults = top.daemon, top.defaults
    if "endpoints" in root:
        _endpoints(root, loaded)
    elif "include" not in root:
        loaded.problems.append(Problem(root.place, "", "the key 'endpoints' is missing"))
    for included in _included(file, top, root, loaded.problems):
        _include(included, loaded)
    _names(loaded)
    return loaded


def _read(file: Path, found: list[Problem]) -> Mapping | None:
    read = document.read(file)
    found += read.problems
    if read.root is None or read_as(read.root) == "null":
        return None
    if not isinstance(read.root, Mapping):
        validate(_Top, _Top, read.root, (), found)
        return None
    return read.root


def _include(file: Path, loaded: Loaded) -> None:
    root = _read(file, loaded.problems)
    if root is None:
        return
    for key in ("daemon", "include", "defaults"):
        if key in root:
            text = "this key belongs in the main file"
            loaded.problems.append(Problem(root.keys_at[key], key, text))
            del root[key]
    validate(_IncludedTop, _IncludedTop, root, (), loaded.problems)
    if "endpoints" in root:
        _endpoints(root, loaded)
    else:
        loaded.problems.append(Problem(root.place, "", "the key 'endpoints' is missing"))


def _endpoints(root: Mapping, loaded: Loaded) -> None:
    endpoints = root["endpoints"]
    if not isinstance(endpoints, Mapping):
        if not any(problem.path == "endpoints" for problem in loaded.problems):  # what should be below it
            place = place_of(root, ("endpoints",))
            loaded.problems.append(Problem(place, "endpoints", keys.no_endpoints(endpoints)))
        return
    fields = keys.of_model(Endpoint)
    names = [name for name in endpoints if name not in fields]
    endpoints = _without_outdented(
        endpoints, names, lambda _name: fields, root, ("endpoints",), loaded.problems
    )
    for name in endpoints:
        steps = ("endpoints", name)
        if not re.fullmatch(NAME, name):
            text = (
                f"{shown(name)} can't be an endpoint's name: a lower-case letter comes first,"
                " then at most 62 of a-z, 0-9, '.', '_' and '-'"
            )
            loaded.problems.append(Problem(endpoints.keys_at[name], "endpoints", text))
        options = partial(_options, endpoints[name], loaded)
        endpoint = validate(Endpoint, Draft, root, steps, loaded.problems, options)
        loaded.endpoints.append(Written(name, endpoint, root))


def _options(endpoint: Value, loaded: Loaded) -> Collection[str]:
    """The names of the options that an endpoint's protocol has, as far as it is known."""
    protocol = endpoint.get("protocol") if isinstance(endpoint, Mapping) else None
    return loaded.options_of(str(protocol)) if isinstance(protocol, str) else ()


def _names(loaded: Loaded) -> None:
    first: dict[str, Written] = {}
    for written in loaded.endpoints:
        before = first.setdefault(written.name, written)
        if before is not written:
            text = f"there is an endpoint of this name already, at {before.place}"
            loaded.problems.append(Problem(written.place, problems.show(written.steps), text))
    loaded.endpoints = list(first.values())


def _included(file: Path, top: Main, root: Mapping, found: list[Problem]) -> Iterator[Path]:
    """The files that the main file includes, each once; those of one pattern are sorted."""
    seen = {os.path.realpath(file)}
    for number, pattern in enumerate(top.include):
        steps: Steps = ("include", number) if isinstance(root["include"], list) else ("include",)
        for path in _matches(file.parent, pattern):
            problem = ""
            if isinstance(path, str):
                problem = path
            elif not _is_pattern(pattern) and os.path.realpath(path) == os.path.realpath(file):
                problem = "this is the main file itself, which can't be included"
            elif os.path.realpath(path) not in seen:
                if len(seen) > MAX_INCLUDED_FILES:
                    problem = f"more than {MAX_INCLUDED_FILES} files are included"
                else:
                    seen.add(os.path.realpath(path))
                    yield path
            if problem:
                found.append(Problem(place_of(root, steps), problems.show(steps), problem))
                return


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


def _matches(directory: Path, pattern: str) -> list[Path] | list[str]:
    """The files of one pattern, or the one problem with it."""
    if not _is_pattern(pattern):
        path = directory / pattern
        if path.is_dir():
            return [f"{path} is a directory: write {pattern.rstrip('/')}/*.yaml"]
        return [path] if os.path.lexists(path) else [f"there is no file {path}"]
    parent = directory / Path(pattern).parent
    if parent.is_dir() and not os.access(parent, os.R_OK | os.X_OK):
        return [f"the directory {parent} can't be read"]  # glob would find nothing in it, without an error
    return [directory / name for name in sorted(glob(pattern, root_dir=directory))]
