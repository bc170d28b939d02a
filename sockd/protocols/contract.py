"""What a protocol is to sockd: a specification, an options model, factories and perhaps a service.

Other packages import these names from `sockd.api`.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict

import sockd
from sockd.base.errors import SockdError
from sockd.base.frozen import State
from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.base.reactor import Later, Reactor, later_by
from sockd.base.units import Rate

if TYPE_CHECKING:
    from twisted.logger import Logger  # `sockd check` starts sooner without it


class Options(BaseModel):
    """Base of every protocol's options: frozen, comparable, unknown keys refused.

    The types of fields come from `sockd.config.types`; they read the text that was written in the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def claims(self) -> tuple[str, ...]:
        """What this endpoint needs for itself alone, such as the path of a file that it writes.

        Two endpoints of a file that claim the same are an error of that file.
        """
        return ()

    def files(self) -> tuple[Path, ...]:
        """The files that this endpoint writes to: `sockd check` says where the daemon's user may not."""
        return ()

    def hosted(self) -> "Hosted":
        """What there is to say of code that these options choose; nothing, where they choose none."""
        return Hosted()


@dataclass(frozen=True)
class Hosted:
    """Code that the options of an endpoint choose, where it isn't the protocol's own."""

    # As `package.module:name`: shown by `sockd status`, and whose code holds up the reactor is found by it.
    names: tuple[str, ...] = ()
    reads: tuple[Path, ...] = ()  # where it is: `sockd check` says whether the daemon's unit hides it
    # What is odd, but not wrong: a text, then the keys below `options` to what it is about.
    remarks: tuple[tuple[str, ...], ...] = ()
    # Why nothing serves such addresses; empty where something does.
    no_streams: str = ""
    no_datagrams: str = ""


# The version of what sockd.api promises. It grows by one where something is added that protocols can rely on.
CONTRACT = 1


class ContractError(SockdError):
    """A protocol is written for a version of the contract that this sockd doesn't have."""


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass
class Host(Generic[OptionsT]):
    """What a running endpoint offers the protocol that is bound to it."""

    endpoint: str
    options: OptionsT
    reactor: Reactor
    log: "Logger"
    fail: Callable[[Exception], None]  # the service can't go on: hold the listeners, start it again later
    counters: Counters = field(default_factory=Counters)  # the endpoint's own; each listener has its own too
    tls: object = (
        None  # what `transport.startTLS` takes; None without `Specification.starts_tls`, or without `tls`
    )
    udp_ports: Collection[int] = ()  # that the daemon listens on now; it changes as they do
    # The service waits for something that doesn't answer, in words; "" when that goes on. It isn't held.
    hangs: Callable[[str], None] = lambda _: None
    service: Any = None  # Any: what the specification's `service` returned, whose type the protocol knows
    # Calls a function in a later turn, within the slice that the endpoint has of each. Where none is given,
    # as in a protocol's tests, the reactor's own timers do it.
    later: Later = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.later = self.later or later_by(self.reactor)


class Surviving(Protocol):
    """The two methods of a connection's protocol, a datagram protocol or a service that survives an upgrade.

    `freeze` returns the state and changes nothing: it may be called several times. `thaw` restores that state
    in a new object of the new program, and raises on a state that it can't use: then the upgrade is refused.

    A connection's protocol has its `transport` when `thaw` is called, which takes the place of
    `connectionMade`; a connection whose protocol has no `freeze` is drained before the upgrade. A service
    may return a Deferred from `freeze`, or have a coroutine for it, and is thawed before `startService`; a
    datagram protocol is thawed after `start`. Before the upgrade a child process rehearses all thaws: no
    service is started there, and a stub stands in for each transport.
    """

    def freeze(self) -> State: ...
    def thaw(self, state: State) -> None: ...


class Reloading(Protocol):
    """The method of a service or a datagram protocol that takes new options while it runs.

    `reload` takes the options, or raises and keeps the old ones: then the whole file is refused. It may
    return a Deferred, or be `async def`. It is called again, with the old options, where another part of the
    file fails afterwards. A service without it is replaced by a new one, and the connections of the old one
    drain; a datagram protocol without it is replaced too. The stream factory always is, and serves the
    connections that come later.
    """

    # Any: each protocol writes the type of its own options here.
    def reload(self, options: Any) -> object: ...


class Service(Protocol):
    """Twisted's IService, as far as sockd uses it.

    `startService` may raise, return a Deferred or be `async def`; it is called again, after a delay, when it
    failed or when the service reported a failure with `host.fail`. `stopService` is called once, when the
    endpoint ends; its Deferred, or its coroutine, is cancelled when the time to drain is over. A service may
    be Surviving and Reloading as well.
    """

    def startService(self) -> object: ...  # noqa: N802
    def stopService(self) -> object: ...  # noqa: N802


class StreamFactory(Protocol):
    """Twisted's IProtocolFactory as a type that mypy knows without a plugin; every Twisted Factory is one."""

    def doStart(self) -> object: ...  # noqa: N802
    def doStop(self) -> object: ...  # noqa: N802

    # Any: Twisted's IAddress and IProtocol are interfaces of zope, which are no types.
    def buildProtocol(self, addr: Any, /) -> Any:  # noqa: N802
        """The protocol of a connection from this Twisted address; None refuses the connection.

        Its attribute `only_receives` may be True: it never answers, and is given all that its peer sends.
        Then `dataReceived` is also called once the end is certain (`disconnecting`), and after sockd's own
        FIN, until the peer's or the end of the linger time. For any other protocol such bytes are dropped,
        counted, and logged with the connection.
        """


class StreamTransport(Protocol):
    """One connection as its protocol sees it, whether TCP, Unix or TLS: the protocol's `self.transport`.

    It provides Twisted's ITCPTransport and IConsumer as well. No call ends the connection from within: the
    protocol's `connectionLost` always comes after the method that asked for it has returned. After
    `connectionLost` every method does nothing.
    """

    @property
    def peer(self) -> Peer:
        """The other end: its address, its text for the log, on Unix sockets its uid, gid and pid."""

    @property
    def identity(self) -> str:
        """The name that a verified client certificate proves; empty without one."""

    name: str
    """What the protocol calls this peer, such as a chat's nickname, and "" until the protocol sets it.

    It is shown with the peer in `sockd connections` and in the log's line about the connection's end, and
    `sockd kick` takes it. 100 characters of it are kept.
    """

    @property
    def received(self) -> int:
        """Bytes that the protocol was given so far."""

    @property
    def sent(self) -> int:
        """Bytes of the protocol's that the kernel has taken so far."""

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""

    @property
    def end(self) -> End | None:
        """Why the connection ends, in the words of the log; None while nothing but the peer may end it."""

    @property
    def disconnecting(self) -> bool:
        """Whether the end is certain: nothing more is delivered, unless the protocol `only_receives`."""

    # -- writing

    def write(self, data: bytes) -> None:
        """Send bytes at the end of the event. More than 64 KiB unsent stop the reading from this peer."""

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802
        """Write these pieces, joined."""

    def limit_unsent(self, count: int) -> None:
        """Abort the connection (`End.SLOW`) when more than `count` bytes wait unsent.

        Without it the endpoint's `limits.unsent` holds, which what a single event writes may exceed.
        """

    # Any: a producer provides Twisted's IPushProducer or IPullProducer, which are no types.
    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        """Have a producer write: a push producer (`streaming`) is paused and resumed, a pull one asked."""

    def unregisterProducer(self) -> None:  # noqa: N802
        """The producer has written all it had."""

    # -- reading

    def pauseProducing(self) -> None:  # noqa: N802
        """Read no more from the peer until `resumeProducing`."""

    def resumeProducing(self) -> None:  # noqa: N802
        """Read from the peer again."""

    def limit_read(self, count: int) -> None:
        """Deliver at most `count` bytes in one `dataReceived`, for a protocol that makes much of little."""

    # -- ending

    def loseConnection(self) -> None:  # noqa: N802
        """Send what is unsent, then a FIN; further bytes are dropped, unless it `only_receives`."""

    def loseWriteConnection(self) -> None:  # noqa: N802
        """Send what is unsent, then a FIN; the peer may go on sending, and is heard."""

    def abortConnection(self) -> None:  # noqa: N802
        """Drop what is unsent and reset the connection."""

    def close(self, end: End) -> None:
        """As `loseConnection`, with the reason that the log gets; the first reason given counts."""

    def refuse(self, reason: str, why: str = "") -> None:
        """As `close`, for a peer that the protocol doesn't serve; it is counted under `reason`.

        Use few different reasons, as each is a counter; `why` says more, in words that no peer has chosen.
        """


class DatagramTransport(Protocol):
    """The socket as a datagram protocol sees it."""

    counters: Counters

    def send(self, data: bytes, peer: Peer) -> bool:
        """Answer a peer from the address that it sent to; False, and counted, where that is refused.

        The kernel may refuse it. sockd does where the answer to a peer over UDP is longer than what came from
        it: its address may be forged, and sockd would be an amplifier. `Specification.answer_beyond` allows a
        little more, and `peer.proved = True` anything, once the peer has shown that it reads at its address.
        """

    def send_many(self, replies: Sequence[tuple[bytes, Peer]]) -> None:
        """Send each of these in order, faster than `send` does; what is refused is only counted."""

    def refuse(self, reason: str, peers: Sequence[Peer], why: str = "") -> None:
        """Count one refusal for each of these peers under `reason`, and log them at a bounded rate.

        Use few different reasons, as each is a counter; `why` says more, in words that no peer has chosen.
        """

    def pauseProducing(self) -> None:  # noqa: N802
        """Read no more datagrams until `resumeProducing`; what the kernel has no room for is dropped."""

    def resumeProducing(self) -> None:  # noqa: N802
        """Read datagrams again."""

    def gone(self, peer: Peer) -> bool:
        """Whether nobody has a Unix peer's socket any more, as the kernel says without a datagram being sent.

        False for a peer whose address can't be asked about, as over UDP.
        """

    def failed(self, where: str) -> None:
        """Log and count the exception that is being handled."""


@dataclass(frozen=True, slots=True)
class Member:
    """A peer that a datagram protocol keeps something for, as a connection does for a stream.

    `name` is what the protocol calls it. `since` is when it came, in seconds of the reactor's clock, and
    `idle` for how many seconds it has sent nothing.
    """

    peer: Peer
    name: str = ""
    since: float = 0.0
    idle: float = 0.0


class DatagramProtocol:
    """Serves one datagram address; a subclass overrides `datagram`, or `datagrams` where speed matters.

    In its place `Specification.datagram` may return Twisted's DatagramProtocol, whose transport is an
    IUDPTransport then. A new one is made each time the address is opened. An exception in any method is
    logged against the endpoint and counted; it never stops the listener.
    """

    transport: DatagramTransport
    answer_beyond: int | None = None
    """Bytes by which an answer over UDP may be longer than what was asked; None: the specification's."""

    def start(self, transport: DatagramTransport) -> None:
        """The socket is open; called before any datagram."""
        self.transport = transport

    def datagrams(self, batch: Sequence[tuple[bytes, Peer]]) -> None:
        """Take datagrams that arrived together, in order, each of them whole; an empty one is b""."""
        for data, peer in batch:
            try:
                self.datagram(data, peer)
            except BaseException:  # noqa: BLE001 - whatever is raised, the other datagrams still count
                self.transport.failed("datagram")

    def datagram(self, data: bytes, peer: Peer) -> None:
        """Take one datagram."""
        raise NotImplementedError

    def members(self) -> Iterable[Member]:
        """The peers that it keeps something for, which `sockd connections` lists; none by default.

        It is iterated over in many turns of the reactor, in which peers may come and go.
        """
        return ()

    def end_member(self, peer: Peer, reason: str) -> bool:  # noqa: ARG002
        """Let go of the member with this peer, as `sockd kick` asks; False if there is none."""
        return False

    def drain(self) -> None:
        """The daemon stops: say goodbye. What waits in the kernel is still delivered before `stop`."""

    def stop(self) -> None:
        """The socket is closed."""


def is_twisteds(protocol: object) -> bool:
    """Whether it has the methods of Twisted's DatagramProtocol, which serves in place of ours."""
    methods = ("makeConnection", "datagramReceived", "doStop")
    return all(callable(getattr(protocol, name, None)) for name in methods)


# Any: a specification is known by its name only, so that its callables alone know the type of its options.
AnyHost = Host[Any]


@dataclass(frozen=True)
class Specification:
    """A protocol, as an entry point of the group `sockd.protocols` names it.

    `stream` returns the Twisted protocol factory that serves the connections of every stream listener of one
    endpoint; `datagram` returns a DatagramProtocol for each datagram listener. Either may be missing. All
    three callables run inside the daemon; import Twisted inside them, so that `sockd check` stays quick.

    A stream protocol may have a method `drain()`: the daemon stops, so say goodbye and lose the connection.
    Its attribute `busy` may be True while it still works on what its peer has sent: a drain and `limits.idle`
    wait for it. It may have `last_word(reason: str)`: sockd is about to close the connection for the reason
    that the log gets. It is called once; what it writes is sent as far as the kernel takes it immediately.
    `idle` (seconds, None for never) is the default of `limits.idle`; `datagrams` and `datagrams_per_source`
    are those of the limits of these names. `answer_beyond` (bytes) is by how much an answer over UDP may be
    longer than what came from its peer, which may be forged: keep it short, and its rate bounded.
    `starts_tls` says that connections may begin TLS midway (STARTTLS): where the endpoint has `tls`, the
    transports of its plain addresses provide Twisted's ITLSTransport, whose `startTLS` takes `host.tls`.
    `contract` is the version of the contract (`CONTRACT`) that the protocol is written for. A sockd whose own
    is older refuses it with a ContractError, in words that `sockd check` shows.
    """

    summary: str
    options: type[Options] = Options
    stream: Callable[[AnyHost], StreamFactory] | None = None
    datagram: Callable[[AnyHost], DatagramProtocol] | None = None
    service: Callable[[AnyHost], Service] | None = None
    idle: float | None = None
    datagrams: Rate | None = None
    datagrams_per_source: Rate | None = None
    answer_beyond: int = 0
    starts_tls: bool = False
    contract: int = 1

    # Before `__init__`, which knows no field of a newer contract. Any: those are of any type.
    def __new__(cls, *_: Any, contract: int = 1, **__: Any) -> Self:
        if type(contract) is not int or contract < 1:
            raise ContractError(f"contract: {contract!r} is not a version, which is a whole number from 1")
        if contract > CONTRACT:
            raise ContractError(
                f"it is written for version {contract} of sockd's contract with protocols, and sockd"
                f" {sockd.__version__} has version {CONTRACT}: install a newer sockd, or an older protocol"
            )
        return super().__new__(cls)
