"""Errors as people read them."""

from sockd.base.errors import FileWrongError, Place, Problem, SockdError


def test_problems_read_like_a_compilers() -> None:
    """One per line: file, line, column (unless it is the whole file), path of keys, what is wrong."""
    problems = (
        Problem(Place("a.yaml", 12, 13), "endpoints.echo.listen[0]", "port 70070 is out of range"),
        Problem(Place("a.yaml"), "", "it is empty"),
        Problem(Place("b.yaml", 0), "", "there is no such file"),
    )
    error = FileWrongError(problems)
    assert str(error) == (
        "a.yaml:12:13: endpoints.echo.listen[0]: port 70070 is out of range\n"
        "a.yaml:1:1: it is empty\n"
        "b.yaml: there is no such file"
    )
    assert error.problems == problems
    assert isinstance(error, SockdError)


def test_problems_sort_by_place() -> None:
    """In the order of the file, as numbers sort."""
    places = [Place("b", 1, 1), Place("a", 10, 1), Place("a", 9, 30), Place("a", 9, 4)]
    assert sorted(places) == places[::-1]
