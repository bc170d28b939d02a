"""Files without a name: in memory, or, where a sandbox forbids that, temporary ones that are gone at once."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from sockd.base.anonymous import nameless, path_to
from tests.tree.house import raising


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("refusal", [0, errno.EPERM, errno.ENOSYS])
def test_content_has_a_path(refusal: int, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused, the content can be read by a path, and leaves nothing behind."""
    if refusal:
        monkeypatch.setattr(os, "memfd_create", raising(OSError(refusal, "refused")))
    with path_to(b"content", "test") as path:
        assert Path(path).read_bytes() == b"content"
    assert not os.listdir(temporary)


def test_without_proc(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is a file that only its owner can read, for as long as it is needed."""
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    with path_to(b"content", "test") as path:
        assert Path(path).read_bytes() == b"content"
        assert Path(path).stat().st_mode & 0o777 == 0o600
        assert Path(path).parent == temporary
    assert not os.listdir(temporary)


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is for the caller to know, not a reason to write to a disk."""
    monkeypatch.setattr(os, "memfd_create", raising(OSError(errno.EMFILE, "Too many open files")))
    with pytest.raises(OSError, match="Too many open files"):
        nameless("test")
