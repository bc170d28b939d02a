"""All that another package imports from sockd.

Every other module may move or change with any release. What is promised of this one:

- A name in `__all__` stays, and so does what its docstring and docs/writing-a-protocol.md say of it. While
  the version is 0.x a new minor version may break that, with a line in the changelog; a patch version does
  not.
- Attributes that neither of them mentions, and names with a leading underscore, are sockd's own.
- The import loads nothing of Twisted, so that `sockd check` stays quick with a protocol that imports Twisted
  only inside its callables: `FileSink` and `StreamProtocol` are loaded when they are first used.
- Everything is typed, and mypy needs no plugin for it.
"""

from typing import TYPE_CHECKING

from sockd.base.addresses import Address
from sockd.base.errors import SockdError
from sockd.base.frozen import State
from sockd.base.metrics import Counters, End
from sockd.base.peers import Peer
from sockd.base.reactor import Clock, Later, Reactor, Timer
from sockd.base.units import Rate
from sockd.config.model import Where as AddressOption  # `Address` is the value
from sockd.config.types import (
    Account,
    Boolean,
    Duration,
    FilePath,
    Integer,
    LogPath,
    Mode,
    Networks,
    OptionalDuration,
    OptionalRate,
    OptionalSize,
    Size,
    Text,
    duration,
    size,
)
from sockd.config.types import Rate as RateOption  # `Rate` is the value
from sockd.limits.rates import Bucket, Buckets
from sockd.limits.reflection import Reflection
from sockd.limits.suppression import LogLimiter
from sockd.protocols.contract import (
    CONTRACT,
    DatagramProtocol,
    DatagramTransport,
    Host,
    Member,
    Options,
    Reloading,
    Service,
    Specification,
    StreamFactory,
    StreamTransport,
    Surviving,
)
from sockd.sinks.appender import Appender
from sockd.sinks.opening import SinkError, Target

__all__ = [
    "CONTRACT",
    "Account",
    "Address",
    "AddressOption",
    "Appender",
    "Boolean",
    "Bucket",
    "Buckets",
    "Clock",
    "Counters",
    "DatagramProtocol",
    "DatagramTransport",
    "Duration",
    "End",
    "FilePath",
    "FileSink",
    "Host",
    "Integer",
    "Later",
    "LogLimiter",
    "LogPath",
    "Member",
    "Mode",
    "Networks",
    "OptionalDuration",
    "OptionalRate",
    "OptionalSize",
    "Options",
    "Peer",
    "Rate",
    "RateOption",
    "Reactor",
    "Reflection",
    "Reloading",
    "Service",
    "SinkError",
    "Size",
    "SockdError",
    "Specification",
    "State",
    "StreamFactory",
    "StreamProtocol",
    "StreamTransport",
    "Surviving",
    "Target",
    "Text",
    "Timer",
    "duration",
    "size",
]

if TYPE_CHECKING:
    from sockd.protocols.stream import StreamProtocol
    from sockd.sinks.file import FileSink
else:

    def __getattr__(name: str) -> object:
        """The names that load Twisted, once they are asked for."""
        if name == "StreamProtocol":
            from sockd.protocols.stream import StreamProtocol  # noqa: PLC0415

            return StreamProtocol
        if name == "FileSink":
            from sockd.sinks.file import FileSink  # noqa: PLC0415

            return FileSink
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
