"""Durations, sizes and rates as people write them: `500ms`, `64KiB`, `20/s`."""

import re
from dataclasses import dataclass
from math import inf

MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

DURATION = r"^[0-9]{1,9}(ms|s|m|h|d)$"
SIZE = r"^[0-9]{1,9}(B|kB|KB|MB|GB|KiB|MiB|GiB)$"
# Durations as other programs take them: `5 min`, `2weeks`.
_FOREIGN_DURATION = (
    r"([0-9]{1,6}) ?(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:eeks?)?)"
)
# Sizes as other programs take them: `10M`, `10 MB`, `10mb`, `10MiB`.
_FOREIGN_SIZE = r"([0-9]{1,9}) ?([kKmMgG])[iI]?[bB]?"
# Rates as other programs take them: `10/sec`, `10 per minute`, `10r/s`.
_FOREIGN_RATE = r"([0-9]{1,9}) ?r?(?:/|p|per) ?1?(s(?:ec(?:ond)?)?|m(?:in(?:ute)?)?|h(?:(?:ou)?r)?)"
RATE = r"^[0-9]{1,9}/(s|m|h)$"


@dataclass(frozen=True, order=True, slots=True)
class Rate:
    """How often something may happen: `count` times in `per` seconds, all of which may come in one burst."""

    count: int
    per: float

    @property
    def per_second(self) -> float:
        return self.count / self.per

    def __str__(self) -> str:
        unit = {1.0: "s", 60.0: "m", 3600.0: "h"}.get(self.per)
        return f"{self.count}/{unit}" if unit else f"{self.count} in {self.per:g}s"


def duration(text: str, least: float = 0, most: float = inf) -> float:
    """The seconds that a text like `30s` is; ValueError, with what to write, if it is none.

    What to write is a value from `least` to `most` seconds, as the caller refuses others.
    """
    if not re.fullmatch(DURATION, text):
        meant = re.fullmatch(_FOREIGN_DURATION, text)
        if meant:
            count, unit = int(meant[1]), meant[2][0]
            written = f"{count * 7}d" if unit == "w" else f"{count}{unit}"
            if least <= duration(written) <= most:
                raise ValueError(f"{text!r} is not a duration: write {written}")
        raise ValueError(f"{text!r} is not a duration: write a whole number and ms, s, m, h or d, like 30s")
    number = text.rstrip("mshd")
    return int(number) * MILLISECONDS[text[len(number) :]] / 1000


def size(text: str) -> int:
    """The bytes that a text like `64KiB` is; ValueError, with what to write, if it is none."""
    if not re.fullmatch(SIZE, text):
        meant = re.fullmatch(_FOREIGN_SIZE, text)
        if meant and int(meant[1]):
            unit = "KiB" if meant[2].lower() == "k" else f"{meant[2].upper()}iB"
            raise ValueError(f"{text!r} is not a size: write {int(meant[1])}{unit}")
        raise ValueError(
            f"{text!r} is not a size: write a whole number and B, KiB, MiB, GiB, kB, MB or GB, like 64KiB"
        )
    number = text.rstrip("BkKMGi")
    return int(number) * BYTES[text[len(number) :]]


def rate(text: str) -> Rate:
    """The rate that a text like `20/s` is; ValueError, with what to write, if it is none."""
    if not re.fullmatch(RATE, text):
        meant = re.fullmatch(_FOREIGN_RATE, text.lower().replace(" per ", "/"))
        if meant and int(meant[1]):
            raise ValueError(f"{text!r} is not a rate: write {int(meant[1])}/{meant[2][0]}")
        raise ValueError(f"{text!r} is not a rate: write a whole number and /s, /m or /h, like 20/s")
    count, per = text.split("/")
    return Rate(int(count), _PER[per])


def format_duration(seconds: float) -> str:
    """Seconds in the largest unit that is exact: 90 is `90s`, 3600 is `1h`, 0.5 is `500ms`."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        whole, rest = divmod(milliseconds, MILLISECONDS[unit])
        if not rest and whole:
            return f"{whole}{unit}"
    return f"{milliseconds}ms"


def format_size(count: int) -> str:
    """Bytes in the largest unit that is exact: 65536 is `64KiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        whole, rest = divmod(count, BYTES[unit])
        if not rest and whole:
            return f"{whole}{unit}"
    return f"{count}B"


def counted(count: int, what: str) -> str:
    """`1 connection`, `2 connections`."""
    return f"{count} {what}{'' if count == 1 else 's'}"
