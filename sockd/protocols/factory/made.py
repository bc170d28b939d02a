"""Calls an endpoint's callables, and makes sure that sockd can use what they return."""

import inspect
from functools import partial
from typing import Any, cast

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory

from sockd.protocols.contract import DatagramProtocol, Host, StreamFactory, is_twisteds
from sockd.protocols.factory.arguments import Callee, is_factory
from sockd.protocols.factory.modules import Named, modules
from sockd.protocols.factory.options import FactoryOptions


class Hosting:
    """The service of an endpoint: when it stops, nothing of the endpoint's modules is in use any more."""

    def startService(self) -> None:  # noqa: N802
        """There is nothing to start: the callables are called before."""

    def stopService(self) -> None:  # noqa: N802
        modules.free(self)

    def reload(self, options: FactoryOptions) -> None:
        """The callables are called again, and what they return before stays for the connections there are."""


def stream(host: Host[FactoryOptions]) -> StreamFactory:
    """The factory of an endpoint's connections."""
    name = host.options.factory
    if name is None:
        return _Nobody()
    what = modules.known(name).what
    made = _stream(name, what, host)
    modules.used(host.service, host.endpoint, host.options.path)
    return cast("StreamFactory", made)


def _stream(name: str, what: Named, host: Host[FactoryOptions]) -> Named:
    values = host.options.arguments.values.get("factory", {})
    if inspect.isclass(what) and IProtocol.implementedBy(what):
        # Any: any callable does, which Twisted's type denies.
        return Factory.forProtocol(cast("Any", partial(Callee.of(name, what).call, values, host)))
    if is_factory(what):
        return what
    made = Callee.of(name, what).call(values, host)
    if inspect.isclass(made) and IProtocol.implementedBy(made):
        return Factory.forProtocol(made)
    if not hasattr(made, "buildProtocol"):
        raise TypeError(f"{name} returned {_a(made)}, and not a factory of protocols")
    return made


def datagram(host: Host[FactoryOptions]) -> DatagramProtocol:
    """The protocol of one datagram address."""
    name = host.options.datagram
    if name is None:
        raise TypeError("the options have no 'datagram', which names what serves datagrams")
    made = Callee.of(name, modules.known(name).what).call(
        host.options.arguments.values.get("datagram", {}), host
    )
    served = as_served(name, made)
    modules.used(host.service, host.endpoint, host.options.path)
    return served


def as_served(name: str, made: Named) -> DatagramProtocol:
    """What the callable returned as sockd serves it: the place for datagram protocols of other contracts."""
    ours = all(callable(getattr(made, method, None)) for method in ("start", "datagrams", "stop"))
    if ours or is_twisteds(made):
        return cast("DatagramProtocol", made)
    raise TypeError(f"{name} returned {_a(made)}, and not a DatagramProtocol of sockd.api or of Twisted")


def _a(made: object) -> str:
    if inspect.iscoroutine(made):
        made.close()
    return f"an object of the type {type(made).__name__}"


class _Nobody(Factory):
    """Refuses connections: systemd has passed a socket for them to an endpoint that has none."""

    def buildProtocol(self, addr: object) -> None:  # noqa: ARG002, N802
        return None
