"""Puts what keeps a text from being YAML into words: the line to change, and what to write there.

A parser notices a slip only where it can't go on, which is often a line later, and it names its own state
there. So the line where it stopped and the one before it are looked at first for the slips that people
make: a ':' or a '-' without a space after it, a key without a ':', an address that YAML reads as something
of its own. Where there is none, the parser's own message is put into plainer words.
"""

import re
from collections.abc import Iterator
from typing import Any

from sockd.base.errors import Place, Problem
from sockd.config.values import shown

_KEY = r"[A-Za-z_][A-Za-z0-9_.-]*"
_BEFORE_KEY = r"\s*(?:- +)?"
_NO_SPACE = re.compile(rf"{_BEFORE_KEY}(?P<key>{_KEY}):(?P<value>[^\s/].*)")
_EQUALS = re.compile(rf"{_BEFORE_KEY}(?P<key>{_KEY})\s*=\s*(?P<value>\S.*)")
_DASH = re.compile(r"\s*-(?P<value>[^\s-].*)")
_NO_COLON = re.compile(rf"{_BEFORE_KEY}(?P<key>{_KEY})(?:\s+(?P<value>\S+))?\s*")
# A host in brackets, or `*`: YAML reads the one as a list and the other as an alias.
_BARE_ADDRESS = re.compile(r".*?(?:: |- )\s*(?P<value>(?:\[[0-9A-Fa-f:.]*\]|\*):[0-9]+)\s*(?:#.*)?")
# Parts of the parser's messages that may be about such a slip.
_OF_SLIPS = (
    "could not find expected ':'",
    "mapping values are not allowed",
    "block end",
    "expected key",
    "expected '-' indicator",
    "sequence entries are not allowed",
    "node content",
    "alphabetic",
)

# Where a problem is shown: where the parser began with what it couldn't finish, or where it stopped.
_START = "start"
_HERE = "here"

# A part of the parser's message (libyaml's or PyYAML's own), where the problem is shown, and its text.
_WORDS = (
    ("unexpected end of stream", _START, "the quoted text that begins here has no end"),
    ("could not find expected ':'", _START, "this line is no 'key: value'"),
    ("mapping values are not allowed", _HERE, "a ':' is not allowed here: quote the text, or indent the key"),
    ("',' or ']'", _START, "the list that begins with this '[' has no ']'"),
    ("',' or '}'", _START, "the mapping that begins with this '{' has no '}'"),
    ("violate", _HERE, "a tab can't indent: use spaces"),  # libyaml 0.2.5 has the typo "violate indentation"
    ("tab character", _HERE, "a tab can't indent: use spaces"),
    ("expected <block end>", _HERE, "the indentation does not fit the lines above"),
    ("did not find expected key", _HERE, "the indentation does not fit the lines above"),
    ("expected '-' indicator", _HERE, "the indentation does not fit the lines above"),
    (
        "sequence entries are not allowed",
        _HERE,
        "a '-' is not allowed here: begin the list on a line of its own",
    ),
    ("node content", _HERE, "a value is missing here"),
    ("escape", _HERE, "YAML does not know this escape: write \\\\ for a backslash, or use single quotes"),
    ("number", _HERE, "YAML does not know this escape: write \\\\ for a backslash, or use single quotes"),
    ("alphabetic", _HERE, "a name must follow '&' and '*': or quote the text"),
    ("comment or", _HERE, "nothing may follow '|' and '>' on their line"),
    ("tag handle", _HERE, "this tag is not supported: leave it out, or quote the text"),
    ("directive", _HERE, "directives, lines that begin with '%', are not supported"),
    ("<document start>", _HERE, "something follows the mapping of keys and values: a file has one"),
)

# A yaml.MarkedYAMLError. Any: the parser's always have a mark and a problem, which the type doesn't say.
_MarkedError = Any
_Mark = Any  # of one. Any: libyaml's is of another class than PyYAML's own


def problem_of(error: _MarkedError, text: str, name: str) -> Problem:
    """The problem that a yaml.MarkedYAMLError is about, in a text of the file `name`."""
    lines = [*re.split("\r\n|\r|\n", text), ""]
    mark = error.problem_mark
    may_slip = any(part in (error.problem or "") for part in _OF_SLIPS)
    for number in _suspects(lines, mark.line) if may_slip else ():
        found = _slip(lines, number, stopped_here=number == mark.line)
        if found:
            column, words = found
            return Problem(Place(name, number + 1, column + 1), "", words)
    return _in_words(error, lines[mark.line], name)


def _suspects(lines: list[str], stopped: int) -> Iterator[int]:
    """The lines that may have the slip: the last one before the parser stopped that has text, and its own."""
    before = stopped - 1
    while before >= 0 and not lines[before].partition("#")[0].strip():
        before -= 1
    if before >= 0:
        yield before
    yield stopped


def _slip(lines: list[str], number: int, *, stopped_here: bool) -> tuple[int, str] | None:
    """The column of a slip on this line, and what to write; None if it has none that is known."""
    line = lines[number]
    bare = _BARE_ADDRESS.fullmatch(line)
    if bare and stopped_here:
        return bare.start("value"), f"write tcp://{bare['value']}: an address begins with its kind"
    dash = _DASH.fullmatch(line)
    if dash:
        value = _shown(dash["value"])
        return dash.start("value") - 1, f"a space belongs after the '-': write - {value}"
    joined = _NO_SPACE.fullmatch(line)
    if joined:
        value = _shown(joined["value"])
        return joined.start("key"), f"a space belongs after the ':': write {joined['key']}: {value}"
    equals = _EQUALS.fullmatch(line)
    if equals:
        value = _shown(equals["value"])
        return equals.start("key"), f"write {equals['key']}: {value}, with ':' in place of '='"
    word = _NO_COLON.fullmatch(line)
    if word and (stopped_here or _indent(lines[number + 1]) >= _indent(line) + (not word["value"])):
        value = f" {word['value']}" if word["value"] else ""
        return word.start("key"), f"a ':' is missing: write {word['key']}:{_shown(value)}"
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _shown(text: str) -> str:
    """What a line holds, as part of a message: without quotes where it is short and can be printed."""
    return text if text.isprintable() and len(text) <= 60 else shown(text)


def _in_words(error: _MarkedError, line: str, name: str) -> Problem:
    """The parser's message in plainer words."""
    what = error.problem or ""
    if ("block end" in what or "expected key" in what) and line[: error.problem_mark.column].strip():
        return Problem(
            _place(error.problem_mark, name), "", "this can't follow what is before it on the line"
        )
    for part, where, words in _WORDS:
        if part in what:
            mark = error.context_mark if where is _START and error.context_mark else error.problem_mark
            return Problem(_place(mark, name), "", words)
    mark = error.problem_mark
    if "cannot start any token" in what:
        character = line[mark.column]
        if character == "\t":
            return Problem(_place(mark, name), "", "a tab can't indent: use spaces")
        return Problem(_place(mark, name), "", f"a value can't begin with {character}: put it in quotes")
    return Problem(_place(mark, name), "", f"this is not YAML: {what}")


def _place(mark: _Mark, name: str) -> Place:
    return Place(name, mark.line + 1, mark.column + 1)
