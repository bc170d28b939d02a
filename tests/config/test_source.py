"""Files are read within bounds; whatever can't be read is told with its place."""

import os
from pathlib import Path

import pytest

from sockd.config import source
from sockd.config.source import MAX_FILE_BYTES, UnreadableError, decode, read


def problem(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(path)
    assert str(caught.value.problem.place) == str(path)  # no line of it is to blame
    return caught.value.problem.text


def test_reads_text(tmp_path: Path) -> None:
    """A file of the largest size is read whole."""
    file = tmp_path / "a"
    file.write_bytes(b"#" * MAX_FILE_BYTES)
    assert len(read(file)) == MAX_FILE_BYTES


def test_ten_megabytes(tmp_path: Path) -> None:
    """A large file is refused by its size, before anything looks into it."""
    file = tmp_path / "a"
    file.write_bytes(b"#" * 10_000_000)
    assert problem(file) == "the file has 10000000 bytes: at most 4194304 are read"


def test_not_a_file(tmp_path: Path) -> None:
    """Directories, devices and FIFOs are told as what they are, without waiting for a writer."""
    os.mkfifo(tmp_path / "fifo")
    assert problem(tmp_path) == "this is a directory, not a file"
    assert problem(tmp_path / "fifo") == "this is not a regular file"
    assert problem(Path("/dev/zero")) == "this is not a regular file"


def test_no_file(tmp_path: Path) -> None:
    """The system's reason is told."""
    assert problem(tmp_path / "a") == "there is no such file"
    assert problem(tmp_path / ("x" * 300)) == "the file can't be read: File name too long"
    assert problem(Path("a\0b")) == "the file can't be read: its path has a null character"


def test_the_usual_file_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who named no file learns how to name one."""
    monkeypatch.setattr(source, "DEFAULT_FILE", str(tmp_path / "sockd.yaml"))
    assert problem(tmp_path / "sockd.yaml") == "there is no such file: name another with -c FILE"


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    """A file of somebody else's is told as that."""
    file = tmp_path / "a"
    file.touch(0)
    assert problem(file) == "the file can't be read: Permission denied"


def test_unreadable_for_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `open` refuses is told, whoever runs this test."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert problem(tmp_path / "a") == "the file can't be read: Permission denied"


@pytest.mark.parametrize(
    ("data", "place", "text"),
    [
        (b"a: 1\nb: \xff\n", "f:2:4", "byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbf\xff", "f:1:1", "byte 0xff is not UTF-8"),
        (b"\xc3\xa9\xc3\n", "f:1:2", "byte 0xc3 is not UTF-8"),
        ("a: 1".encode("utf-16"), "f:1:1", "the file is UTF-16: save it as UTF-8"),
        (b"a\0", "f:1:2", 'the character U+0000 is not allowed here: escape it in "..."'),
        (b"a\r\nb\r\xc2\x85", "f:3:1", 'the character U+0085 is not allowed here: escape it in "..."'),
        (b"a\n\xef\xbb\xbf", "f:2:1", 'the character U+FEFF is not allowed here: escape it in "..."'),
    ],
)
def test_no_text(data: bytes, place: str, text: str) -> None:
    """What is no text is told with the line and the column where it stops being one."""
    with pytest.raises(UnreadableError) as caught:
        decode(data, "f")
    assert (str(caught.value.problem.place), caught.value.problem.text) == (place, text)
