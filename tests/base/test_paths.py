"""Which paths stand for a descriptor that we have."""

import os
from pathlib import Path

import pytest

from sockd.base.paths import own_descriptor


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/dev/stdout", 1),
        ("/dev/stderr", 2),
        ("/dev/fd/7", 7),
        ("/proc/self/fd/7", 7),
        ("/dev/../proc/self/fd/7", 7),
        (f"/proc/{os.getpid()}/fd/7", 7),
        ("/proc/1/fd/7", None),
        ("/proc/self/fd", None),
        ("/proc/self/fd/x", None),
        ("/dev/null", None),
        ("/", None),
        ("app.log", None),
        ("7", None),
    ],
)
def test_by_name(path: str, number: int | None) -> None:
    """The usual names of our own descriptors, and of nobody else's."""
    assert own_descriptor(Path(path)) == number


def test_through_links(tmp_path: Path) -> None:
    """As containers have it: the log's usual place is a link to standard output."""
    (tmp_path / "there").symlink_to("/dev/stdout")
    (tmp_path / "here").symlink_to("there")
    (tmp_path / "loop").symlink_to("loop")
    assert own_descriptor(tmp_path / "here") == 1
    assert own_descriptor(tmp_path / "loop") is None
