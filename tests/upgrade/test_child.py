"""A rehearsal's child: what it says, how it ends, and that it ends."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sockd.upgrade import child
from sockd.upgrade.child import OUTPUT_LIMIT, rehearse
from sockd.upgrade.value import Handover, HandoverError, UpgradeRefusedError

HANDOVER = Handover(file="f", runtime="r", logs="l", started=1.0, reload="from the running program")
READ = """
import os
from sockd.upgrade.passing import take
print(take(os.environ).reload)
"""


def run(program: str) -> Deferred[str]:
    """Rehearse with this program for the new one."""
    return rehearse(reactor, [sys.executable, "-c", program], os.environ, HANDOVER)


async def refused(program: str) -> tuple[str, ...]:
    with pytest.raises(UpgradeRefusedError) as caught:
        await run(program)
    return caught.value.problems


@pytest_twisted.ensureDeferred
async def test_the_child_reads_the_handover() -> None:
    """It may say something when all went well."""
    assert await run(READ) == "from the running program"


@pytest_twisted.ensureDeferred
async def test_the_child_gets_nothing_else() -> None:
    """No socket of the daemon's, and no terminal."""
    inside = await run(
        "import os\n"
        "fds = os.listdir('/proc/self/fd')\n"  # listing them takes one more
        "print(sorted(map(int, fds))[:4], len(fds), os.readlink('/proc/self/fd/0'))\n"
        "print(os.readlink('/proc/self/fd/3'))\n"
    )
    assert inside.splitlines() == ["[0, 1, 2, 3] 5 /dev/null", "/memfd:sockd-handover (deleted)"]


@pytest_twisted.ensureDeferred
async def test_its_problems_are_the_reasons() -> None:
    """A line each, safe to be shown."""
    assert await refused("import sys; sys.exit('one\\n\\nt\\x1b[31mwo\\n')") == ("one", "t\\x1b[31mwo")


@pytest_twisted.ensureDeferred
async def test_a_program_that_does_not_start_gives_its_last_word() -> None:
    """Half an installation ends in a traceback; nobody wants all of it."""
    [line] = await refused("import sockd.no_such_module")
    assert (
        line == "the new program doesn't start: ModuleNotFoundError: No module named 'sockd.no_such_module'"
    )


@pytest_twisted.ensureDeferred
async def test_the_place_of_what_is_wrong_in_a_program(tmp_path: Path) -> None:
    """An exception in a file, and a file that is no Python, are named with the line."""
    file = tmp_path / "broken.py"
    load = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import broken"
    file.write_text("\n1 / 0\n")
    assert await refused(load) == (
        f"the new program doesn't start: ZeroDivisionError: division by zero ({file}:2)",
    )
    file.write_text("x = 1\ny = = 2\n")
    assert await refused(load) == (f"the new program doesn't start: SyntaxError: invalid syntax ({file}:2)",)


@pytest_twisted.ensureDeferred
async def test_one_that_says_nothing_is_refused_too() -> None:
    """The status or the signal is all that there is to say."""
    assert await refused("import os; os._exit(3)") == (
        "the rehearsal ended with status 3 and printed nothing",
    )
    # Whatever ended it before its last word, as a module of a third party's may: it has not rehearsed.
    assert await refused("import os; os._exit(0)") == (
        "the rehearsal ended with status 0 and printed nothing",
    )
    [line] = await refused("import os; os.kill(os.getpid(), 11)")
    assert line == "the rehearsal ended with signal 11 and printed nothing"


@pytest_twisted.ensureDeferred
async def test_what_it_says_is_bounded() -> None:
    """And read to the end all the same, so that it does end."""
    said = await run("print('x' * 1_000_000)")
    assert said == "x" * OUTPUT_LIMIT


@pytest_twisted.ensureDeferred
async def test_it_is_ended_when_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has started may go on: its pipes are not waited for."""
    monkeypatch.setattr(child, "TIME_LIMIT", 0.0)
    monkeypatch.setattr(child.Child, "connectionMade", _when_it_speaks(child.Child))
    problems = await refused(
        "import os, time\n"
        "os.fork()\n"
        "while True:\n"  # until nobody listens any more
        "    os.write(2, b'!')\n"
        "    time.sleep(0.01)\n"
    )
    assert problems == ("the rehearsal was ended: it took longer than 0s",)


def _when_it_speaks(kind: Any) -> Callable[[Any], None]:
    """Begins to measure the time when the child has said something."""
    made = kind.connectionMade

    def later(self: Any) -> None:
        made(self)
        self.timer.cancel()
        received = self.childDataReceived

        def first(number: int, data: bytes) -> None:
            self.childDataReceived = received
            made(self)
            received(number, data)

        self.childDataReceived = first

    return later


@pytest_twisted.ensureDeferred
async def test_it_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon stops: the child does not outlive it."""
    ended: Deferred[None] = Deferred()
    process_ended = child.Child.processEnded

    def tell(self: Any, reason: Failure) -> None:
        process_ended(self, reason)
        ended.errback(reason)

    monkeypatch.setattr(child.Child, "processEnded", tell)
    rehearsal = run("import time; time.sleep(600)")
    rehearsal.cancel()
    with pytest.raises(CancelledError):
        await rehearsal
    with pytest.raises(ProcessTerminated, match="signal 9"):
        await ended


@pytest_twisted.ensureDeferred
async def test_it_may_not_start_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, no memory: the running program goes on."""

    class Full(Clock):
        def spawnProcess(self, *_: Any, **__: Any) -> None:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with pytest.raises(UpgradeRefusedError, match="can't be started: Resource temporarily unavailable"):
        await rehearse(Full(), [sys.executable], {}, HANDOVER)
    with pytest.raises(HandoverError, match="reload: a value of the type object"):
        await rehearse(Full(), [sys.executable], {}, Handover("f", "r", "l", 1.0, reload=object()))


@pytest_twisted.ensureDeferred
async def test_an_executable_that_is_gone() -> None:
    """One line says which; no child is started for it."""
    with pytest.raises(UpgradeRefusedError, match="can't be started: /nowhere/python is gone, or may"):
        await rehearse(reactor, ["/nowhere/python"], os.environ, HANDOVER)
