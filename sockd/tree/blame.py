"""Whose call an event of the reactor is, as far as frames tell: the endpoint and the place in the code."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sockd.plan.plan import EndpointPlan
from sockd.transports.connection import Connection
from sockd.transports.continued import ContinuedWork
from sockd.transports.datagrams.port import DatagramPort
from sockd.tree.endpoint import Endpoint
from sockd.tree.supervisor import Supervisor

OURS = "sockd"


@dataclass(frozen=True)
class Culprit:
    """The endpoint, or "" where it isn't known, and the call, such as `Web.dataReceived (web.py:12)`."""

    endpoint: str
    call: str


def culprit(frames: Sequence[FrameType], endpoints: Iterable[Endpoint]) -> Culprit:
    """Whose event it is of which these are the frames, outermost first."""
    everywhere = list(endpoints)
    found = ""
    for frame in frames:
        found = _endpoint_of(frame.f_locals.get("self"), everywhere) or found
    return Culprit(found or _by_module(frames, everywhere), _call(frames))


def _endpoint_of(this: object, endpoints: Iterable[Endpoint]) -> str:
    """The endpoint that the `self` of a frame belongs to; "" where it is none's, or that of all."""
    if this is None:
        return ""
    if isinstance(this, Supervisor):
        return this.endpoint
    for endpoint in endpoints:
        if (
            this is endpoint
            or this is endpoint.host.service
            or (isinstance(this, Connection) and this in endpoint.connections)
            or (isinstance(this, ContinuedWork) and this is endpoint.connections.work)
            or (isinstance(this, DatagramPort) and _has(endpoint, this))
        ):
            return endpoint.name
    # A protocol that was called by a timer or a Deferred has its connection all the same.
    transport = None
    with suppress(BaseException):  # of a third party's object
        transport = getattr(this, "transport", None)
    if isinstance(transport, (Connection, DatagramPort)):
        return _endpoint_of(transport, endpoints)
    return ""


def _has(endpoint: Endpoint, port: DatagramPort) -> bool:
    return any(listener.descriptor is port for listener in endpoint.listeners)


def _by_module(frames: Sequence[FrameType], endpoints: Iterable[Endpoint]) -> str:
    """The endpoints whose protocol's package has the first of these frames that is any protocol's."""
    packages: dict[str, list[str]] = {}
    for endpoint in endpoints:
        for package in packages_of(endpoint.plan):
            packages.setdefault(package, []).append(endpoint.name)
    for frame in frames:
        names = packages.get(_package_of(frame))
        if names:
            return " or ".join(dict.fromkeys(names))
    return ""


def packages_of(plan: EndpointPlan) -> set[str]:
    """The packages of a protocol that isn't sockd's own; empty for one that is."""
    parts = (plan.specification.stream, plan.specification.datagram, plan.specification.service)
    modules = [str(getattr(part, "__module__", "")) for part in parts if part is not None]
    return {
        module.partition(":")[0].partition(".")[0] for module in (*modules, *plan.options.hosted().names)
    } - {OURS}


def _call(frames: Sequence[FrameType]) -> str:
    """The outermost function that is neither sockd's nor Twisted's, then the innermost, at its line."""
    theirs = [frame for frame in frames if _package_of(frame) not in (OURS, "twisted", "asyncio")]
    first, last = (theirs or frames)[0], (theirs or frames)[-1]
    text = first.f_code.co_qualname
    if last.f_code is not first.f_code:
        text += f", in {last.f_code.co_qualname}"
    return f"{text} ({Path(last.f_code.co_filename).name}:{last.f_lineno})"


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
