"""What makes one plan another: what is to be done with each endpoint and each of its listeners.

`sockd.plan.diff` makes these values, `sockd.plan.words` puts them into words, and `sockd.tree.reconcile` does
what they say. Nothing else compares two plans, so that what a reload reports is what it does.
"""

from dataclasses import dataclass
from enum import StrEnum

from sockd.plan.plan import EndpointPlan, ListenerPlan, Plan


class Kind(StrEnum):
    """What becomes of an endpoint, in one word for the user."""

    ADDED = "added"
    REMOVED = "removed"
    REBOUND = "rebound"  # it gets another socket, or another protocol behind one; perhaps more
    UPDATED = "updated"  # sockets and protocol stay, and something of them is set anew
    UNCHANGED = "unchanged"


class Action(StrEnum):
    """What is done with one listener."""

    KEPT = "kept"
    TUNED = "tuned"  # other options are set on the open socket
    PASSED = "passed"  # the socket stays open; TLS begins or ends on it
    REBOUND = "rebound"  # closed and opened again: its options can't be set on an open socket
    OPENED = "opened"
    CLOSED = "closed"


class ProtocolChange(StrEnum):
    """Whether an endpoint's protocol is replaced: then its connections drain, and its sockets pass on."""

    NONE = "none"
    OTHER = "other"  # a protocol of another name
    OTHER_PACKAGE = "other package"  # the name leads to another specification
    STARTED_ANEW = "started anew"  # its service can't take other options while it runs


class Part(StrEnum):
    """What of an endpoint is set anew while it runs."""

    OPTIONS = "options"
    LIMITS = "limits"
    SOURCES = "sources"  # those limits that concern one source
    TLS = "tls"
    ACCESS = "access"
    PROXIES = "proxies"
    RESTART = "restart"
    REQUIRED = "required"
    LOG = "log"


class Setting(StrEnum):
    """What of the daemon itself changes."""

    DRAIN = "drain"
    LOG = "log"
    CONTROL = "control"  # where its control socket is
    CONTROL_ACCESS = "control access"  # whose that is, and who may use it


# What is asked before a connection gets to the protocol: one of these makes all of it anew.
ADMISSION = frozenset({Part.SOURCES, Part.TLS, Part.ACCESS, Part.PROXIES})


@dataclass(frozen=True)
class ListenerChange:
    """One listener, before and after; a listener that is opened has no `old`, one that is closed no `new`.

    `waits` says that a reload found no open socket to change, nor could open one: the change is for the
    socket that its supervisor opens later.
    """

    action: Action
    old: ListenerPlan | None = None
    new: ListenerPlan | None = None
    position: int | None = None  # of `old` among the listeners of the old plan
    waits: bool = False


@dataclass(frozen=True)
class EndpointChange:
    """What is done with one endpoint.

    `listeners` are in the order of the new plan, then those that are closed. `equal` says that the plans are
    the same to the last value, and `listeners` is left empty. `notes` are what a reload that has been done
    found otherwise than the plans said, in words.
    """

    name: str
    old: EndpointPlan | None
    new: EndpointPlan | None
    listeners: tuple[ListenerChange, ...] = ()
    protocol: ProtocolChange = ProtocolChange.NONE
    parts: frozenset[Part] = frozenset()
    switched: bool = False  # `enabled` has changed
    equal: bool = False
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        if self.old is None:
            return Kind.ADDED
        if self.new is None:
            return Kind.REMOVED
        actions = {listener.action for listener in self.listeners if not listener.waits}
        if self.replaced or actions & {Action.OPENED, Action.REBOUND, Action.PASSED}:
            return Kind.REBOUND
        return Kind.UPDATED if self.parts or self.listeners_change else Kind.UNCHANGED

    @property
    def replaced(self) -> bool:
        """Whether the protocol that runs gives way to another one."""
        return self.protocol is not ProtocolChange.NONE

    @property
    def listeners_change(self) -> bool:
        return any(listener.action is not Action.KEPT for listener in self.listeners)


@dataclass(frozen=True)
class Changes:
    """All endpoints, in the order of the new file, then those that it lacks."""

    old: Plan
    new: Plan
    endpoints: tuple[EndpointChange, ...]
    settings: frozenset[Setting] = frozenset()

    def of(self, kind: Kind) -> tuple[EndpointChange, ...]:
        return tuple(change for change in self.endpoints if change.kind is kind)

    @property
    def none(self) -> bool:
        """Whether there is nothing to do."""
        return not self.settings and all(change.kind is Kind.UNCHANGED for change in self.endpoints)
