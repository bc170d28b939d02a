"""Whatever is written, with either parser, is read or told about in one line with a place."""

from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.errors import Problem
from sockd.config import document, source, syntax
from sockd.config.document import parse

# Not a parameter of the test: pytest-twisted runs a hypothesis test once only.
loaders = st.sampled_from([yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])


@given(st.text(st.characters(codec="utf-8")) | st.text("a:-[]{}&*!|>'\"%@`,?# \n\\x", max_size=30), loaders)
def test_nothing_but_problems(text: str, loader: Any) -> None:
    """No text leads to anything but values and problems."""
    problems: tuple[Problem, ...]
    try:
        with mock.patch.object(document, "Loader", loader):
            problems = parse(source.decode(text.encode(), "f"), "f").problems
    except source.UnreadableError as error:
        problems = (error.problem,)
    lines = len(text.splitlines()) + 1
    assert all(1 <= problem.place.line <= lines for problem in problems)
    assert all(str(problem).isprintable() for problem in problems)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "a: !foo!bar x\n",
            "this tag is not supported: leave it out, or quote the text",
        ),
        ('a: "\\xzz"\n', "YAML does not know this escape: write \\\\ for a backslash, or use single quotes"),
        ("a: &\n", "a name must follow '&' and '*': or quote the text"),
        ("a: 1\n...\nb: 2\n", "something follows the mapping of keys and values: a file has one"),
        ("- a\nb: c\n", "the indentation does not fit the lines above"),
        ("a: !<foo x\n", "this is not YAML: did not find the expected '>'"),
        ("a: |\n\tx\n", "a tab can't indent: use spaces"),
    ],
)
def test_words(text: str, problem: str) -> None:
    """The parser's problems in our words, and its own where we have none."""
    assert [one.text for one in parse(text, "f").problems] == [problem]


def test_a_parser_without_words() -> None:
    """A problem that names none is still told."""
    error = yaml.MarkedYAMLError(problem_mark=yaml.Mark("f", 0, 0, 0, "", 0))
    assert syntax.problem_of(error, "", "f").text == "this is not YAML: "
