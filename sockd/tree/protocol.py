"""The protocol of an endpoint as a supervised child: its service started and stopped, its factory built.

Third parties write protocols, so each of their calls may raise: that is the supervisor's to handle, which
calls `start` again after a delay. What was built stays built then; only the service is started once more.
"""

from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IProtocolNegotiationFactory

from sockd.base.frozen import State
from sockd.base.hosted import awaited_nowhere, made
from sockd.process import only_reactor
from sockd.protocols.contract import AnyHost, Options, Specification, StreamFactory, Surviving
from sockd.transports.faces import layers

PROTOCOL_NAME_SIZE = 255  # bytes of a name in ALPN at most
# Methods of a factory that nobody awaits.
_IMMEDIATE = ("buildProtocol", "doStart", "doStop", "startFactory", "stopFactory")


class Engine:
    """A protocol at work for one endpoint: its service, if it has one, its factory, if it speaks streams."""

    def __init__(self, specification: Specification, host: AnyHost) -> None:
        self.host = host
        self._specification = specification
        self._built = False
        self._states: list[State] = []
        self.factory: StreamFactory | None = None

    def start(self) -> object:
        """Build what isn't built yet, then start the service; may return a Deferred."""
        try:
            self._build()
            return None if self.host.service is None else self.host.service.startService()
        finally:
            only_reactor.check()

    def _build(self) -> None:
        if self._built:
            return
        host = self.host
        if self._specification.service is not None and host.service is None:
            service = made(self._specification.service(host), "service")
            awaited_nowhere(service, ("thaw",))
            for state in self._states:
                cast(Surviving, service).thaw(state)
            host.service = service
        self.factory = self._make_factory(host)
        if self.factory is not None:
            self.factory.doStart()
        self._built = True

    def thaw(self, state: State) -> None:
        """Have the service, once it is built, go on from the state of the one in the program before."""
        self._states = [state]

    def _make_factory(self, host: AnyHost) -> StreamFactory | None:
        if self._specification.stream is None:
            return None
        # Any: it may be Twisted's Factory, which is noisy.
        factory: Any = made(self._specification.stream(host), "stream")
        awaited_nowhere(factory, _IMMEDIATE)
        if getattr(factory, "noisy", False):
            factory.noisy = False
        return cast(StreamFactory, factory)

    def made_for(self, options: Options, tls: object) -> tuple[AnyHost, StreamFactory | None]:
        """A host with other options and the same service, and a factory for it, which isn't started.

        `tls` is the host's, as the options are.
        """
        host = replace(self.host, options=options, tls=tls)
        return host, self._make_factory(host) if self._built else None

    def adopt(self, host: AnyHost, factory: StreamFactory | None) -> StreamFactory | None:
        """Use what `made_for` made, once that was started; the factory that it replaces is to be stopped."""
        if host is self.host:
            return None
        old, self.factory = self.factory, factory
        host.service = self.host.service
        self.host = host
        return old

    async def stop(self) -> None:
        """Stop the service, then the factory, also when waiting for the service is cancelled."""
        try:
            if self.host.service is not None:
                await maybeDeferred(self.host.service.stopService)
        finally:
            if self.factory is not None:
                self.factory.doStop()


def spoken(factory: StreamFactory | None) -> tuple[str, ...]:
    """The protocols that a factory says it speaks, for ALPN (RFC 7301); it may raise anything.

    It says so by Twisted's IProtocolNegotiationFactory, as twisted.web's Site does, or the one does that it
    wraps (twisted.protocols.policies).
    """
    for asked in layers(factory):
        if IProtocolNegotiationFactory.providedBy(asked):
            names = tuple(name.decode("ascii") for name in asked.acceptableProtocols())
            if not all(1 <= len(name) <= PROTOCOL_NAME_SIZE for name in names):
                raise ValueError(f"the name of a protocol has 1 to {PROTOCOL_NAME_SIZE} bytes")
            return names
    return ()
