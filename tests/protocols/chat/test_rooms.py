"""Rooms, their members, and the lines that these are sent."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.protocols.chat.room import Member
from sockd.protocols.chat.rooms import LIST_SIZE, Chat, listed


class Terminal:
    """A member, and what it was sent."""

    def __init__(self, chat: Chat, name: str = "", on_send: Callable[[], object] | None = None) -> None:
        self.told: list[str] = []
        self.closed = False
        self.on_send = on_send
        self.member = Member(self._send, self._close)
        self.admitted = chat.admit(self.member)
        if self.admitted:
            chat.welcome(self.member)
        if name:
            chat.rename(self.member, name)
        self.told.clear()

    def _send(self, data: bytes) -> None:
        if self.on_send is not None:
            self.on_send()
        assert data.endswith(b"\n")
        self.told += data.decode().splitlines()

    def _close(self) -> None:
        self.closed = True

    def heard(self) -> list[str]:
        told, self.told = self.told, []
        return told


def new_chat(
    room: str = "lobby", rooms: int = 3, history: int = 3, members: int = 4, queue: int = 8192
) -> Chat:
    return Chat(room=room, rooms=rooms, history=history, members=members, queue=queue)


@pytest.fixture(name="chat")
def _chat() -> Chat:
    return new_chat()


@pytest.fixture(name="alice")
def _alice(chat: Chat) -> Terminal:
    return Terminal(chat, "alice")


@pytest.fixture(name="bob")
def _bob(chat: Chat, alice: Terminal) -> Terminal:
    bob = Terminal(chat, "bob")
    alice.told.clear()
    return bob


def test_welcome(chat: Chat, alice: Terminal) -> None:
    """A newcomer has a name, is in the first room and is told so; those who are there hear of it."""
    guest = Terminal(chat)
    assert guest.member.name == "guest2"
    assert alice.heard() == ["-- guest2 joined"]
    chat.depart(guest.member, "quit")
    told: list[bytes] = []
    member = Member(told.append, lambda: None)
    assert chat.admit(member)
    chat.welcome(member)
    assert b"".join(told).decode().splitlines() == [
        "-- welcome, you are guest3; /nick NAME changes that, /help lists the commands",
        "-- you are in lobby, with alice",
    ]


def test_alone(chat: Chat) -> None:
    """The first one is told that nobody is there."""
    told: list[bytes] = []
    member = Member(told.append, lambda: None)
    assert chat.admit(member)
    chat.welcome(member)
    assert told[-1] == b"-- you are in lobby, with nobody else so far\n"


def test_guests_names_are_free(chat: Chat, alice: Terminal) -> None:
    """A guest's name that somebody chose is not given away, in whatever case it was chosen."""
    chat.rename(alice.member, "GUEST2")
    assert Terminal(chat).member.name == "guest3"


def test_full() -> None:
    """At the bound of members the next one is turned away, until one leaves."""
    chat = new_chat(members=1)
    first, second = Terminal(chat), Terminal(chat)
    assert (first.admitted, second.admitted) == (True, False)
    chat.turn_away(second.member)
    assert second.heard() == ["-- the chat is full, with 1 member; try again later"]
    assert second.closed
    chat.depart(first.member, "quit")
    assert Terminal(chat).admitted


def test_talking(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """The others in the room hear it, from whom, and what was done instead of said."""
    chat.say(alice.member, "hello")
    chat.act(alice.member, "waves")
    assert bob.heard() == ["<alice> hello", "* alice waves"]
    assert not alice.heard()


def test_same_bytes_for_all(chat: Chat, alice: Terminal) -> None:
    """A message is encoded once, and everybody is sent the same object."""
    told: list[bytes] = []
    for _ in range(2):
        member = Member(told.append, lambda: None)
        chat.admit(member)
        chat.welcome(member)
    told.clear()
    chat.say(alice.member, "hello")
    assert told == [b"<alice> hello\n"] * 2
    assert told[0] is told[1]


def test_rooms_apart(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """One is in one room at a time and hears nothing of the others."""
    chat.join(bob.member, "ops")
    assert alice.heard() == ["-- bob left: went to ops"]
    assert bob.heard() == ["-- you are in ops, with nobody else so far"]
    chat.say(alice.member, "hello")
    chat.say(bob.member, "anybody?")
    assert not alice.heard()
    assert not bob.heard()
    chat.join(alice.member, "OPS")
    assert bob.heard() == ["-- alice joined"]
    assert alice.heard() == ["-- said in ops before:", "<bob> anybody?", "-- you are in ops, with bob"]


def test_join_again(chat: Chat, alice: Terminal) -> None:
    """Joining the room that one is in changes nothing."""
    chat.join(alice.member, "Lobby")
    assert alice.heard() == ["-- you are in lobby already"]


def test_empty_rooms_vanish(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """A room that nobody is in is forgotten with what was said in it; the first room stays."""
    chat.join(alice.member, "ops")
    chat.say(alice.member, "secret")
    chat.join(alice.member, "lobby")
    assert list(chat.rooms) == ["lobby"]
    chat.join(bob.member, "ops")
    assert bob.heard() == [
        "-- alice left: went to ops",
        "-- alice joined",
        "-- you are in ops, with nobody else so far",
    ]
    chat.say(alice.member, "all alone")
    chat.depart(alice.member, "quit")
    chat.join(bob.member, "lobby")
    assert bob.heard()[:2] == ["-- said in lobby before:", "<alice> all alone"]


def test_rooms_are_bounded(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """Beyond the bound no room is made and one stays; a room that one would empty makes place."""
    chat.join(alice.member, "a")
    chat.join(bob.member, "b")
    third = Terminal(chat)
    chat.join(third.member, "c")
    assert third.heard() == ["-- there may be no more than 3 rooms; /rooms lists them"]
    assert third.member.room is chat.lobby
    chat.join(bob.member, "c")
    assert list(chat.rooms) == ["lobby", "a", "c"]


def test_history_is_bounded() -> None:
    """The last lines are shown to who joins, bounded in number and in bytes; whispers are none of them."""
    chat = new_chat(history=3, queue=60)
    alice, bob = Terminal(chat, "alice"), Terminal(chat, "bob")
    chat.whisper(alice.member, "bob", "secret")
    for text in ("one", "two", "three", "four"):
        chat.say(alice.member, text)
    chat.join(bob.member, "ops")
    bob.told.clear()
    chat.join(bob.member, "lobby")
    assert bob.heard() == [
        "-- said in lobby before:",
        "<alice> three",
        "<alice> four",
        "-- you are in lobby, with alice",
    ]


def test_no_history() -> None:
    """A history of no lines keeps none."""
    chat = new_chat(history=0)
    alice = Terminal(chat, "alice")
    chat.say(alice.member, "hello")
    assert not chat.lobby.history


def test_leaving_a_room(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """A member in no room hears and says nothing, can whisper and be whispered to, and can come back."""
    chat.leave(alice.member)
    assert bob.heard() == ["-- alice left"]
    assert alice.heard() == ["-- you left lobby; /join ROOM enters one, /quit leaves the chat"]
    chat.say(bob.member, "gone")
    chat.say(alice.member, "hello?")
    chat.leave(alice.member)
    chat.who(alice.member)
    assert alice.heard() == [
        "-- you are in no room, so nobody hears that; /join ROOM enters one",
        "-- you are in no room",
        "-- you are in no room; /rooms lists them",
    ]
    chat.rename(alice.member, "al")
    chat.whisper(bob.member, "al", "psst")
    assert alice.heard() == ["-- you are now al", "[from bob] psst"]
    assert bob.heard() == ["[to al] psst"]
    chat.join(alice.member, "lobby")
    assert bob.heard() == ["-- al joined"]
    chat.leave(alice.member)
    chat.depart(alice.member, "idle")
    assert bob.heard() == ["-- al left"]


def test_departing(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """The room hears once who left and why, and nothing more reaches the one who did."""
    chat.depart(bob.member, "too slow a reader")
    chat.depart(bob.member, "idle")
    assert alice.heard() == ["-- bob left: too slow a reader"]
    chat.say(alice.member, "hello")
    assert not bob.heard()


def test_departing_unannounced(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """A departure that isn't announced is no line for the room."""
    chat.depart(bob.member, "", announced=False)
    assert not alice.heard()


def test_whispering_to_nobody(chat: Chat, alice: Terminal) -> None:
    """The sender of a whisper to a name that nobody has is told so."""
    chat.whisper(alice.member, "carol", "psst")
    assert alice.heard() == ["-- there is no member called carol"]


def test_renaming(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """A name is had by one at a time, regardless of case; the room hears of a change."""
    chat.rename(bob.member, "ALICE")
    chat.rename(bob.member, "bob")
    assert bob.heard() == ["-- the name alice is taken", "-- you are bob already"]
    chat.rename(bob.member, "Bob")
    assert bob.heard() == ["-- you are now Bob"]
    assert alice.heard() == ["-- bob is now Bob"]
    chat.rename(bob.member, "rob")
    chat.rename(alice.member, "bob")
    assert bob.heard() == ["-- you are now rob", "-- alice is now bob"]


def test_listing(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """The lists of the members who are here, and of the rooms with how many are in each."""
    chat.who(alice.member)
    chat.join(bob.member, "ops")
    chat.list_rooms(alice.member)
    assert alice.heard() == [
        "-- in lobby: alice, bob",
        "-- bob left: went to ops",
        "-- rooms: lobby (1), ops (1)",
    ]


@given(st.lists(st.text("abc", min_size=1, max_size=24), min_size=1, max_size=200))
def test_lists_are_bounded(names: list[str]) -> None:
    """A list fits into one datagram, and says how many it leaves out."""
    text = listed(names, len(names))
    assert len(text) <= LIST_SIZE + 20
    shown, _, more = text.partition(" and ")
    left_out = int(more.split()[0]) if more else 0
    assert [*shown.split(", ")] == names[: len(names) - left_out]


def test_leaving_under_a_line(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """A connection that breaks under a message is gone; the others hear the message first, then of that."""
    carol = Terminal(chat, "carol")
    bob.told.clear()
    bob.on_send = partial(chat.depart, bob.member, "lost the connection")
    dave = Terminal(chat, "dave")
    assert not bob.member.present
    assert carol.heard() == ["-- guest4 joined", "-- bob left: lost the connection", "-- guest4 is now dave"]
    chat.say(alice.member, "hello")
    assert carol.heard() == dave.heard() == ["<alice> hello"]


def test_leaving_while_joining(chat: Chat, alice: Terminal) -> None:
    """A connection that breaks under the welcome leaves nobody behind."""
    member = Member(lambda _data: chat.depart(member, "lost the connection"), lambda: None)
    assert chat.admit(member)
    chat.welcome(member)
    assert list(chat.members) == ["alice"]
    assert list(chat.lobby.members) == [alice.member]
    assert member.room is None


def test_a_send_that_raises(chat: Chat, alice: Terminal, bob: Terminal) -> None:
    """A fault of one way of sending is no silence for the room ever after."""

    def broken() -> None:
        raise ZeroDivisionError

    bob.on_send = broken
    with pytest.raises(ZeroDivisionError):
        chat.say(alice.member, "one")
    bob.on_send = None
    chat.say(alice.member, "two")
    assert bob.heard() == ["<alice> two"]
