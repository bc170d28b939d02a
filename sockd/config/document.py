"""Parses a file's YAML into values that know their place, or into the problems that keep it from it.

The YAML is one document, of bounded depth and size, without tags and merge keys. A text that isn't YAML is
one problem (`syntax`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml

from sockd.base.errors import Place, Problem
from sockd.config import source
from sockd.config.values import Items, Mapping, Scalar, Value, shown

MAX_DEPTH = 32  # lists and mappings within each other
MAX_VALUES = 200_000  # in one file, where an alias counts as what it stands for

_SURROGATE = re.compile("[\ud800-\udfff]")
# libyaml's, where PyYAML was built with it. Any: two classes that have no base in common.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """What a file holds; `root` is None where it is empty or couldn't be parsed."""

    root: Value | None
    problems: tuple[Problem, ...]


def read(path: Path) -> Document:
    """Read and parse a file."""
    try:
        return parse(source.read(path), str(path))
    except source.UnreadableError as error:
        return Document(None, (error.problem,))


def parse(text: str, name: str) -> Document:
    """Parse a text that comes from the file `name`."""
    builder = _Builder(name)
    try:
        builder.build(yaml.parse(text, Loader=Loader))
    except yaml.MarkedYAMLError as error:
        from sockd.config import syntax  # noqa: PLC0415 - most files are YAML

        builder.problems.append(syntax.problem_of(error, text, name))
        return Document(None, tuple(builder.problems))
    except _StopError:
        return Document(None, tuple(builder.problems))
    return Document(builder.root, tuple(builder.problems))


class _StopError(Exception):
    """Stops the parsing at a problem, which has been noted, after which no further one would be true."""


@dataclass
class _Open:
    """A list or mapping whose end hasn't been parsed yet."""

    value: Items | Mapping
    anchor: str | None
    before: int  # how many values were counted before it
    key: str | None = None  # of a mapping: the key whose value comes next
    key_seen: bool = False


@dataclass
class _Builder:
    """Builds the tree of values from the parser's events. Its own stack keeps deep nesting off Python's."""

    name: str
    root: Value | None = None
    problems: list[Problem] = field(default_factory=list)
    _stack: list[_Open] = field(default_factory=list)
    _anchors: dict[str, tuple[Value, int] | None] = field(default_factory=dict)
    _count: int = 0
    _documents: int = 0

    def build(self, events: Iterable[yaml.Event]) -> None:
        for event in events:
            place = self._place(event)
            match event:
                case yaml.ScalarEvent():
                    self._tag(event, place)
                    if _SURROGATE.search(event.value):  # libyaml refuses them itself
                        self._stop(
                            place,
                            "this escape is a surrogate, half of a character: write the whole character",
                        )
                    self._add(Scalar(event.value, place, plain=not event.style), event.anchor, 1)
                case yaml.AliasEvent():
                    self._alias(str(event.anchor), place)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._tag(event, place)
                    self._begin(event, place)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    done = self._stack.pop()
                    self._add(done.value, done.anchor, self._count - done.before, counted=True)
                case yaml.DocumentStartEvent():
                    self._documents += 1
                    if self._documents > 1:
                        self._stop(place, "a second document begins here: a file holds one")

    def _begin(self, event: yaml.CollectionStartEvent, place: Place) -> None:
        if len(self._stack) == MAX_DEPTH:
            self._stop(place, f"lists and mappings are nested more than {MAX_DEPTH} deep here")
        mapping = isinstance(event, yaml.MappingStartEvent)
        if self._stack and isinstance(self._stack[-1].value, Mapping) and not self._stack[-1].key_seen:
            self._stop(place, f"a key must be a word, not a {'mapping' if mapping else 'list'}")
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(Mapping(place) if mapping else Items(place), event.anchor, self._count))

    def _add(self, value: Value, anchor: str | None, count: int, *, counted: bool = False) -> None:
        self._count += 1 if counted else count
        if self._count > MAX_VALUES:
            self._stop(value.place, f"the file has more than {MAX_VALUES} values, aliases written out")
        if anchor:
            self._anchors[anchor] = (value, count + counted)
        if not self._stack:
            self.root = value
            return
        parent = self._stack[-1]
        if isinstance(parent.value, Items):
            parent.value.append(value)
        elif not parent.key_seen:
            parent.key_seen = True
            parent.key = self._key(parent.value, cast("Scalar", value))  # _begin and _alias refuse others
        else:
            if parent.key is not None:
                parent.value[parent.key] = value
            parent.key_seen = False

    def _key(self, mapping: Mapping, key: Scalar) -> str | None:
        """The key as text, or None where it is wrong and its value is skipped."""
        text = str(key)
        if text == "<<" and key.plain:
            self._note(key.place, "the merge key '<<' is not supported: put what is shared under 'defaults'")
            return None
        if text in mapping.keys_at:
            first = mapping.keys_at[text].line
            self._note(key.place, f"the key {shown(text)} is here twice: first on line {first}")
            return None
        mapping.keys_at[text] = key.place
        return text

    def _alias(self, anchor: str, place: Place) -> None:
        if anchor not in self._anchors:
            self._stop(place, f"the alias *{anchor} has no anchor &{anchor} before it: or quote the text")
        known = self._anchors[anchor]
        if known is None:
            self._stop(place, f"the alias *{anchor} is within its own anchor")
        parent = self._stack[-1]  # an alias can't be the whole document: its anchor would not be known
        if isinstance(parent.value, Mapping) and not parent.key_seen:
            self._stop(place, f"a key must be a word, not the alias *{anchor}")
        value, count = known
        self._add(value, None, count)

    def _tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: Place) -> None:
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._note(place, f"the tag {shown(tag)} is not supported: leave it out, or quote the text")

    def _place(self, event: Any) -> Place:  # Any: the parser's have a mark, unseen by mypy
        return Place(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _note(self, place: Place, text: str) -> None:
        self.problems.append(Problem(place, "", text))

    def _stop(self, place: Place, text: str) -> NoReturn:
        self._note(place, text)
        raise _StopError
