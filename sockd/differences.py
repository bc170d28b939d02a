"""Two trees of keys and values, compared, in the file's words."""

from collections.abc import Iterator
from typing import Any

from sockd.rendering import in_line

_UNSET = object()


_LONGEST_SHOWN = 100  # characters of a value


def lines(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line about each key below which the trees differ."""
    return [f"{key}: {how}" for key, how in differences(old, new)]


def differences(old: dict[str, Any], new: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The keys below which the trees differ, as `limits.idle`, and how they do."""
    for key in old | new:
        one, other = old.get(key, _UNSET), new.get(key, _UNSET)
        if one == other and type(one) is type(other):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f"{above}{key}.")
        else:
            before, after = _shown(one), _shown(other)
            yield f"{above}{key}", "changed" if before == after else f"{before} -> {after}"


def _shown(value: Any) -> str:
    text = "unset" if value is _UNSET else in_line(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
