"""A short soak, and one of a daemon that dies in it: the account says which was well."""

import re
import signal
import subprocess
import sys
import threading

import pytest

from tests.end_to_end.harness import ROOT
from tests.soak.soak import Soak
from tests.soak.world import World, scratch

SECONDS = 12  # of the short one
SOAK_TIMEOUT = 110.0  # seconds that it may take in all, on a busy machine

pytestmark = pytest.mark.slow


@pytest.mark.timeout(SOAK_TIMEOUT + 10)
def test_a_short_soak() -> None:
    """Nothing is lost; the account is printed, with the seed that repeats the deeds."""
    one = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--seed", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SOAK_TIMEOUT,
        check=False,
    )
    print(one.stdout)  # noqa: T201
    assert one.returncode == 0, one.stdout + one.stderr
    assert one.stdout.startswith(f"soak of {SECONDS} s, SEED=4\n")
    assert re.search(r"^ +[1-9] of 12 s  ", one.stdout, re.MULTILINE)
    assert one.stdout.endswith("SEED=4: nothing was lost\n")


@pytest.mark.timeout(SOAK_TIMEOUT + 10)
def test_a_daemon_that_dies() -> None:
    """What that cost is in the account, which is a failure."""
    with scratch() as directory, World(directory) as world:
        timer = threading.Timer(3.0, world.daemon.signal, [signal.SIGKILL])
        timer.start()
        account = Soak(world, 4, 5).run()
        timer.join()
    assert any(failure.startswith("visitors of echo") for failure in account.failures), account.lines
    assert any(failure.startswith("residents of echo and chat") for failure in account.failures)
    assert any("can't be finished" in failure for failure in account.failures)
