"""Text that would stall a splitter, fill memory, forge lines, or drive the terminal of its reader."""

import json
import re
import socket
import time

import pytest

from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, MIB, Attackers, Scene, until

pytestmark = pytest.mark.slow

# Every C0 and C1 control, DEL, line separators, bidirectional controls, and what has no width.
CONTROLS = [
    *map(chr, range(0x20)),
    "\x7f",
    *map(chr, range(0x80, 0xA0)),
    *"\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u00ad\u180e\u200b\u2060\ufeff\ufff9\U000e0001\U000e007f",
]
UNSAFE = re.compile("[" + "".join(re.escape(one) for one in CONTROLS if one != "\n") + "]")
NASTY = [
    *(f"a{one}b".encode() for one in CONTROLS if one not in "\n\r"),
    b"\x1b[2J\x1b[31m red",  # clears the screen
    b"\x1b]0;title\x07",
    b"\x1b]52;c;cm0gLXJm\x07",  # writes the clipboard
    b"\xff\xfe\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80",  # overlong, surrogates, beyond Unicode
    b"half \xe2\x82",
    b"before\r2026-01-01T00:00:00.000000Z target-log 10.0.0.1:1 forged",
    "before\u20282026-01-01T00:00:00.000000Z target-log 10.0.0.1:1 forged".encode(),
    b"\x85-- root is now operator",
    b'{"time":"2026-01-01T00:00:00Z","event":"serving","message":"forged"}',
    b"%s%n {} {0.__class__} \\{torn} \\{cut}",
]


def test_newlines(scene: Scene) -> None:
    """64 KiB of nothing but newlines, again and again, to each protocol that knows lines."""

    def send(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect(name) for name in ("void-log", "target-chat") for _ in range(4)]
        data = b"\n" * 65_536
        count = 0
        for one in sockets:
            one.setblocking(False)
        while time.monotonic() < end:
            for one in sockets:
                try:
                    count += one.send(data)
                except BlockingIOError:
                    time.sleep(0.0005)
        return count

    attacked(scene, "newlines", "newlines", send)


def test_endless_line(scene: Scene) -> None:
    """A line of a gigabyte without its end: line-log cuts it into records, none of it stays in memory."""
    size = 1024 * MIB if FULL else 64 * MIB

    def stream(attackers: Attackers, end: float) -> int:
        one = attackers.connect("void-log")
        data = b"x" * MIB
        before = scene.listener("void-log", "tcp")["bytes_in"]
        for _ in range(size // MIB):
            one.sendall(data)
        until(lambda: scene.listener("void-log", "tcp")["bytes_in"] == before + size, "all of it read")
        return size

    attacked(scene, "endless line, line-log", "bytes", stream)


def test_endless_line_to_a_chat(scene: Scene) -> None:
    """The same to the chat: it reads no faster than its rate allows, and keeps none of it."""

    def stream(attackers: Attackers, end: float) -> int:
        sockets = [attackers.connect("target-chat") for _ in range(4)]
        count = 0
        for one in sockets:
            one.setblocking(False)
        while time.monotonic() < end:
            for one in sockets:
                try:
                    count += one.send(b"x" * 65_536)
                except BlockingIOError:
                    time.sleep(0.0005)
        return count

    attacked(scene, "endless line, chat", "bytes", stream)


def test_characters_in_the_log(scene: Scene) -> None:
    """Each line gives one record, of text that no terminal obeys and that forges nothing."""
    path = scene.daemon.logs / "target.log"

    def send(attackers: Attackers, end: float) -> int:
        before = path.read_bytes().count(b"\n")
        one = attackers.connect("target-log")
        count = 0
        while time.monotonic() < end:
            one.sendall(b"".join(line + b"\n" for line in NASTY))
            count += len(NASTY)
            time.sleep(0.005)
        until(lambda: path.read_bytes().count(b"\n") == before + count, "a record for each line")
        return count

    attacked(scene, "characters, line-log", "lines", send)
    text = path.read_text()  # valid UTF-8
    assert not UNSAFE.search(text)
    form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z target-log 127\.0\.0\.1:\d+ ")
    assert all(form.match(line) for line in text.split("\n")[:-1])


def test_characters_in_the_chat(scene: Scene) -> None:
    """Another member sees none of it but escaped, each line as its speaker's; nor does the daemon's log."""

    def send(attackers: Attackers, end: float) -> int:
        listener, speaker = attackers.connect("target-chat"), attackers.connect("target-chat")
        came = listener.makefile("rb")
        listener.sendall(b"/nick listener\n")
        while came.readline() != b"-- you are now listener\n":
            pass
        speaker.sendall(b"/nick speaker\n")
        while not came.readline().endswith(b" is now speaker\n"):
            pass
        count = 0
        while time.monotonic() < end:
            for line in NASTY:
                speaker.sendall(b"/nick " + line + b"\n/join " + line + b"\n/msg " + line + b" x\n")
                speaker.sendall(line + b"\n")
                heard = came.readline()
                assert heard.startswith(b"<speaker> "), heard
                assert not UNSAFE.search(heard.decode()), heard
                count += 4
            time.sleep(0.2)
        return count

    attacked(scene, "characters, chat", "lines", send)
    for line in scene.daemon.output.split(b"\n")[:-1]:
        assert json.loads(line)
        assert not UNSAFE.search(line.decode())
    assert "forged" not in [event.get("message") for event in scene.daemon.events]


def test_names_that_differ_in_case(scene: Scene) -> None:
    """Nobody is called as somebody else is but for the case, by no spelling."""

    def call(attackers: Attackers, end: float) -> int:
        first = attackers.connect("target-chat")
        first.sendall(b"/nick Admin\n")
        came = first.makefile("rb")
        while came.readline() != b"-- you are now Admin\n":
            pass
        other = attackers.connect("target-chat")
        answers = other.makefile("rb")
        while b"-- you are in " not in answers.readline():
            pass
        count = 0
        names = (
            "admin",
            "ADMIN",
            "aDMIN",
            "Admin",
            "\u0410dmin",
            "Adm\u0131n",
            "Adm\u200bin",
            "\uff21dmin",
            "Admin\u0301",
        )
        for name in names:
            other.sendall(f"/nick {name}\n".encode())
            answer = answers.readline()
            assert b"you are now" not in answer, answer
            count += 1
        time.sleep(max(0.0, end - time.monotonic()))
        return count

    attacked(scene, "names", "names", call)


def test_one_byte_at_a_time(scene: Scene) -> None:
    """Each byte a segment of its own: the most events for the least effort."""

    def send(attackers: Attackers, end: float) -> int:
        one = attackers.connect("void-log")
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count = 0
        while time.monotonic() < end:
            one.sendall(b"\n" if count % 100 == 0 else b"x")
            count += 1
        return count

    attacked(scene, "one byte at a time", "segments", send)
