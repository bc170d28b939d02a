"""Suggests a known word for one that is unknown, and probably misspelt."""

from collections.abc import Iterable

# Characters of a word that are compared: comparing takes quadratic time, and nobody mistypes a longer one.
_MAX_COMPARED = 64


def offer(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: `, did you mean 'listen'?`, or all known words."""
    import difflib  # noqa: PLC0415 - most files have no mistake

    words = sorted(known)
    near = difflib.get_close_matches(word[:_MAX_COMPARED].lower(), words, n=1)
    if near:
        return f", did you mean '{near[0]}'?"
    if not words[1:]:
        return f": there is {words[0]}" if words else ": there are none here"
    return f": there are {', '.join(words[:-1])} and {words[-1]}"
