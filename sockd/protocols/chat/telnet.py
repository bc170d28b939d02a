r"""Takes out of a member's bytes what its telnet client sends besides text.

Between the bytes of a text a telnet client sends commands, each of which begins with the byte 255, IAC (RFC
854). It asks for options (RFC 855), tells the size of its window, which may hold a 10 that ends no line,
interrupts, or asks whether we are there. None of this may reach the room, and some of it wants an answer: a
client whose user typed Ctrl-C shows nothing more until its `DO TIMING-MARK` has one.

Every option is refused, so that the client stays in the state in which every connection begins: it edits and
echoes lines by itself, and sends them whole. No loop can come of that: only a request is answered, never a
refusal, and one option no more than ANSWERS_PER_OPTION times.

A client that is in character mode nevertheless ends lines with CR NUL, and sends erase keys as it sends
letters. Such keys, and telnet's own commands that erase, stay in the line until it is complete, as marks that
begin with a byte 255, which UTF-8 never has; `edited` applies them. Bytes 255 of the text itself are passed
on as 254, which is no UTF-8 either.
"""

import re

from sockd.base.frozen import State
from sockd.base.lines import Mark

ANSWERS_PER_OPTION = 20  # a client's `mode character` asks again each time
UNLIMITED_OPTION = 6  # TIMING-MARK (RFC 860): each one has its answer
SUBNEGOTIATION_LIMIT = 1024  # bytes: a terminal's name, or its environment, takes less

_EOT = b"\x04"  # what Ctrl-D sends
_WILL, _WONT, _DO, _DONT = 0xFB, 0xFC, 0xFD, 0xFE
_REFUSALS = {_WILL: _DONT, _DO: _WONT}
_END_OF_FILE, _ARE_YOU_THERE = 0xEC, 0xF6
_INTERRUPTS = {0xEE, 0xF3, 0xF4}  # ABORT, BREAK, INTERRUPT PROCESS
_ERASE_CHARACTER, _ERASE_LINE = b"\xff\xf7", b"\xff\xf8"
_TYPED = b"\xff\xf0"  # a line that came from character mode
_LEAVE = b"\xff\xec"

_BARE_CR = re.compile(rb"\r(?!\n)")
# In the order of trial: whole sequences, the beginning of one at the end of the bytes, a byte 255 alone.
# A subnegotiation ends with IAC SE. Any other command ends it too, and is one itself, as BSD's telnet has it.
_SEQUENCE = re.compile(
    rb"""(?P<eot>\x04)
    |\xff(?P<request>[\xfb-\xfe])(?P<option>.)
    |\xff\xfa(?:[^\xff]|\xff\xff)*+(?:\xff\xf0|(?=\xff[^\xff]))
    |\xff(?P<command>[\xec-\xf9])
    |\r(?P<typed>\x00)
    |(?P<unfinished>\xff\xfa(?:[^\xff]|\xff\xff)*+\xff?\Z|\xff[\xfb-\xfe]?\Z|\r\Z)
    |(?P<text>\xff\xff?)
    |(?P<cr>\r)""",
    re.VERBOSE | re.DOTALL,
)
_KEYS = re.compile(rb"[\x08\x7f]|(\x15)")  # backspace, delete; Ctrl-U


def special(data: bytes) -> bool:
    """Whether these bytes hold more than text and line ends; others need not go through `Telnet.text`."""
    # A search for a number is memchr(3): 35 ns each. A regular expression takes 120 to 450 for all.
    return 255 in data or 4 in data or (13 in data and _BARE_CR.search(data) is not None)


class EndlessError(Exception):
    """The peer began a subnegotiation and never ended it."""


class Telnet:
    """The telnet client at the other end of one connection, if there is one.

    `unfinished` is a sequence whose rest hasn't arrived: the next bytes belong to it. `answers` are to be
    sent; `asked` says that the client wants a sign of life. `spoken` is true from its first command, or line
    in character mode, on.
    """

    __slots__ = ("_answered", "answers", "asked", "spoken", "unfinished")

    def __init__(self) -> None:
        self.unfinished = b""
        self.answers = b""
        self.asked = False
        self.spoken = False
        self._answered: dict[int, int] = {}  # option -> how often; at most 256 of them

    def text(self, data: bytes, line: bytes | Mark) -> bytes:
        """The text, and marks, in bytes that arrived behind `line`, the line that is unfinished so far.

        EndlessError where a subnegotiation is longer than SUBNEGOTIATION_LIMIT.
        """
        data = self.unfinished + data
        self.unfinished = b""
        text = bytearray()
        before = b"" if line == b"" else b"?"
        if isinstance(line, bytes) and line.endswith(_ERASE_LINE):
            before = _ERASE_LINE
        end = 0
        for found in _SEQUENCE.finditer(data):
            text += data[end : found.start()]
            end = found.end()
            text += self._sequence(found, bytes(text[-2:]) or before)
        text += data[end:]
        return bytes(text)

    def _sequence(self, found: re.Match[bytes], before: bytes) -> bytes:
        """What is passed on in place of a sequence. `before` is the end of the line before it."""
        sort = found.lastgroup
        if sort == "text":
            return b"\xfe"
        if sort == "typed":
            self.spoken = True
            return _TYPED + b"\n"
        fresh = not before or before.endswith(b"\n")
        if sort == "cr":
            return b"" if fresh else b"\r"  # before a line it is blank (`LineSplitter`)
        if sort == "eot":
            return _LEAVE + b"\n" if fresh else _EOT
        if len(found[0]) > SUBNEGOTIATION_LIMIT:
            raise EndlessError
        if sort == "unfinished":
            self.unfinished = found[0]
            return b""
        self.spoken = True
        if sort == "option":
            self._refuse(found["request"][0], found["option"][0])
        elif sort == "command":
            return self._command(found["command"][0], before if not fresh else b"")
        return b""

    def _refuse(self, request: int, option: int) -> None:
        refusal = _REFUSALS.get(request)
        if refusal is None:
            return  # it refuses what we never asked for
        count = self._answered.get(option, 0)
        if count < ANSWERS_PER_OPTION:
            if option != UNLIMITED_OPTION:
                self._answered[option] = count + 1
            self.answers += bytes((0xFF, refusal, option))

    def _command(self, command: int, before: bytes) -> bytes:
        if command == _END_OF_FILE:
            return _LEAVE + b"\n"
        if command == _ARE_YOU_THERE:
            self.asked = True
        elif command in _INTERRUPTS or command == _ERASE_LINE[1]:
            # A user who types nothing but interrupts doesn't make the line longer.
            return _ERASE_LINE if before and before != _ERASE_LINE else b""
        elif command == _ERASE_CHARACTER[1]:
            return _ERASE_CHARACTER if before else b""
        return b""

    def freeze(self) -> State:
        return {
            "unfinished": self.unfinished,
            "spoken": self.spoken,
            "answered": [[option, count] for option, count in self._answered.items()],
        }

    def thaw(self, state: State) -> None:
        self.unfinished = bytes(state["unfinished"])
        self.spoken = bool(state["spoken"])
        self._answered = {int(option): int(count) for option, count in state["answered"]}


def edited(line: bytes) -> bytes | None:
    """A complete line with its marks applied; None where it asks to leave."""
    if _LEAVE in line:
        return None
    if line.endswith(_TYPED):
        line = _KEYS.sub(lambda key: _ERASE_LINE if key[1] else _ERASE_CHARACTER, line.removesuffix(_TYPED))
    line = line[line.rfind(_ERASE_LINE) + 2 :] if _ERASE_LINE in line else line
    first, *others = line.split(_ERASE_CHARACTER)
    kept = bytearray(first)
    for each in others:
        _erase_character(kept)
        kept += each
    return bytes(kept)


def _erase_character(line: bytearray) -> None:
    """Take away the last character, all its bytes in UTF-8."""
    while line and line.pop() & 0xC0 == 0x80:
        continue
