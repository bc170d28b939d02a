"""The protocol of an endpoint as a supervised child: built once, its service started and stopped."""

from dataclasses import replace
from typing import Any

from twisted.internet.defer import maybeDeferred

from sockd.protocols.contract import Host, Options, Specification


class Engine:
    """`start` builds what isn't built yet, then starts the service, if the protocol has one."""

    def __init__(self, specification: Specification, host: Host[Any]) -> None:
        self.host = host
        self._specification = specification
        self._built = False
        self._states: list[Any] = []
        self.factory: Any = None

    def start(self) -> Any:
        """Build what isn't built yet; start the service."""
        self.build()
        return None if self.host.service is None else self.host.service.startService()

    def build(self) -> None:
        """Make the service and the factory."""
        if self._built:
            return
        host = self.host
        if self._specification.service is not None and host.service is None:
            service: Any = self._specification.service(host)
            for state in self._states:
                service.thaw(state)
            host.service = service
        self.factory = self._make_factory(host)
        if self.factory is not None:
            self.factory.doStart()
        self._built = True

    def thaw(self, state: Any) -> None:
        """Have the service, once it is made, take this over from the one in the program before."""
        self._states = [state]

    def _make_factory(self, host: Host[Any]) -> Any:
        if self._specification.stream is None:
            return None
        factory: Any = self._specification.stream(host)
        if getattr(factory, "noisy", False):
            factory.noisy = False
        return factory

    def made_for(self, options: Options) -> tuple[Host[Any], Any]:
        """A host with other options and the same service, and a factory for it."""
        host = replace(self.host, options=options)
        return host, self._make_factory(host) if self._built else None

    def adopt(self, host: Host[Any], factory: Any) -> Any:
        """Go over to what `made_for` made, and was started; what it replaces is to be stopped."""
        if host is self.host:
            return None
        old, self.factory = self.factory, factory
        host.service = self.host.service
        self.host = host
        return old

    async def stop(self) -> None:
        """Stop the service; that may be cancelled."""
        try:
            if self.host.service is not None:
                await maybeDeferred(self.host.service.stopService)
        finally:
            if self.factory is not None:
                self.factory.doStop()
