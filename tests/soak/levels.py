"""What a daemon has before and after a soak: memory, descriptors, and what lives in its memory."""

import statistics

from tests.soak.books import Account

GROWTH = 32.0  # MiB that the daemon may have more at rest in the end than at rest in the beginning
SLOPE = 16.0  # MiB that it may have more in the last third than in the middle, in a soak that is long
LONG = 60.0  # seconds
# At most so many more of each.
LEAKED = {"fds": 2, "Deferred": 20, "timers": 3, "Connection": 1, "Failure": 5, "socket": 2}

Levels = dict[str, float]


def leaks(before: Levels, after: Levels) -> list[str]:
    """What there is too much of."""
    return [
        f"{after[name] - before[name]:.0f} more {name} than before, at most {most} may be"
        for name, most in LEAKED.items()
        if after[name] - before[name] > most
    ]


def compare(account: Account, before: Levels, after: Levels, course: list[float], seconds: float) -> None:
    """What there is at rest after all, and how much memory it took until then."""
    found = leaks(before, after)
    shown = ", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in LEAKED)
    account.check(not found, f"at rest, before and after: {shown}", *found)
    grown = after["resident"] - before["resident"]
    told = f"resident memory at rest: {before['resident']:.0f} MiB -> {after['resident']:.0f} MiB"
    account.check(grown <= GROWTH, f"{told}, at most {GROWTH:.0f} more")
    third = len(course) // 3
    if seconds >= LONG and third:
        middle, last = statistics.median(course[third:-third]), statistics.median(course[-third:])
        account.check(
            last - middle <= SLOPE,
            f"resident memory at work: {middle:.0f} MiB in the middle, {last:.0f} MiB in the last third",
        )
