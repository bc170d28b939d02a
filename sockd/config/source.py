"""Reads the text of a configuration file within bounds: regular, not too long, UTF-8, nothing invisible."""

import os
import re
import stat
from pathlib import Path

from sockd.base import descriptors
from sockd.base.errors import LACKING, Place, Problem, SystemLacksError

DEFAULT_FILE = "/etc/sockd/sockd.yaml"  # unless -c or $SOCKD_CONFIG names another
MAX_FILE_BYTES = 4 * 2**20  # some 20,000 endpoints
_WHOLE_FILE = 0  # the line of a problem that is no line's

# Characters that YAML doesn't take unescaped, and its line ends that editors don't count as such.
INVISIBLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


class UnreadableError(Exception):
    """The file can't be read, or isn't text; `problem` says why."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(place, "", text)


def read(path: Path) -> str:
    """The text of a file; UnreadableError where it can't be read. Never blocks, on a FIFO for example."""
    name = str(path)
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = descriptors.take(lambda: os.open(path, flags))
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise UnreadableError(Place(name, _WHOLE_FILE), "this is a directory, not a file")
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError(Place(name, _WHOLE_FILE), "this is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        hint = ": name another with -c FILE" if name == DEFAULT_FILE else ""
        raise UnreadableError(Place(name, _WHOLE_FILE), f"there is no such file{hint}") from error
    except OSError as error:
        if error.errno in LACKING:
            raise SystemLacksError(f"{name}: the file can't be read: {error.strerror}") from error
        raise UnreadableError(
            Place(name, _WHOLE_FILE), f"the file can't be read: {error.strerror}"
        ) from error
    except ValueError as error:  # the one reason, which each version of Python words differently
        text = "the file can't be read: its path has a null character"
        raise UnreadableError(Place(name, _WHOLE_FILE), text) from error
    if len(data) > MAX_FILE_BYTES:
        text = f"the file has {max(status.st_size, len(data))} bytes: at most {MAX_FILE_BYTES} are read"
        raise UnreadableError(Place(name, _WHOLE_FILE), text)
    return decode(data, name)


def decode(data: bytes, name: str) -> str:
    """The text of the bytes of the file `name`; UnreadableError where they aren't text."""
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
            place, f'the character U+{ord(found[0]):04X} is not allowed here: escape it in "..."'
        )
    return text


def _end_of(before: str, name: str) -> Place:
    lines = re.split("\r\n|\r|\n", before)
    return Place(name, len(lines), len(lines[-1]) + 1)
