"""Every command of the control socket, declared once: a new command begins here.

From a declaration come the daemon's checks of a request's arguments (requests.py), what the log says of it
(server.py), how long a client waits for the answer (client.py), and the `sockd` command with its help, its
arguments and its completion (cli/control.py). The method of the same name in sockd/commands.py is what the
command does, and a section of docs/control.md says what it answers; tests fail where one of these is missing.

Clients read this too: it imports nothing that takes time to load.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A string of 1 to `longest` characters."""

    longest: int

    def __str__(self) -> str:
        return f"a string of 1 to {self.longest} characters"


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from `least` to `greatest`; by itself, any that a connection's id may be."""

    least: int = 0
    greatest: int = 2**63 - 1

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.greatest}"


@dataclass(frozen=True, slots=True)
class Ids:
    """A list of 1 to `most` connections' ids."""

    most: int

    def __str__(self) -> str:
        return f"a list of 1 to {self.most} ids"

    @property
    def an_item(self) -> str:
        return f"an id, {Number()}"


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of 1 to `most` strings, each of 1 to `longest` characters."""

    most: int
    longest: int

    def __str__(self) -> str:
        return f"a list of 1 to {self.most} strings"

    @property
    def an_item(self) -> str:
        return str(Text(self.longest))


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a request.

    `metavar` is what the help of the `sockd` command calls it; the shell completes an `ENDPOINT`.
    Without a `metavar` it isn't an argument of the `sockd` command, only of requests. `default` is its value
    where it isn't `required`; None may be written out as null.
    """

    name: str
    type: Text | Number | Ids | Texts
    metavar: str = ""
    required: bool = True
    default: int | str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command: `summary` is its line in `sockd --help`, and `help` the text of its own `--help`."""

    name: str
    summary: str
    help: str
    arguments: tuple[Argument, ...] = ()
    changes: bool = True  # the log says who asked for it; what only looks isn't logged
    timeout: float = 60.0  # seconds that a client waits for the answer, unless its user says otherwise

    @property
    def endpoint(self) -> Argument | None:
        """The endpoint that it needs: the `sockd` command takes several, and asks for one after the other."""
        return next((each for each in self.arguments if each.metavar == "ENDPOINT" and each.required), None)


# Draining takes as long as the file says, which is 10 s by default.
_TIMEOUT_OF_DRAINING = 600.0

_ENDPOINT = Argument("endpoint", Text(longest=100), "ENDPOINT")

_ALL = (
    Command(
        "status",
        "Show what is running, and in which state.",
        "Show the endpoints and their listeners: their states, and why one doesn't run.",
        changes=False,
    ),
    Command(
        "diff",
        "Show what a reload would change.",
        "Read the file and show what a reload would change, without changing anything.",
        changes=False,
    ),
    Command(
        "reload",
        "Read the file again; show what changed.",
        "Read the file again and apply it, then show what changed. A file that is refused changes nothing.",
        timeout=_TIMEOUT_OF_DRAINING,
    ),
    Command(
        "suspend",
        "Stop accepting connections.",
        "Stop accepting connections and datagrams. Those connections that are open stay open.",
        (_ENDPOINT,),
    ),
    Command(
        "resume",
        "Accept connections again.",
        "Accept connections and datagrams again after `suspend` or `drain`.",
        (_ENDPOINT,),
    ),
    Command(
        "restart",
        "Drain, then start the protocol again.",
        "Let the connections finish within `daemon.drain`, close those that haven't, and start the protocol "
        "again.\n\nAn endpoint that was suspended or drained accepts connections again.",
        (_ENDPOINT,),
        timeout=_TIMEOUT_OF_DRAINING,
    ),
    Command(
        "drain",
        "Stop accepting; let connections finish.",
        "Stop accepting connections, let those that are open finish within `daemon.drain`, and close those "
        "that haven't.\n\n`resume` makes the endpoint accept connections again.",
        (_ENDPOINT,),
        timeout=_TIMEOUT_OF_DRAINING,
    ),
    Command(
        "connections",
        "List the connections.",
        "List the connections, of one endpoint or of all, and the members of a chat that come by datagrams.",
        (
            Argument("endpoint", Text(longest=100), "ENDPOINT", required=False),
            Argument("after", Number(), required=False, default=0),
            Argument("most", Number(1, 10_000), required=False, default=1000),
        ),
        changes=False,
    ),
    Command(
        "sources",
        "Show which sources come most.",
        "Show the sources that come most, send most or are refused most, and for which reasons, of one "
        "endpoint or of all. A source is an IPv4 address, the /64 of an IPv6 one, or a user.",
        (
            Argument("endpoint", Text(longest=100), "ENDPOINT", required=False),
            Argument("by", Text(longest=20), required=False, default="connections"),
            Argument("most", Number(1, 1000), required=False, default=20),
        ),
        changes=False,
    ),
    Command(
        "kick",
        "Close connections.",
        "Close connections immediately, and end members of a chat that come by datagrams.\n\n"
        "WHO is an id that `sockd connections` shows, the address of peers (192.0.2.7), of one of them "
        "(192.0.2.7:40122), a network (192.0.2.0/24), a user's id (uid=1000), or a name. A name that looks "
        "like one of these is written as name:NAME.",
        (
            Argument("connections", Ids(most=10_000), required=False),
            Argument("who", Texts(most=100, longest=200), required=False),
            Argument("endpoint", Text(longest=100), required=False),
        ),
    ),
    Command(
        "upgrade",
        "Switch to the program that is installed now.",
        "Reload the file, then replace the running program by the one that is installed now.\n\n"
        "Connections stay open where their protocol can hand them over; the others drain first. If the new "
        "program can't take over, nothing changes.",
        timeout=_TIMEOUT_OF_DRAINING,
    ),
)

COMMANDS: Mapping[str, Command] = {command.name: command for command in _ALL}
