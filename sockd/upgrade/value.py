"""The handover: a running daemon's state, as one value that another version can read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sockd import __version__
from sockd.base.errors import SockdError
from sockd.base.frozen import State
from sockd.process.directories import Directories
from sockd.transports.sockets.unix import SocketFile

# Fields of a Handover that are the process's, by name. Any: each has a type of its own.
ProcessValues = Mapping[str, Any]


class HandoverError(SockdError):
    """A state can't be handed over, or a handover can't be read."""


class UpgradeRefusedError(SockdError):
    """The running program goes on; `problems` are the lines that say why."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class HandedListener:
    """An open listening or datagram socket."""

    fd: int
    address: str  # that is open: its port is never 0
    endpoint: str
    planned: str = ""  # as the plan has it, where that differs
    file: SocketFile | None = None
    name: str | None = None  # under which systemd passed it to us

    def to_value(self) -> State:
        file = self.file and {
            "path": self.file.path,
            "device": self.file.device,
            "inode": self.file.inode,
        }
        return {**vars(self), "file": file}


@dataclass(frozen=True)
class HandedConnection:
    """An established connection: what its transport and its protocol were frozen to."""

    transport: dict[str, State]
    protocol: State

    def to_value(self) -> State:
        return dict(vars(self))


@dataclass(frozen=True)
class HandedEndpoint:
    """An endpoint's state; `service` is empty where there is no service, or it has no state."""

    protocol: str  # its name in the file
    service: tuple[State, ...] = ()
    connections: tuple[HandedConnection, ...] = ()
    # By the address that is open; with `reuse_port` several listeners may have the same.
    datagrams: dict[str, list[State]] = field(default_factory=dict)
    suspended: bool = False
    counters: State = None

    def to_value(self) -> State:
        connections = [connection.to_value() for connection in self.connections]
        return {**vars(self), "service": list(self.service), "connections": connections}


@dataclass(frozen=True)
class Handover:
    """All of it. When it is read, unknown keys are ignored, and fields that have a default may be missing."""

    file: str
    runtime: str  # directory
    logs: str  # directory
    started: float  # the first of these programs; seconds of CLOCK_MONOTONIC, as all times here
    options: tuple[str, ...] = ()  # of twistd
    pid_file: str | None = None
    pid_lock: int | None = None  # its descriptor, which holds the lock
    listeners: tuple[HandedListener, ...] = ()
    endpoints: dict[str, HandedEndpoint] = field(default_factory=dict)
    control: tuple[
        dict[str, State], ...
    ] = ()  # connections that wait for this upgrade's result: `fd`, `state`
    reload: State = None  # the last one's result, as the status shows it
    begun: float = 0.0  # this upgrade
    held: float = 0.0  # since then nobody is served
    drained: int = 0  # connections that could not go on
    log: dict[str, State] | None = None  # the open log file: its descriptor and its path
    comm: str = ""  # the process's name, as ps shows it
    numbers: int = 1  # the next connection's
    version: str = __version__  # of the program that hands over

    @property
    def directories(self) -> Directories:
        """Where relative paths lead: after the upgrade as before it."""
        return Directories(Path(self.runtime), Path(self.logs))

    def fds(self) -> Iterator[int]:
        """All sockets."""
        for listener in self.listeners:
            yield listener.fd
        for endpoint in self.endpoints.values():
            for connection in endpoint.connections:
                yield connection.transport.get("fd", -1)
        for asker in self.control:
            yield asker.get("fd", -1)

    def inherited(self) -> Iterator[int]:
        """All descriptors that the new program gets: the sockets, the pid file's, and the log's."""
        yield from self.fds()
        if self.pid_lock is not None:
            yield self.pid_lock
        if self.log is not None:
            yield self.log["fd"]

    def to_value(self) -> State:
        return {
            **vars(self),
            "options": list(self.options),
            "control": list(self.control),
            "listeners": [listener.to_value() for listener in self.listeners],
            "endpoints": {name: endpoint.to_value() for name, endpoint in self.endpoints.items()},
        }

    @classmethod
    def from_value(cls, value: State) -> "Handover":
        """HandoverError where something is missing or is not of its type."""
        try:
            return TypeAdapter(Handover).validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise HandoverError(f"what was handed over can't be used: {place}: {first['msg']}") from None
