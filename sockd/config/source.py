"""A file's text, read within bounds: regular files only, not too long, UTF-8, nothing invisible."""

import os
import re
import stat
from pathlib import Path

from sockd.base import descriptors
from sockd.base.errors import Place, Problem

USUAL_FILE = "/etc/sockd/sockd.yaml"  # where the file is unless -c or $SOCKD_CONFIG names another
LARGEST_FILE = 4 * 2**20  # bytes; some 20,000 endpoints
WHOLE = 0  # the line of a problem that no line of the file has

# What YAML does not take unescaped, and the line ends that it knows but editors don't count.
INVISIBLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


class UnreadableError(Exception):
    """The text can't be had; holds the one problem that says why."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(place, "", text)


def read(path: Path) -> str:
    """The text of a file; UnreadableError where there is none to be had, without waiting for anything."""
    name = str(path)
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = descriptors.take(lambda: os.open(path, flags))
        try:
            what = os.fstat(descriptor)
            if stat.S_ISDIR(what.st_mode):
                raise UnreadableError(Place(name, WHOLE), "this is a directory, not a file")
            if not stat.S_ISREG(what.st_mode):
                raise UnreadableError(Place(name, WHOLE), "this is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(LARGEST_FILE + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        hint = ": write -c FILE to name yours" if name == USUAL_FILE else ""
        raise UnreadableError(Place(name, WHOLE), f"there is no such file{hint}") from error
    except OSError as error:
        raise UnreadableError(Place(name, WHOLE), f"the file can't be read: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableError(Place(name, WHOLE), f"the file can't be read: {error}") from error
    if len(data) > LARGEST_FILE:
        text = f"the file has {max(what.st_size, len(data))} bytes: at most {LARGEST_FILE} are read"
        raise UnreadableError(Place(name, WHOLE), text)
    return decode(data, name)


def decode(data: bytes, name: str) -> str:
    """The text of these bytes of the file `name`; UnreadableError where they are no text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError(Place(name), "the file is UTF-16: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode().removeprefix("\ufeff")
        byte = error.object[error.start]
        raise UnreadableError(_end_of(before, name), f"byte 0x{byte:02x} is not UTF-8") from None
    found = INVISIBLE.search(text)
    if found:
        place = _end_of(text[: found.start()], name)
        raise UnreadableError(
            place, f'the character U+{ord(found[0]):04X} can\'t stand in the file: escape it in "..."'
        )
    return text


def _end_of(before: str, name: str) -> Place:
    lines = re.split("\r\n|\r|\n", before)
    return Place(name, len(lines), len(lines[-1]) + 1)
