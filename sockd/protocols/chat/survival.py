"""What a chat hands on to the next program: its rooms with what was said in them, and who is where."""

from typing import Any

from sockd.protocols.chat.chat import Chat


def freeze(chat: Chat) -> dict[str, Any]:
    return {
        "guests": chat.guests,
        "rooms": [
            {
                "name": room.name,
                "history": list(room.history),
                "members": [member.name for member in room.members],
            }
            for room in chat.rooms.values()
        ],
        "elsewhere": [member.name for member in chat.members.values() if member.room is None],
    }


def thaw(chat: Chat, state: dict[str, Any]) -> None:
    """Have a new chat take it over, in its order; the members are awaited."""
    chat.guests = int(state["guests"])
    chat.rooms.clear()
    for each in state["rooms"]:
        room = chat.room(each["name"])
        for line in each["history"]:
            room.remember(bytes(line))
        for name in each["members"]:
            chat.expect(name, room)
    for name in state["elsewhere"]:
        chat.expect(name, None)
    chat.lobby = chat.room(chat.lobby.name)
