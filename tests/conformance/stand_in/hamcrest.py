"""The little of PyHamcrest that Twisted's tests of reactors need, where it isn't installed."""

from collections.abc import Callable

Matcher = Callable[[object], bool]


def equal_to(wanted: object) -> Matcher:
    return lambda there: there == wanted


def assert_that(there: object, matcher: Matcher) -> None:
    assert matcher(there), there
