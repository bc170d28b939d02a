"""The commands and texts that a member's line may be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.base.lines import TOO_LONG
from sockd.protocols.chat.commands import COMMANDS, handle
from sockd.protocols.chat.lines import LONGEST_LINE
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.rooms import Chat

DATAGRAM = 1400


class Pair:
    """Two members of one chat, and what each was sent."""

    def __init__(self) -> None:
        self.chat = Chat(room="lobby", rooms=3, history=3, members=3, queue=8192)
        self.sent: list[bytes] = []
        self.heard: list[bytes] = []
        self.closed: list[bool] = []
        self.alice = self._member(self.sent, "alice")
        self.bob = self._member(self.heard, "bob")
        self.forget()

    def _member(self, told: list[bytes], name: str) -> Member:
        member = Member(told.append, lambda: self.closed.append(True))
        assert self.chat.admit(member)
        self.chat.welcome(member)
        self.chat.rename(member, name)
        return member

    def forget(self) -> None:
        self.sent.clear()
        self.heard.clear()

    def says(self, line: bytes) -> tuple[str, str]:
        """The lines that alice and bob get when alice sends this line."""
        self.forget()
        handle(self.chat, self.alice, line)
        return b"".join(self.sent).decode(), b"".join(self.heard).decode()


@pytest.fixture(name="pair")
def _pair() -> Pair:
    return Pair()


@pytest.mark.parametrize(
    ("line", "told", "heard"),
    [
        (b"hello", "", "<alice> hello\n"),
        (b" /nick x", "", "<alice>  /nick x\n"),
        (b"   ", "", ""),
        (b"//etc/passwd", "", "<alice> /etc/passwd\n"),
        (b"/me waves", "", "* alice waves\n"),
        (b"/ME  waves  ", "", "* alice waves\n"),
        (b"/me", "-- write /me TEXT\n", ""),
        (b"/nick al", "-- you are now al\n", "-- alice is now al\n"),
        (b"/nick", "-- write /nick NAME\n", ""),
        (b"/nick a b", "-- a b is not a name: 1 to 24 ASCII letters, digits, - and _\n", ""),
        (b"/nick \x1b[2J", "-- \\x1b[2J is not a name: 1 to 24 ASCII letters, digits, - and _\n", ""),
        (b"/join ops", "-- you are in ops, with nobody else so far\n", "-- alice left: went to ops\n"),
        (b"/join #ops", "-- #ops is not a name: 1 to 24 ASCII letters, digits, - and _\n", ""),
        (b"/join", "-- write /join ROOM\n", ""),
        (b"/leave", "-- you left lobby; /join ROOM enters one, /quit leaves the chat\n", "-- alice left\n"),
        (b"/who", "-- in lobby: alice, bob\n", ""),
        (b"/rooms", "-- rooms: lobby (2)\n", ""),
        (b"/msg bob  psst", "[to bob] psst\n", "[from alice] psst\n"),
        (b"/msg bob", "-- write /msg NAME TEXT\n", ""),
        (b"/msg b@b psst", "-- b@b is not a name: 1 to 24 ASCII letters, digits, - and _\n", ""),
        (b"/quit", "-- goodbye\n", "-- alice left: quit\n"),
        (b"/quit gone\x07home", "-- goodbye\n", "-- alice left: quit: gone\\x07home\n"),
        (b"/", "-- there is no command /; /help lists them, // sends a text with /\n", ""),
        (b"/\x1bc", "-- there is no command /\\x1bc; /help lists them, // sends a text with /\n", ""),
    ],
)
def test_meaning(pair: Pair, line: bytes, told: str, heard: str) -> None:
    """Each line, what the one who sent it is told, and what the other in the room hears."""
    assert pair.says(line) == (told, heard)


def test_help(pair: Pair) -> None:
    """Every command is listed with its arguments and what it does."""
    told, _ = pair.says(b"/help")
    *commands, last = told.splitlines()
    assert [line.split()[1] for line in commands] == [f"/{word}" for word in COMMANDS]
    assert "`rlwrap ncat`" in last
    assert "-- /msg NAME TEXT   tell one member something, in private" in told


def test_quit(pair: Pair) -> None:
    """Quitting ends the membership and what it came by."""
    pair.says(b"/quit")
    assert pair.closed
    assert not pair.alice.present


def test_too_long(pair: Pair) -> None:
    """A line over the bound is refused, with a reply that says so; so is one that grows beyond it."""
    handle(pair.chat, pair.alice, TOO_LONG)
    assert pair.sent == [b"-- that line was over 1024 bytes, so nobody was shown it\n"]
    told, heard = pair.says(b"\x00" * LONGEST_LINE)
    assert told == "-- that line is over 1300 bytes as it would be shown, so nobody was shown it\n"
    assert not heard
    assert pair.says(b"x" * LONGEST_LINE) == ("", f"<alice> {'x' * LONGEST_LINE}\n")


WORDS = st.sampled_from(
    [b"bob", b"ops", b"-- bob left", b"<bob> hi", b"* bob", b"[from bob]", b"\n", b"\r", b"/"]
)
LINES = st.tuples(
    st.sampled_from([b"", b"/me ", b"/msg bob ", b"/quit ", b"/nick ", b"/join ", b"//", b"/"]),
    st.lists(WORDS | st.binary(max_size=300), max_size=4).map(b" ".join),
).map(b"".join)
SHOWN = re.compile(
    r"<alice> .+|\* alice .+|\[from alice\] .+|-- alice is now [\w-]{1,24}"
    r"|-- alice left(: went to [\w-]{1,24}|: quit(: .+)?)?",
    re.ASCII,
)


@given(LINES.filter(lambda line: len(line) <= LONGEST_LINE))
def test_nothing_can_be_forged(line: bytes) -> None:
    """No line makes others see more than one line, which begins as only that member's can."""
    pair = Pair()
    told, heard = pair.says(line)
    assert heard.count("\n") == len(pair.heard) <= 1
    assert not heard or SHOWN.fullmatch(heard[:-1])
    assert all(len(data) <= DATAGRAM for data in pair.sent + pair.heard)
    for text in (told, heard):
        assert all(each == "\n" or each.isprintable() or ord(each) > 0xFF for each in text)
