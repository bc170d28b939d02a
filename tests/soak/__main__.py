"""Soaks a daemon: `python -m tests.soak --seconds 120 [--seed N]`; exits with 1 where anything was lost.

Clients of all sorts use it while it is reloaded, upgraded, suspended and attacked, while its disk is full,
its port stolen and its file broken. The same seed gives the same deeds in the same order.
"""

import argparse
import random
import signal
import sys
from pathlib import Path

from tests.soak.books import Account
from tests.soak.soak import Soak
from tests.soak.world import World, scratch


def run(directory: Path, seed: int, seconds: float) -> Account:
    """A soak in this directory."""
    with World(directory) as world:
        soak = Soak(world, seed, seconds)
        if not world.disk:
            soak.account.tell("left out: the full disk, which only root can have")
        return soak.run()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Soak a sockd, and give an account."
    )
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, help="repeats what was done in the soak that printed it")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"soak of {arguments.seconds:g} s, SEED={seed}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the daemon and its disk don't stay
    try:
        with scratch() as directory:
            account = run(directory, seed, arguments.seconds)
    except KeyboardInterrupt:
        parser.exit(130, f"\nSEED={seed}: broken off\n")
    sys.stdout.write("\n".join(["", *account.lines, ""]))
    failures = len(account.failures)
    sys.stdout.write(f"SEED={seed}: {f'{failures} of it is not well' if failures else 'nothing was lost'}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
