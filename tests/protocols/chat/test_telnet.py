"""What telnet clients send besides text: answered, applied to the line, or dropped; never shown."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.lines import LineSplitter, Mark
from sockd.protocols.chat.lines import LONGEST_LINE
from sockd.protocols.chat.telnet import ANSWERS_PER_OPTION, SUBNEGOTIATION_LIMIT, EndlessError, Telnet, edited
from tests.protocols.chat.session import Session, Transport, heard

IAC, SB, SE = b"\xff", b"\xff\xfa", b"\xff\xf0"
WILL, WONT, DO, DONT = b"\xff\xfb", b"\xff\xfc", b"\xff\xfd", b"\xff\xfe"
ECHO, SGA, TIMING_MARK, TERMINAL, WINDOW = b"\x01", b"\x03", b"\x06", b"\x18", b"\x1f"
EOF, SUSP, ABORT, NOP, DM, BRK, IP, AO, AYT, EC, EL, GA = (
    bytes((255, each)) for each in (236, 237, 238, 241, 242, 243, 244, 245, 246, 247, 248, 249)
)
PIECES = st.sampled_from(
    [
        b"hello", "grüße".encode(), b"\n", b"\r\n", b"\r\x00", b"\r", b"\x00", b"\x04", b"\x7f", b"\x08",
        b"\x15", IAC + IAC, IAC, WILL + ECHO, DO + SGA, DO + TIMING_MARK, DONT + IAC, WONT + b"\n", EOF, SUSP,
        ABORT, NOP, DM, BRK, IP, AO, AYT, EC, EL, GA, SB + WINDOW + b"\x00\x0a\x00\x0d" + SE,
        SB + TERMINAL + IAC + IAC + b"\n" + SE, SB + b"broken", SE,
    ]
)  # fmt: skip


def received(chunks: list[bytes]) -> tuple[list[bytes | Mark | None], bytes]:
    """The lines, edited, of bytes that arrive in these chunks, and the answers, with handovers in between."""
    telnet, splitter = Telnet(), LineSplitter(LONGEST_LINE, blank_lines=False)
    answers = b""
    found: list[bytes | Mark | None] = []
    for number, chunk in enumerate(chunks):
        if number % 2:
            state, telnet = telnet.freeze(), Telnet()
            telnet.thaw(state)
        splitter.add(telnet.text(chunk, splitter.unfinished))
        answers += telnet.answers
        telnet.answers = b""
        while (line := splitter.take()) is not None:
            found.append(edited(line) if isinstance(line, bytes) and b"\xff" in line else line)
    return [each for each in found if each != b""], answers


@pytest.mark.parametrize(
    ("data", "lines", "answers"),
    [
        (DO + SGA + WILL + TERMINAL + b"hi\r\n", [b"hi"], WONT + SGA + DONT + TERMINAL),
        (WILL + WINDOW + b"hi\r\n", [b"hi"], DONT + WINDOW),
        (b"one" + DONT + ECHO + b"two" + WONT + SGA + b"\n", [b"onetwo"], b""),
        (IP + DO + TIMING_MARK + b"hi\n" + IP + DO + TIMING_MARK, [b"hi"], (WONT + TIMING_MARK) * 2),
        (SB + WINDOW + b"\x00\x0a\x00\x0d" + SE + b"hi\r\n", [b"hi"], b""),
        (SB + WINDOW + IAC + IAC + b"\x00" + IAC + IAC + IAC + IAC + SE + b"hi\n", [b"hi"], b""),
        (SB + TERMINAL + b"\x00xterm\x0a\x0d\x00\x04" + SE + b"hi\n", [b"hi"], b""),
        (SB + TERMINAL + b"lost its end" + DO + SGA + b"hi\n", [b"hi"], WONT + SGA),
        (NOP + b"a" + GA + b"b" + DM + b"c" + SUSP + AO + b"d" + SE + b"\n", [b"abcd"], b""),
        (b"gone" + IP + b"stays\n", [b"stays"], b""),
        (b"gone" + BRK + b"gone" + ABORT + b"stays\n", [b"stays"], b""),
        (b"gone\xc3\xa9" + EL + b"x\xc3\xa9y" + EC + EC + b"z\n", [b"xz"], b""),
        (EC + b"\n" + EL + b"\n" + EC + EC + b"x" + EC + EC + b"y\n", [b"y"], b""),
        (b"a\r\x00b\r\nc\n", [b"a", b"b", b"c"], b""),
        (b"hel\x7f\x08llo\xc3\xa9\x7f\r\x00", [b"hllo"], b""),
        (b"no\x15yes\r\x00", [b"yes"], b""),
        (b"not typed\x7f\x15\r\n", [b"not typed\x7f\x15"], b""),
        (b"a\rb\x00c\r\r\n", [b"a\rb\x00c\r"], b""),
        (b"hi\n\x04", [b"hi", None], b""),
        (b"\x04", [None], b""),
        (b"a\x04b\n", [b"a\x04b"], b""),
        (b"hi" + EOF, [None], b""),
        (IAC + IAC + b"a" + IAC + b"es\n", [b"\xfea\xfees"], b""),
        ("\ufeffgrüße\n".encode(), ["\ufeffgrüße".encode()], b""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_sequences(data: bytes, lines: list[bytes | None], answers: bytes, size: int) -> None:
    """What is passed on as lines, where None asks to leave, and what is answered; in chunks of any size."""
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert received(chunks) == (lines, answers)


@given(st.lists(PIECES, max_size=15).map(b"".join), st.lists(st.integers(0, 200), max_size=10))
def test_any_chunking(data: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, and handed to another program half-way, lines and answers are the same."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    # What is unfinished at the end stays so: a LF ends it.
    whole = received([data + b"\n\n"])
    assert received([*(data[start:end] for start, end in pairwise(places)), b"\n\n"]) == whole
    assert not any(IAC in line for line in whole[0] if isinstance(line, bytes))


def test_no_loop() -> None:
    """A peer that answers each refusal with the same request is answered for a while; Ctrl-C for ever."""
    telnet = Telnet()
    for _ in range(100):
        assert telnet.text(DO + ECHO + WILL + SGA + DO + TIMING_MARK + DONT + ECHO + WONT + SGA, b"") == b""
    assert telnet.answers.count(WONT + ECHO) == telnet.answers.count(DONT + SGA) == ANSWERS_PER_OPTION
    assert telnet.answers.count(WONT + TIMING_MARK) == 100
    assert telnet.answers.count(IAC) == 2 * ANSWERS_PER_OPTION + 100


def test_nothing_but_interrupts() -> None:
    """A user who types Ctrl-C again and again makes no line that is too long."""
    lines, _ = received([b"x"] + [IP + DO + TIMING_MARK] * 2000 + [EC, b"hi\n"])
    assert lines == [b"hi"]


def test_endless_subnegotiation() -> None:
    """It ends the connection: without its end, the member would be silent for ever."""
    telnet = Telnet()
    telnet.text(SB + TERMINAL + b"x" * (SUBNEGOTIATION_LIMIT - 3), b"")
    with pytest.raises(EndlessError):
        telnet.text(b"xx", b"")
    session = Session()
    alice, to_alice = session.connect("alice")
    alice.dataReceived(SB + b"x\n" * 600)
    assert heard(to_alice) == ["-- a telnet subnegotiation without end: goodbye"]
    assert to_alice.disconnecting
    assert not session.service.chat.members


def test_a_member_with_telnet() -> None:
    """Its requests are answered, its lines end in CR LF from its first command on, Ctrl-D leaves."""
    session = Session()
    alice, to_alice = session.connect("alice")
    bob, to_bob = session.connect("bob")
    heard(to_alice)
    alice.dataReceived(b"hello\r\n")
    bob.dataReceived(b"hi\n")
    assert to_alice.value() == b"<bob> hi\n"
    to_alice.clear()
    alice.dataReceived(b"half" + IP + DO + TIMING_MARK + AYT)
    assert to_alice.value() == WONT + TIMING_MARK + b"-- yes, the chat is there\r\n"
    to_alice.clear()
    bob.dataReceived(b"hi\n")
    assert to_alice.value() == b"<bob> hi\r\n"
    to_alice.clear()
    alice.dataReceived(b"/nick anna\r\x00")
    alice.dataReceived(b"\x04")
    assert to_alice.value() == b"-- you are now anna\r\n-- goodbye\r\n"
    assert to_alice.disconnecting
    assert heard(to_bob) == ["<alice> hello", "-- alice is now anna", "-- anna left: quit"]


def test_an_upgrade_half_way() -> None:
    """In the middle of a window's size, of a CR NUL and of a command the next program goes on."""
    sent = SB + WINDOW + b"\x00\x0a\x00\x0a" + SE + b"one\r\x00" + DO + TIMING_MARK + b"two\r\n"
    for place in range(len(sent)):
        old = Session()
        alice, to_alice = old.connect("alice")
        bob, to_bob = old.connect("bob")
        alice.dataReceived(sent[:place])
        new = old.succeed((alice, to_alice), (bob, to_bob))
        new.came_back[0].dataReceived(sent[place:])
        assert heard(to_bob) == ["<alice> one", "<alice> two"]
        assert WONT + TIMING_MARK in to_alice.value()
        new.came_back[1].dataReceived(b"hi\n")
        assert to_alice.value().endswith(b"<bob> hi\r\n")


def test_an_upgrade_before_the_first_line() -> None:
    """A connection that nobody knows yet stays unknown: its first line decides in the next program."""
    old = Session()
    alice, to_alice = old.connect("alice")
    newcomer, transport = old.factory.buildProtocol(None), Transport()
    newcomer.makeConnection(transport)
    newcomer.dataReceived(b"GET / HT")
    new = old.succeed((alice, to_alice), (newcomer, transport))
    new.came_back[1].dataReceived(b"TP/1.1\r\nCookie: SECRET\r\n")
    assert heard(transport)[0] == "HTTP/1.1 400 Bad Request"
    assert not heard(to_alice)
