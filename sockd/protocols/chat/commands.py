"""What a member's line asks for: to be said in the room, or one of the commands."""

from collections.abc import Callable
from dataclasses import dataclass

from sockd.base.lines import Mark
from sockd.protocols.chat import lines
from sockd.protocols.chat.room import Member
from sockd.protocols.chat.rooms import Chat

Run = Callable[[Chat, Member, str], None]
CLIENT = "`rlwrap ncat` keeps what you type apart from what others say, and leaves on Ctrl-D"
QUIT = b"/quit"  # the line that a member who types end-of-file might have typed


@dataclass(frozen=True)
class Command:
    """One command; `arguments` as its help shows them, of which the first `needed` must be there."""

    summary: str
    run: Run
    arguments: str = ""
    needed: int = 0


def handle(chat: Chat, member: Member, line: bytes | Mark) -> None:
    """Do what a line from a member asks for. A refusal is said to that member alone."""
    if isinstance(line, Mark):
        chat.reply(member, f"that line was over {lines.LONGEST_LINE} bytes, so nobody was shown it")
        return
    text = lines.clean(line)
    if lines.too_long(text):
        chat.reply(
            member,
            f"that line is over {lines.LONGEST_SHOWN} bytes as it would be shown, so nobody was shown it",
        )
    elif text.startswith("/") and not text.startswith("//"):
        _command(chat, member, text)
    elif text.strip():
        chat.say(member, text.removeprefix("/"))


def _command(chat: Chat, member: Member, text: str) -> None:
    word, _, rest = text[1:].partition(" ")
    rest = rest.strip()
    command = COMMANDS.get(word.lower())
    if command is None:
        chat.reply(
            member,
            f"there is no command /{lines.shortened(word)}; /help lists them, // sends a text with /",
        )
    elif len(rest.split(maxsplit=command.needed)) < command.needed:
        chat.reply(member, f"write /{word.lower()} {command.arguments}")
    else:
        command.run(chat, member, rest)


def _nick(chat: Chat, member: Member, name: str) -> None:
    if _is_name(chat, member, name):
        chat.rename(member, name)


def _join(chat: Chat, member: Member, name: str) -> None:
    if _is_name(chat, member, name):
        chat.join(member, name)


def _msg(chat: Chat, member: Member, rest: str) -> None:
    name, text = rest.split(maxsplit=1)
    if _is_name(chat, member, name):
        chat.whisper(member, name, text)


def _help(chat: Chat, member: Member, _rest: str) -> None:
    uses = {f"/{word} {each.arguments}".rstrip(): each.summary for word, each in COMMANDS.items()}
    chat.reply(member, *(f"{use:<15}  {summary}" for use, summary in uses.items()), CLIENT)


def _quit(chat: Chat, member: Member, rest: str) -> None:
    chat.reply(member, "goodbye")
    chat.depart(member, f"quit: {rest}" if rest else "quit")
    member.close()


def _is_name(chat: Chat, member: Member, name: str) -> bool:
    if lines.is_name(name):
        return True
    chat.reply(member, f"{lines.shortened(name)} is not a name: {lines.NAME_RULE}")
    return False


COMMANDS = {
    "nick": Command("be called NAME", _nick, "NAME", 1),
    "join": Command("go to a room, which is made if it isn't there", _join, "ROOM", 1),
    "leave": Command("leave the room", lambda chat, member, _rest: chat.leave(member)),
    "who": Command("who is in the room", lambda chat, member, _rest: chat.who(member)),
    "rooms": Command("which rooms there are", lambda chat, member, _rest: chat.list_rooms(member)),
    "msg": Command("tell one member something, in private", _msg, "NAME TEXT", 2),
    "me": Command("say what you do", Chat.act, "TEXT", 1),
    "help": Command("this list", _help),
    "quit": Command("leave the chat", _quit, "[TEXT]"),
}
