"""The names of users, for the log and for people: the kernel knows them as numbers."""

import pwd
from functools import lru_cache

from sockd.base.text import visible


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """The name of a user, safe to be shown; empty where the system knows none.

    It is looked up once: a directory service that answers slowly delays a user's first line, and no other.
    """
    try:
        return visible(pwd.getpwuid(uid).pw_name)
    except (KeyError, OSError, OverflowError):
        return ""
