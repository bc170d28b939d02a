"""What the YAML parser complains about, in words that say what to do."""

import re
from typing import Any

from sockd.errors import Place, Problem

_START = "start"  # point where the thing began that went wrong, not where the parser gave up
_HERE = "here"

# A part of the parser's problem (libyaml's or PyYAML's own), where to point, and our words.
_WORDS = (
    ("unexpected end of stream", _START, "the quoted text that begins here has no end"),
    ("could not find expected ':'", _START, "this line is no 'key: value'"),
    ("mapping values are not allowed", _HERE, "a ':' can't stand here: quote the text, or indent the key"),
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
        "a '-' can't stand here: begin the list on a line of its own",
    ),
    ("node content", _HERE, "a value is missing here"),
    ("escape", _HERE, "YAML does not know this escape: write \\\\ for a backslash, or use single quotes"),
    ("number", _HERE, "YAML does not know this escape: write \\\\ for a backslash, or use single quotes"),
    ("alphabetic", _HERE, "a name must follow '&' and '*': or quote the text"),
    ("comment or", _HERE, "nothing may follow '|' and '>' on their line"),
    ("tag handle", _HERE, "the tag that begins with this '!' is not known: leave it out, or quote the text"),
    ("directive", _HERE, "a line that begins with '%' is not known here"),
    ("<document start>", _HERE, "there is more here than one mapping of keys and values"),
)


def problem(error: Any, text: str, name: str) -> Problem:
    """One line for a yaml.MarkedYAMLError about this text of the file `name`."""
    what = error.problem or ""
    line = [*re.split("\r\n|\r|\n", text), ""][error.problem_mark.line]
    if ("block end" in what or "expected key" in what) and line[: error.problem_mark.column].strip():
        return Problem(
            _place(error.problem_mark, name), "", "this can't follow what stands before it on the line"
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


def _place(mark: Any, name: str) -> Place:
    return Place(name, mark.line + 1, mark.column + 1)
