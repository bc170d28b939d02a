"""The valid word to offer for one that was mistyped."""

from collections.abc import Iterable

_LONGEST = 64  # comparing takes quadratic time, and nobody mistypes so long a word


def offer(word: str, known: Iterable[str]) -> str:
    """What to put behind a message about an unknown word: `, did you mean 'listen'?`, or what there is."""
    import difflib  # noqa: PLC0415 - most files have no mistake

    words = sorted(known)
    near = difflib.get_close_matches(word[:_LONGEST].lower(), words, n=1)
    if near:
        return f", did you mean '{near[0]}'?"
    if not words[1:]:
        return f": there is {words[0]}" if words else ": there are none here"
    return f": there are {', '.join(words[:-1])} and {words[-1]}"
