"""Describes the running tree in plain values, for the control socket."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor

from sockd import __version__
from sockd.base.units import counted
from sockd.control.language import Json
from sockd.log import timestamp
from sockd.plan.plan import CertificatePlan, EndpointPlan
from sockd.process.rights import Rights
from sockd.protocols.contract import Member
from sockd.transports.connection import Connection
from sockd.tree.datagrams import DatagramListener
from sockd.tree.endpoint import Endpoint, Watched
from sockd.tree.holds import Longest
from sockd.tree.listener import Listener
from sockd.tree.states import Cause, State
from sockd.tree.supervisor import Supervisor


@dataclass(frozen=True)
class Outcome:
    """How the last reload or upgrade ended."""

    ok: bool
    message: str
    at: float = field(default_factory=time.time)  # wall clock

    @classmethod
    def refused(cls, problems: Sequence[str]) -> "Outcome":
        """One that was refused for these reasons, of which the first is shown."""
        first, *more = problems
        return cls(False, f"{first} (and {len(more)} more)" if more else first)

    @classmethod
    def of(cls, value: Json) -> "Outcome | None":
        """The outcome of which this is the `value`; None where another version wrote what can't be read."""
        try:
            return cls(
                bool(value["ok"]), str(value["message"]), datetime.fromisoformat(value["at"]).timestamp()
            )
        except (KeyError, TypeError, ValueError):
            return None

    def value(self) -> dict[str, Json]:
        return {"at": timestamp(self.at), "ok": self.ok, "message": self.message}


class Moments:
    """Turns seconds of the reactor's clock into times of the wall clock."""

    def __init__(self, now: float) -> None:
        self._ahead = time.time() - now

    def text(self, seconds: float) -> str:
        return timestamp(seconds + self._ahead)


def program(uptime: float, file: str, state: str) -> dict[str, Json]:
    """The process itself; `uptime` is in seconds."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime": round(uptime, 3),
        "file": file,
        "state": state,
    }


def endpoint_value(endpoint: Endpoint, moments: Moments, rights: Rights) -> dict[str, Json]:
    """One endpoint, its protocol's service and its listeners."""
    service = endpoint.service
    return {
        "name": endpoint.name,
        "protocol": endpoint.plan.protocol,
        "hosted": list(endpoint.plan.options.hosted().names),
        **_supervised(service, endpoint.causes, moments),
        "connections": len(endpoint.connections),
        "limit": endpoint.plan.limits.connections,
        "refused": dict(endpoint.host.counters.refused),
        "certificates": [_certificate_value(each) for each in _certificates(endpoint)],
        "listeners": [_listener_value(each, endpoint.causes, moments, rights) for each in endpoint.watched],
    }


def hold_value(hold: Longest, moments: Moments) -> dict[str, Json]:
    """The longest time that an event held the loop; `endpoint` is "" where it isn't known."""
    return {
        "seconds": round(hold.seconds, 3),
        "endpoint": hold.endpoint,
        "call": hold.call,
        "at": moments.text(hold.at),
    }


def disabled_value(plan: EndpointPlan) -> dict[str, Json]:
    """An endpoint that the file has, and that isn't enabled."""
    return {
        "name": plan.name,
        "protocol": plan.protocol,
        "hosted": list(plan.options.hosted().names),
        "addresses": [str(listener.address) for listener in plan.listeners],
    }


def _certificates(endpoint: Endpoint) -> Sequence[CertificatePlan]:
    return endpoint.plan.tls.certificates if endpoint.plan.tls is not None else ()


def _certificate_value(certificate: CertificatePlan) -> dict[str, Json]:
    return {
        "names": list(certificate.names),
        "file": str(certificate.file),
        "fingerprint": certificate.fingerprint,
        "not_after": timestamp(certificate.not_after),
        "days_left": floor((certificate.not_after - time.time()) / 86_400),
    }


def _supervised(supervisor: Supervisor, causes: Iterable[Cause], moments: Moments) -> dict[str, Json]:
    return {
        "state": str(supervisor.state),
        "causes": sorted(map(str, causes)),
        "since": moments.text(supervisor.since),
        "why": supervisor.why,
        "recovered_from": supervisor.recovered_from,
        "restarts": supervisor.restarts,
    }


def _listener_value(
    watched: Watched, causes: Iterable[Cause], moments: Moments, rights: Rights
) -> dict[str, Json]:
    listener, supervisor = watched.listener, watched.supervisor
    # A UDP socket takes datagrams, however many connections there are.
    causes = filter(listener.held_by, causes if supervisor.state is State.RUNNING else ())
    if isinstance(listener, DatagramListener):
        listener.count_drops()
    counters = listener.counters
    asked, real = str(listener.plan.address), str(listener.address)
    return {
        "address": real if listener.plan.address.kind is listener.address.kind else f"{asked} ({real})",
        **_supervised(supervisor, causes, moments),
        "connections": listener.listening.connections,
        "accepted": counters.accepted,
        "bytes_in": counters.bytes_in,
        "bytes_out": counters.bytes_out,
        "datagrams_in": counters.datagrams_in,
        "datagrams_out": counters.datagrams_out,
        "refused": dict(counters.refused),
        "dropped": dict(counters.dropped),
        "note": _note(listener, rights),
    }


def _note(listener: Listener, rights: Rights) -> str:
    """A warning: this process has dropped the rights that opened the listener, and couldn't do it again."""
    if listener.opened is None or not listener.opened.ours:
        return ""
    why = rights.missing(listener.plan.address, listener.plan.socket)
    return f"open, but couldn't be opened again: {why}" if why else ""


def connection_value(endpoint: Endpoint, connection: Connection, moments: Moments) -> dict[str, Json]:
    """One stream connection."""
    return {
        "id": connection.number,
        "kind": "stream",
        "endpoint": endpoint.name,
        "listener": connection.listener.name,
        "peer": connection.peer.text,
        "identity": connection.identity,
        "name": connection.name,
        "since": moments.text(connection.opened),
        "idle": None,
        "bytes_in": connection.received,
        "bytes_out": connection.sent,
        "unsent": connection.unsent,
        "dropped": connection.dropped,
        "draining": endpoint.connections.draining(connection),
    }


def member_value(
    endpoint: Endpoint, number: int, listener: Listener, member: Member, moments: Moments
) -> dict[str, Json]:
    """One member of a datagram protocol, in the form of a connection: nothing counts its bytes."""
    return {
        "id": number,
        "kind": "datagram",
        "endpoint": endpoint.name,
        "listener": listener.listening.name,
        "peer": member.peer.text,
        "identity": "",
        "name": member.name,
        "since": moments.text(member.since),
        "idle": round(member.idle, 3),
        "bytes_in": None,
        "bytes_out": None,
        "unsent": None,
        "dropped": None,
        "draining": False,
    }


def in_words(endpoints: Iterable[Endpoint], leaving: int) -> str:
    """`3 endpoints, 12 listeners, 1 backing off, 40 connections`, for systemctl."""
    tree = list(endpoints)
    supervisors = [supervisor for endpoint in tree for supervisor in endpoint.supervisors]
    states = Counter(each.state for each in (*supervisors, *(endpoint.service for endpoint in tree)))
    suspended = sum(endpoint.suspended for endpoint in tree)
    connections = sum(len(endpoint.connections) for endpoint in tree) + leaving
    parts = [counted(len(tree), "endpoint"), counted(len(supervisors), "listener")]
    if states[State.BACKING_OFF]:
        parts.append(f"{states[State.BACKING_OFF]} backing off")
    if states[State.HANGING]:
        parts.append(f"{states[State.HANGING]} not responding")
    if suspended:
        parts.append(f"{suspended} suspended")
    parts.append(counted(connections, "connection"))
    return ", ".join(parts)
