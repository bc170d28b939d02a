"""The rooms of one endpoint: who is in them, what is said there, who hears it. Does no IO.

A line's beginning, which no member can choose, says who wrote it: `<name> text`, `* name text` for an action,
`[from name] text` in private, and `-- text` from the chat itself.

All members of a room hear everything in one order. That takes a queue, because sending may change the room: a
member whose connection breaks under a line leaves inside that very call, which the others are told as well.
If it went out right away, the members after it would hear that it left before the line that it left under. So
`_deliver` puts a line and its addressees into `_outbox`, and only the outermost call empties it.
"""

from collections import deque
from collections.abc import Callable, Iterable

from sockd.base.frozen import State
from sockd.base.units import counted
from sockd.protocols.chat.lines import folded
from sockd.protocols.chat.room import Member, Room

LIST_SIZE = 1000  # bytes of names in one reply


class Chat:
    """The members of one endpoint, by name and by room.

    Callers pass names that `is_name` allows and texts that `clean` returned. A member's `send` may call
    `depart` for that member.
    """

    def __init__(
        self, *, room: str, rooms: int, history: int, members: int, queue: int, guests: int = 0
    ) -> None:
        self.rooms: dict[str, Room] = {}
        self.members: dict[str, Member] = {}
        # Members of the program before whose connections aren't here yet.
        self._expected: dict[str, Member] = {}
        self.configure(room=room, rooms=rooms, history=history, members=members, queue=queue)
        self.guests = guests  # the number of the last one
        self._outbox: deque[tuple[bytes, tuple[Member, ...], Member | None]] = deque()
        self._delivering = False

    # -- reload and upgrade

    def configure(self, *, room: str, rooms: int, history: int, members: int, queue: int) -> None:
        """Take these bounds and this first room; every member stays where it is.

        `queue` is how many bytes may wait for a member; what joining shows stays below half of it. Lines
        beyond a lower bound are kept until `settle`, so that another `configure` undoes this one.
        """
        self._room_limit = rooms
        self._history = history
        self._replay = queue // 2
        self._member_limit = members
        for each in self.rooms.values():
            each.bound(history, self._replay)
        self.lobby = self.room(room)
        self.lobby.name = room  # it may differ in case

    def room(self, name: str) -> Room:
        """The room of that name, which is made if it isn't there."""
        room = self.rooms.get(folded(name))
        if room is None:
            room = self.rooms[folded(name)] = Room(name, self._history, self._replay)
        return room

    def settle(self) -> None:
        """Forget lines beyond the bounds, empty rooms, and expected members who did not come."""
        missing, self._expected = self._expected, {}
        for member in missing.values():
            self.depart(member, "lost the connection")
        for key, room in tuple(self.rooms.items()):
            room.trim()
            if not room.members and room is not self.lobby:
                del self.rooms[key]

    def freeze(self) -> State:
        return {
            "guests": self.guests,
            "rooms": [
                {
                    "name": room.name,
                    "history": list(room.history),
                    "members": [member.name for member in room.members],
                }
                for room in self.rooms.values()
            ],
            "elsewhere": [member.name for member in self.members.values() if member.room is None],
        }

    def thaw(self, state: State) -> None:
        """Take over the rooms of the program before, in their order, and expect their members."""
        self.guests = int(state["guests"])
        self.rooms.clear()
        for each in state["rooms"]:
            room = self.room(each["name"])
            for line in each["history"]:
                room.remember(bytes(line))
            for name in each["members"]:
                self.expect(name, room)
        for name in state["elsewhere"]:
            self.expect(name, None)
        self.lobby = self.room(self.lobby.name)

    def expect(self, name: str, room: Room | None) -> None:
        """Hold the place of a member of the program before until it `resume`s or until `settle`."""
        member = self._expected[folded(name)] = self._admitted(name, Member(_ignore, _ignore))
        if room is not None:
            room.enter(member)

    def resume(
        self, name: str, room: str | None, send: Callable[[bytes], object], close: Callable[[], object]
    ) -> Member:
        """The member of that name, which goes on where it was; nobody is told anything.

        ValueError where another member has the name.
        """
        member = self._expected.pop(folded(name), None)
        if member is not None:
            member.send, member.close = send, close
            return member
        if folded(name) in self.members:
            raise ValueError(f"{name} is there twice")
        member = self._admitted(name, Member(send, close))
        if room is not None:
            self.room(room).enter(member)
        return member

    def _admitted(self, name: str, member: Member) -> Member:
        member.name = name
        member.named(name)
        member.present = True
        member.replay = self._replay
        self.members[folded(name)] = member
        return member

    # -- coming and going

    def admit(self, member: Member) -> bool:
        """Take a member in, under a guest's name, to be welcomed next; False if the chat is full."""
        if len(self.members) >= self._member_limit:
            return False
        # Numbers only go up, so that nobody gets a name that was somebody else's a moment ago.
        while True:
            self.guests += 1
            name = f"guest{self.guests}"
            if name not in self.members:
                break
        self._admitted(name, member)
        return True

    def turn_away(self, member: Member) -> None:
        self.reply(member, f"the chat is full, with {counted(self._member_limit, 'member')}; try again later")
        member.close()

    def welcome(self, member: Member) -> None:
        self.reply(
            member, f"welcome, you are {member.name}; /nick NAME changes that, /help lists the commands"
        )
        self._enter(member, self.lobby)

    def depart(self, member: Member, reason: str, *, announced: bool = True) -> None:
        """Take a member out, once; the room hears why."""
        if member.present:
            member.present = False
            del self.members[folded(member.name)]
            self._leave(member, reason, announced=announced)

    def join(self, member: Member, name: str) -> None:
        room = self.rooms.get(folded(name))
        if room is not None and room is member.room:
            self.reply(member, f"you are in {room.name} already")
            return
        left = member.room
        if room is None:
            vacated = left is not None and left is not self.lobby and len(left.members) == 1
            if len(self.rooms) - vacated >= self._room_limit:
                self.reply(
                    member,
                    f"there may be no more than {counted(len(self.rooms), 'room')}; /rooms lists them",
                )
                return
            room = self.room(name)
        self._leave(member, f"went to {room.name}")
        self._enter(member, room)

    def leave(self, member: Member) -> None:
        room = member.room
        if room is None:
            self.reply(member, "you are in no room")
            return
        self._leave(member, "")
        self.reply(member, f"you left {room.name}; /join ROOM enters one, /quit leaves the chat")

    def _enter(self, member: Member, room: Room) -> None:
        if not member.present:
            return  # its connection broke under the words that it was just sent
        room.enter(member)
        self._deliver(room, f"-- {member.name} joined\n".encode(), but=member)
        history = room.recent(member.replay)
        if history:
            self.reply(member, f"said in {room.name} before:")
            for line in history:
                member.send(line)
        self.reply(member, f"you are in {room.name}, with {_others(room, member)}")

    def _leave(self, member: Member, reason: str, *, announced: bool = True) -> None:
        room, member.room = member.room, None
        if room is None:
            return
        del room.members[member]
        if room.members:
            if announced:
                why = f": {reason}" if reason else ""
                self._deliver(room, f"-- {member.name} left{why}\n".encode())
            else:
                room.unannounced.append(member.name)
            return
        room.unannounced = []
        if room is not self.lobby:
            del self.rooms[folded(room.name)]

    def announce_departures(self) -> None:
        """Tell those who are still there, in one line for all, who left without an announcement.

        Where the daemon stops, nobody is: each would hear of all the others. Where an address is closed, the
        members by other addresses stay.
        """
        for room in tuple(self.rooms.values()):
            gone = room.unannounced
            if gone:
                room.unannounced = []
                names = listed(gone, len(gone))
                self._deliver(room, f"-- {names} left: the server closed the connection\n".encode())

    # -- talking

    def say(self, member: Member, text: str) -> None:
        self._speak(member, f"<{member.name}> {text}\n")

    def act(self, member: Member, text: str) -> None:
        self._speak(member, f"* {member.name} {text}\n")

    def whisper(self, member: Member, name: str, text: str) -> None:
        """Say something to one member, whatever room it is in; it is not kept."""
        other = self.members.get(folded(name))
        if other is None:
            self.reply(member, f"there is no member called {name}")
            return
        other.send(f"[from {member.name}] {text}\n".encode())
        member.send(f"[to {other.name}] {text}\n".encode())

    def _speak(self, member: Member, shown: str) -> None:
        room = member.room
        if room is None:
            self.reply(member, "you are in no room, so nobody hears that; /join ROOM enters one")
            return
        line = shown.encode()
        room.remember(line)
        self._deliver(room, line, but=member)

    # -- names

    def rename(self, member: Member, name: str) -> None:
        other = self.members.get(folded(name))
        if other is not None and other is not member:
            self.reply(member, f"the name {other.name} is taken")
            return
        before = member.name
        if name == before:
            self.reply(member, f"you are {name} already")
            return
        del self.members[folded(before)]
        self.members[folded(name)] = member
        member.name = name
        member.named(name)
        self.reply(member, f"you are now {name}")
        if member.room is not None:
            self._deliver(member.room, f"-- {before} is now {name}\n".encode(), but=member)

    def who(self, member: Member) -> None:
        room = member.room
        if room is None:
            self.reply(member, "you are in no room; /rooms lists them")
            return
        names = listed((each.known_as for each in room.members), len(room.members))
        self.reply(member, f"in {room.name}: {names}")

    def list_rooms(self, member: Member) -> None:
        rooms = (f"{room.name} ({len(room.members)})" for room in self.rooms.values())
        self.reply(member, f"rooms: {listed(rooms, len(self.rooms))}")

    # -- bytes to members

    def reply(self, member: Member, *lines: str) -> None:
        """Say something to one member in the name of the chat, in one piece."""
        member.send("".join(f"-- {line}\n" for line in lines).encode())

    def _deliver(self, room: Room, line: bytes, but: Member | None = None) -> None:
        """Send a line to those who are in the room now; see above for its order."""
        self._outbox.append((line, tuple(room.members), but))
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._outbox:
                line, members, but = self._outbox.popleft()
                for member in members:
                    if member is not but:
                        member.send(line)
        finally:
            self._delivering = False


def _ignore(*_arguments: object) -> None:
    """The `send` and `close` of a member whose connection isn't here yet."""


def _others(room: Room, member: Member) -> str:
    others = len(room.members) - 1
    if not others:
        return "nobody else so far"
    return listed((each.name for each in room.members if each is not member), others)


def listed(items: Iterable[str], count: int) -> str:
    """As many of `count` items as fit into one reply, then how many more there are."""
    shown: list[str] = []
    size = 0
    for item in items:
        size += len(item.encode()) + 2
        if size > LIST_SIZE:
            return f"{', '.join(shown)} and {count - len(shown)} more"
        shown.append(item)
    return ", ".join(shown)
