"""The file itself: opened, torn lines ended, written on at the byte, reopened."""

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.sinks.appender import Appender
from sockd.sinks.opening import SinkError

MEND = b" (torn)\n"


class FaultyAppender(Appender):
    """Takes from `faults`, for each write, how many bytes go through at most, or the error instead."""

    faults: Iterator[int] = iter(())

    def write_some(self, data: Any) -> int:
        fault = next(self.faults, None)
        if fault is None:
            return super().write_some(data)
        if fault < 0:
            raise OSError(-fault, os.strerror(-fault))
        return super().write_some(data[: max(fault, 1)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def appender(path: Path, mode: int = 0o640, faults: tuple[int, ...] = ()) -> FaultyAppender:
    file = FaultyAppender(path, mode, lambda: MEND)
    file.faults = iter(faults)
    return file


def test_records_are_appended(path: Path) -> None:
    """What the queue holds is written as one, below what was there, and counted."""
    path.write_bytes(b"before\n")
    file = appender(path)
    file.open()
    file.open()
    file.queue.extend([b"one\n", b"two\n"])
    file.write()
    file.write()
    file.close()
    file.close()
    assert path.read_bytes() == b"before\none\ntwo\n"
    assert file.written == 8
    assert file.unwritten_lines() == 0


def test_much_is_written_in_portions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Putting it together holds up the reactor; one that fails keeps all that comes after it."""
    monkeypatch.setattr("sockd.sinks.appender.PORTION", 8)
    file = appender(path, faults=(100, 3, -errno.ENOSPC))
    file.open()
    file.queue.extend([b"%d\n" % number for number in range(10)])
    with pytest.raises(SinkError):
        file.write()
    assert path.read_bytes() == b"0\n1\n2\n3\n4\n5"
    assert (file.written, file.unwritten) == (11, 9)
    file.write()
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(10))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_new_file_has_exactly_the_mode(path: Path, mode: int) -> None:
    """Whatever the umask says."""
    before = os.umask(0o077)
    try:
        file = appender(path, mode)
        file.open()
        file.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_file_that_exists_keeps_its_mode(path: Path) -> None:
    """It is its owner's business."""
    path.touch(0o604)
    path.chmod(0o604)
    file = appender(path)
    file.open()
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize(("before", "after"), [(b"a\nb", b"a\nb (torn)\n"), (b"a\n", b"a\n"), (b"", b"")])
def test_a_torn_line_is_ended(path: Path, before: bytes, after: bytes) -> None:
    """And marked, before anything else is written; a file that ends with a newline, or is empty, is whole."""
    path.write_bytes(before)
    file = appender(path, faults=(2, 3))
    file.queue.append(b"new\n")
    file.open()
    file.write()
    file.close()
    assert path.read_bytes() == after + b"new\n"


def test_a_file_that_cannot_be_read_is_not_mended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing may be allowed without reading; then nobody knows whether a line is torn."""
    path.write_bytes(b"torn")
    file = appender(path)
    file.queue.append(b"new\n")

    def unreadable(*_arguments: object) -> bytes:
        raise OSError(errno.EIO, "error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", unreadable)
        file.open()
    file.write()
    file.close()
    really_open = os.open

    def write_only(name: Any, flags: int, *mode: int, **more: Any) -> int:
        if not flags & (os.O_WRONLY | os.O_PATH):
            raise PermissionError(errno.EACCES, "denied")
        return really_open(name, flags, *mode, **more)

    path.write_bytes(b"torn")
    file.queue.append(b"new\n")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", write_only)
        file.open()
    file.write()
    file.close()
    assert path.read_bytes() == b"tornnew\n"


def test_clear_reasons(tmp_path: Path) -> None:
    """Each file that can't be opened is named with its reason, in one line."""
    (tmp_path / "plain").touch()
    (tmp_path / "dangling").symlink_to("nowhere/app.log")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, reason in [
            ("none/app.log", f"the directory {tmp_path}/none does not exist"),
            ("plain/app.log", "Not a directory"),
            (".", "Is a directory"),
            ("dangling", f"the directory {tmp_path}/nowhere does not exist"),
            ("fifo", "no program reads from this FIFO (or it is a socket)"),
            ("socket", "no program reads from this FIFO (or it is a socket)"),
        ]:
            with pytest.raises(SinkError) as caught:
                appender(tmp_path / name).open()
            assert str(caught.value) == f"{tmp_path / name}: {reason}"


def test_a_link_to_nothing_yet(tmp_path: Path) -> None:
    """The file is made at the link's end, with its mode; after it was rotated away there, it is made anew."""
    there = tmp_path / "data" / "app.log"
    there.parent.mkdir()
    link = tmp_path / "app.log"
    link.symlink_to("data/app.log")
    file = appender(link)
    file.open()
    append(file, b"one\n")
    there.rename(tmp_path / "data" / "app.log.1")
    assert file.reopen()
    append(file, b"two\n")
    file.close()
    assert link.is_symlink()
    assert (tmp_path / "data" / "app.log.1").read_bytes() == b"one\n"
    assert there.read_bytes() == b"two\n"
    assert stat.S_IMODE(there.stat().st_mode) == 0o640


def append(file: Appender, record: bytes) -> None:
    file.queue.append(record)
    file.write()


def test_other_kinds_of_file_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block device, say, is no place for lines."""
    file = appender(path)
    really = os.fstat

    def block_device(fd: int) -> os.stat_result:
        found = list(really(fd))
        found[0] = stat.S_IFBLK
        return os.stat_result(found)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", block_device)
        with pytest.raises(SinkError, match="is neither a file nor a FIFO"):
            file.open()


def test_a_fifo_that_is_full_is_waited_for(tmp_path: Path) -> None:
    """More than a pipe holds goes through while somebody reads; when nobody does, that is the reason."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    record = b"x" * 300_000 + b"\n"
    received = bytearray()

    def read() -> None:
        while len(received) < len(record):
            received.extend(os.read(reading, 65536))

    thread = threading.Thread(target=read)
    file = Appender(path, 0o640, lambda: MEND)
    file.open()
    file.queue.append(record)
    thread.start()
    file.write()
    thread.join()
    assert received == record
    os.close(reading)
    file.queue.append(b"lost?\n")
    with pytest.raises(SinkError, match="Broken pipe"):
        file.write()
    assert file.unwritten_lines() == 1
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file.open()
    file.write()
    file.close()
    assert os.read(reading, 100) == b"lost?\n"
    os.close(reading)


def test_a_descriptor_of_ours_is_shared(tmp_path: Path) -> None:
    """What is redirected to a file has one place to write at: we and the log don't overwrite each other."""
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as out:
        file = appender(Path(f"/proc/self/fd/{out.fileno()}"))
        out.write(b"log 1, torn by nobody")
        file.open()
        file.queue.append(b"record 1\n")
        file.write()
        out.write(b"log 2\n")
        assert not file.reopen()
        file.queue.append(b"record 2\n")
        file.write()
        file.close()
        out.write(b"log 3\n")
    assert path.read_bytes() == b"log 1, torn by nobodyrecord 1\nlog 2\nrecord 2\nlog 3\n"
    with pytest.raises(SinkError, match="Bad file descriptor"):
        file.open()


def test_a_shared_pipe_gets_whole_records() -> None:
    """None is longer than the kernel keeps apart from what others write, unless a record itself is."""
    sizes = []

    class Recording(FaultyAppender):
        def write_some(self, data: Any) -> int:
            sizes.append(super().write_some(data))
            return sizes[-1]

    here, there = socket.socketpair()  # as systemd gives it for standard output
    with here, there:
        file = Recording(Path(f"/dev/fd/{there.fileno()}"), 0o640, lambda: MEND)
        file.open()
        file.queue += [b"x" * 99 + b"\n"] * 60 + [b"y" * 5000 + b"\n"]
        file.write()
        file.close()
        assert here.recv(20000)
    assert sizes == [4000, 2000, 4096, 905]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE])
def test_writing_goes_on_at_the_byte(path: Path, error: int) -> None:
    """A write that goes through in part and then fails continues there, with no mark of a crash.

    A file that is closed, as what it holds is not certain, takes the part back first.
    """
    file = appender(path, faults=(7, -error))
    file.open()
    file.queue.append(b"first\nsecond\n")
    with pytest.raises(SinkError) as caught:
        file.write()
    assert str(caught.value) == f"{path}: {os.strerror(error)}"
    goes_on = error in (errno.ENOSPC, errno.EDQUOT)
    assert path.read_bytes() == (b"first\ns" if goes_on else b"first\n")
    assert file.written == 6 + goes_on
    assert file.unwritten_lines() == 1
    file.queue.append(b"third\n")
    assert file.unwritten_lines() == 2
    file.open()
    file.write()
    file.close()
    assert path.read_bytes() == b"first\nsecond\nthird\n"


def test_a_file_deleted_to_make_room_is_let_go(path: Path) -> None:
    """Its room comes back only then; writing goes on in a new file, which begins with a whole record."""
    file = appender(path, faults=(3, -errno.ENOSPC))
    file.open()
    file.queue.append(b"abcdef\n")
    with pytest.raises(SinkError):
        file.write()
    path.unlink()
    file.open()
    file.write()
    file.close()
    assert path.read_bytes() == b"abcdef\n"


def test_reopening(path: Path) -> None:
    """What came before is in the old file, what comes after in the new one."""
    old = path.with_suffix(".1")
    file = appender(path)
    file.reopen()
    assert not path.exists()
    file.open()
    file.queue.append(b"one\n")
    file.write()
    path.rename(old)
    file.queue.append(b"two\n")
    file.write()
    file.reopen()
    file.queue.append(b"three\n")
    file.write()
    file.reopen()
    file.close()
    assert old.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_reopening_that_fails_keeps_the_old_file(path: Path) -> None:
    """Nothing is lost while somebody repairs the directory."""
    file = appender(path)
    file.open()
    old = path.with_suffix(".1")
    path.rename(old)
    path.mkdir()
    with pytest.raises(SinkError, match="Is a directory"):
        file.reopen()
    file.queue.append(b"one\n")
    file.write()
    file.close()
    assert old.read_bytes() == b"one\n"


def test_a_half_written_record_ends_in_the_old_file(path: Path) -> None:
    """A file that is moved away while a record is half-written gets the rest of it, if it takes it."""
    old = path.with_suffix(".1")
    file = appender(path, faults=(3, -errno.ENOSPC))
    file.open()
    file.queue.append(b"abcdef\nnext\n")
    with pytest.raises(SinkError):
        file.write()
    path.rename(old)
    file.reopen()
    assert file.unwritten_lines() == 1
    file.open()
    file.write()
    file.close()
    assert old.read_bytes() == b"abcdef\n"
    assert path.read_bytes() == b"next\n"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_the_old_file_takes_no_more(path: Path, error: int) -> None:
    """Then the record is whole in the new one: each is in one file, once."""
    old = path.with_suffix(".1")
    file = appender(path, faults=(3, -errno.ENOSPC, -error))
    file.open()
    file.queue.append(b"abcdef\nnext\n")
    with pytest.raises(SinkError):
        file.write()
    path.rename(old)
    file.reopen()
    file.open()
    file.write()
    file.close()
    assert old.read_bytes() == b""
    assert path.read_bytes() == b"abcdef\nnext\n"


def half_written(path: Path, *more_faults: int) -> FaultyAppender:
    """A file on a full disk that has taken a record, and three bytes of the next."""
    file = appender(path, faults=(6, -errno.ENOSPC, *more_faults))
    file.open()
    file.queue.append(b"12\nabcdef\nnext\n")
    with pytest.raises(SinkError):
        file.write()
    assert path.read_bytes() == b"12\nabc"
    return file


def go_on_in_the_next_program(path: Path, state: Any) -> None:
    """As after an upgrade."""
    after = appender(path)
    after.thaw(state)
    after.open()
    after.write()
    after.close()


def emptied(path: Path) -> bytes:
    """logrotate's `copytruncate`: what was there is in a copy."""
    found = path.read_bytes()
    os.truncate(path, 0)
    return found[: found.rfind(b"\n") + 1]  # the copy ends within a record, as a torn file does


def removed(path: Path) -> bytes:
    found = path.read_bytes()
    path.unlink()
    return found[: found.rfind(b"\n") + 1]


def written_by_others(path: Path) -> bytes:
    with path.open("ab") as other:
        other.write(b"..others\n")
    return b""


@pytest.mark.parametrize("replace", [emptied, removed, written_by_others])
def test_whatever_replaces_the_file_gets_whole_records(path: Path, replace: Any) -> None:
    """Where the file doesn't end any more with what was written of a record, that is written whole."""
    file = half_written(path)
    before = replace(path)
    file.open()
    file.write()
    file.close()
    assert before + path.read_bytes() in (b"12\nabcdef\nnext\n", b"12\nabc..others\nabcdef\nnext\n")
    assert file.written == 15


def test_a_file_cut_short_by_somebody_is_no_end_of_ours(path: Path) -> None:
    """A torn line that is left there is ended and marked; the record follows whole."""
    file = half_written(path)
    os.truncate(path, 4)
    file.write()
    file.close()
    assert path.read_bytes() == b"12\na" + MEND + b"abcdef\nnext\n"


def test_the_number_of_a_deleted_file_given_to_another(path: Path) -> None:
    """File systems do that; in the next program after an upgrade, too."""
    file = half_written(path)
    state = file.freeze()
    path.unlink()
    path.write_bytes(b"")
    found = path.stat()
    state["inode"] = [found.st_dev, found.st_ino]
    go_on_in_the_next_program(path, state)
    assert path.read_bytes() == b"abcdef\nnext\n"


def test_the_next_program_goes_on_at_the_byte(path: Path) -> None:
    """In the same file, after an upgrade."""
    go_on_in_the_next_program(path, half_written(path).freeze())
    assert path.read_bytes() == b"12\nabcdef\nnext\n"


def test_a_new_reader_of_a_fifo_gets_whole_records(path: Path) -> None:
    """The one before has left within a record."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = appender(path, faults=(3, -errno.EPIPE))
    file.open()
    file.queue.append(b"abcdef\n")
    with pytest.raises(SinkError):
        file.write()
    os.close(reader)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file.open()
    file.write()
    assert os.read(reader, 100) == b"abcdef\n"
    os.close(reader)
    file.close()


def test_a_part_that_can_not_be_taken_back_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file that may only grow (chattr +a); the record is whole in the new one all the same."""
    file = half_written(path, -errno.ENOSPC)
    old = path.with_suffix(".1")
    path.rename(old)

    def only_grows(*_: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "ftruncate", only_grows)
    file.reopen()
    file.write()
    file.close()
    assert old.read_bytes() == b"12\nabc"
    assert path.read_bytes() == b"abcdef\nnext\n"


def test_what_only_closing_reveals(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server may say at the end that it could not store what it took."""
    file = appender(path)
    file.open()
    really = os.close

    def no_room(closed: int) -> None:
        name = os.readlink(f"/proc/self/fd/{closed}")
        really(closed)
        if name == str(path):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", no_room)
        with pytest.raises(SinkError, match="quota"):
            file.close()


@given(
    st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), max_size=6),
    st.lists(st.one_of(st.integers(1, 30), st.sampled_from([-errno.ENOSPC, -errno.EIO])), max_size=40),
    st.lists(st.booleans(), max_size=60),
)
def test_any_faults_leave_what_was_accepted(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[bytes]],
    faults: list[int],
    moves: list[bool],
) -> None:
    """However writes fail and files are moved, the files together hold each record once, in order."""
    directory = tmp_path_factory.mktemp("faults")
    path = directory / "app.log"
    file = appender(path, faults=tuple(faults))
    accepted = b""
    moved: list[Path] = []
    choices = iter(moves)

    def perhaps_move() -> None:
        if next(choices, False) and path.exists():
            moved.append(path.rename(directory / str(len(moved))))
            file.reopen()

    def write() -> None:
        while True:
            perhaps_move()
            try:
                file.open()
                file.write()
            except SinkError:
                continue
            return

    for batch in batches:
        records = [record.replace(b"\n", b"") + b"\n" for record in batch]
        file.queue.extend(records)
        accepted += b"".join(records)
        write()
        assert file.written == len(accepted)
    file.close()
    files = [*moved, *([path] if path.exists() else [])]
    assert b"".join(one.read_bytes() for one in files) == accepted
