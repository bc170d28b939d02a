"""Fixtures of the end-to-end tests: daemons and programs that are gone when the test is."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import JSON_LOG, TWISTD, Daemon
from tests.end_to_end.programs import Process

Serve = Callable[..., Daemon]


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory whose path is short enough for Unix sockets, and which every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="sockd-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def write(directory: Path, text: str) -> Path:
    """A file for sockd, logging JSON unless it says itself how to log."""
    file = directory / "sockd.yaml"
    file.write_text(text if "daemon:" in text else JSON_LOG + text)
    return file


@pytest.fixture
def serve(directory: Path) -> Iterator[Serve]:
    """Starts daemons; each must end without a traceback, unless the test says that it provokes one."""
    started: list[tuple[Daemon, bool]] = []

    def start(
        text: str,
        *options: str,
        door: Sequence[str] = TWISTD,
        wait: bool = True,
        tracebacks: bool = False,
        **more: Any,
    ) -> Daemon:
        daemon = Daemon(directory, write(directory, text), door, options, **more)
        started.append((daemon, tracebacks))
        return daemon.serving() if wait else daemon

    yield start
    for daemon, _ in started:
        if daemon.process.poll() is None:
            daemon.process.terminate()  # so that its coverage is written
            try:
                daemon.wait()
            finally:
                daemon.end()
        daemon.end()
    for daemon, tracebacks in started:
        if not tracebacks:
            assert "Traceback" not in daemon.text, daemon.text
            assert "Unhandled" not in daemon.text, daemon.text


@pytest.fixture
def program() -> Iterator[Callable[..., Process]]:
    """Starts programs that nobody here wrote; skips the test where one is not installed."""
    started: list[Process] = []

    def start(name: str, *arguments: str | Path, **options: Any) -> Process:
        path = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{name} is not installed (see .ci/run)")
        one = Process([path, *arguments], **options)
        started.append(one)
        return one

    yield start
    for one in started:
        one.end()
