"""A watch over a socket's file says so, look after look, when the file isn't ours any more."""

from pathlib import Path

from twisted.internet.task import Clock

from sockd.transports.sockets.unix import SocketFile
from sockd.transports.sockets.watch import FILE_CHECK_INTERVAL, FileWatch


def test_lost_until_stopped(tmp_path: Path) -> None:
    """Each look reports it, until the watch is stopped, be it from the report itself."""
    path = tmp_path / "a.sock"
    path.touch()
    clock, lost = Clock(), []

    def report() -> None:
        lost.append(clock.seconds())
        if len(lost) == 2:
            watch.stop()

    watch = FileWatch(clock, SocketFile.of(str(path)), report)
    clock.pump([FILE_CHECK_INTERVAL] * 3)
    assert not lost
    path.unlink()
    clock.pump([FILE_CHECK_INTERVAL] * 5)
    assert lost == [4 * FILE_CHECK_INTERVAL, 5 * FILE_CHECK_INTERVAL]
    assert not clock.getDelayedCalls()
    watch.stop()
