"""Finds the object that answers for a hosted protocol: whether it is busy, drains, can go on elsewhere.

As a rule it is the protocol itself, by the attributes and methods that `protocols.contract` names. Two kinds
of protocol are known that have none of them:

- A wrapper (twisted.protocols.policies) stands in front of another protocol, which answers.
- A channel of twisted.web is busy as long as it has requests, and can go on in another program between them.

Everything here runs code of others, which may raise anything: that is the caller's to handle.
"""

import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from twisted.internet.protocol import Protocol

from sockd.base.frozen import State
from sockd.base.hosted import CLASSES_KEPT
from sockd.transports.twisted import TwistedProtocol

LAYERS_LIMIT = 16  # of wrappers around one object: one might wrap itself

Face = Any  # the object that answers. Any: a third party's, or one of those here


class WebChannel:
    """Answers for a connection of twisted.web: HTTPChannel, or H2Connection, which can't move."""

    def __init__(self, channel: Any) -> None:  # Any: it is one of two classes
        self._channel = channel

    @property
    def busy(self) -> bool:
        """Whether a request is being received or answered."""
        channel = self._channel
        return bool(getattr(channel, "requests", None) or getattr(channel, "streams", None))

    def take_no_more(self) -> None:
        """The request that is under way, or the next one where none is, is the last: its answer says so.

        HTTP/2 has a frame for it (GOAWAY, RFC 9113, 6.8) after which twisted.web can send nothing.
        """
        channel = self._channel
        if not hasattr(channel, "requests"):
            return
        channel.checkPersistence = _is_the_last
        for request in channel.requests:
            if not request.startedWriting:
                _is_the_last(request)
            channel.persistent = False

    def freeze(self) -> State:
        """Nothing, between two requests; ValueError within one."""
        begun = getattr(self._channel, "_buffer", b"")  # LineReceiver's: `clearLineBuffer` would take it
        if self.busy or begun:
            raise ValueError("a request is under way")

    @property
    def thaw(self) -> object:
        """What can be frozen can be thawed, by `go_on`: HTTP/2 has a state that can't be had."""
        return go_on if hasattr(self._channel, "requests") else None


def _is_the_last(request: Any, _version: bytes = b"") -> bool:  # Any: twisted.web.http.Request
    request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
    return False


def face(protocol: TwistedProtocol) -> Face:
    """The object that answers for this protocol."""
    if _answers_itself(type(protocol)):  # type: ignore[arg-type] # as in base.hosted
        return protocol
    *_, innermost = layers(protocol)
    channel = _web_channel(innermost)
    return innermost if channel is None else WebChannel(channel)


@lru_cache(maxsize=CLASSES_KEPT)
def _answers_itself(kind: type) -> bool:
    """Whether objects of this class do: modules are imported before classes are made of theirs."""
    policies, http = sys.modules.get("twisted.protocols.policies"), sys.modules.get("twisted.web.http")
    known = () if policies is None else (policies.ProtocolWrapper,)
    if http is not None:
        known += http.HTTPChannel, http._GenericHTTPChannelProtocol  # noqa: SLF001 - what Site makes
    return not issubclass(kind, known)


def layers(hosted: Face) -> Iterator[Face]:
    """A protocol or a factory, and what it wraps (twisted.protocols.policies), the outermost first."""
    for _ in range(LAYERS_LIMIT):
        yield hosted
        hosted = _wrapped(hosted)
        if hosted is None:
            return


def _wrapped(hosted: Face) -> Face:
    policies = sys.modules.get("twisted.protocols.policies")
    if policies is None:
        return None
    if isinstance(hosted, policies.ProtocolWrapper):
        return hosted.wrappedProtocol
    return hosted.wrappedFactory if isinstance(hosted, policies.WrappingFactory) else None


def _web_channel(protocol: TwistedProtocol) -> Face:
    http = sys.modules.get("twisted.web.http")
    if http is None:
        return None
    if isinstance(protocol, http.HTTPChannel):
        return protocol
    if isinstance(protocol, http._GenericHTTPChannelProtocol):  # noqa: SLF001 - what Site makes
        return protocol._channel  # noqa: SLF001 - the HTTPChannel that it has chosen
    return None


def go_on(protocol: TwistedProtocol, transport: object, state: State) -> None:
    """Hand a transport to a new protocol that goes on from this state, which `face(…).freeze` returned.

    A wrapper is told of its connection as of a new one, but what it wraps is not.
    """
    wrapped = _wrapped(protocol)
    if wrapped is not None:
        protocol.wrappedProtocol = Protocol()
        try:
            protocol.makeConnection(transport)
        finally:
            protocol.wrappedProtocol = wrapped
        go_on(wrapped, protocol, state)
    elif _web_channel(protocol) is not None:
        protocol.makeConnection(transport)
    else:
        protocol.transport = transport
        protocol.connected = 1
        protocol.thaw(state)
