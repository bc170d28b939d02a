"""The rule for names of members and of rooms."""

import re

PATTERN = "[A-Za-z0-9_-]{1,24}"
RULE = "1 to 24 ASCII letters, digits, - and _"

_NAME = re.compile(PATTERN)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def folded(name: str) -> str:
    """What two names that differ only in case have in common."""
    return name.lower()
