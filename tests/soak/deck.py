"""What is done to the daemon, and when: the same for the same seed and time."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

FIRST = 1.0  # seconds in which clients only come
LAST = 2.0  # seconds before the end in which nothing more is begun
GAPS = (0.1, 0.6)  # seconds between two deeds, at least and at most


@dataclass(frozen=True, order=True)
class Deed:
    """From this second on do this; what is random in it comes from `salt`."""

    at: float
    name: str
    salt: int


def deal(names: Sequence[str], seed: int, seconds: float) -> list[Deed]:
    """Every deed comes once before any comes again, in an order of its own each time.

    How long a deed takes isn't known here: those that are late are done one after another, and what isn't
    begun when the time is over is left out.
    """
    generator = random.Random(seed)
    deck: list[str] = []
    deeds = []
    at = FIRST
    while at < seconds - LAST:
        if not deck:
            deck = sorted(names)
            generator.shuffle(deck)
        deeds.append(Deed(round(at, 3), deck.pop(), generator.randrange(2**32)))
        at += generator.uniform(*GAPS)
    return deeds
