"""Reports what a reload has done, where that is more than the plans alone can say."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sockd.plan.changes import Action, Changes, EndpointChange, Kind, ListenerChange, Part
from sockd.tree.endpoint import Endpoint, Watched
from sockd.tree.moves import Followed, Moves
from sockd.tree.states import State

# Of listeners whose socket was open before.
_SOCKET_STAYS = frozenset({Action.KEPT, Action.TUNED, Action.PASSED})


def as_done(changes: Changes, moves: Moves, not_tuned: Mapping[Watched, str]) -> Changes:
    """The changes once they are made; `not_tuned` are open listeners that refused options, and why."""
    restarted = {update.endpoint for update in moves.updates if update.restarted}
    endpoints = []
    for change in changes.endpoints:
        if change.new is not None and not change.equal:
            endpoint, followed = moves.endpoints[change.name], moves.followed[change.name]
            done = _endpoint(change, endpoint, followed, not_tuned, restarted=endpoint in restarted)
            endpoints.append(done)
        else:
            endpoints.append(change)
    return replace(changes, endpoints=tuple(endpoints))


def _endpoint(
    change: EndpointChange,
    endpoint: Endpoint,
    followed: list[Followed],
    not_tuned: Mapping[Watched, str],
    *,
    restarted: bool,
) -> EndpointChange:
    listeners = [
        _listener(listener, each) for listener, each in zip(change.listeners, followed, strict=False)
    ]
    closed = change.listeners[len(listeners) :]
    done = replace(change, listeners=(*listeners, *closed))
    if done.kind is Kind.UNCHANGED:
        return done  # only the order of its listeners differs
    notes = [*_service(change, endpoint), *_sockets(followed, not_tuned)]
    if restarted:
        notes.append("it was restarted with the old options during the reload, and is restarted again")
    return replace(done, notes=tuple(notes))


def _listener(listener: ListenerChange, followed: Followed) -> ListenerChange:
    """A socket that wasn't open could not be kept: one that is open now is another."""
    if not any(map(_runs, followed.watched)):
        return replace(listener, waits=listener.old is not None)
    if listener.action in _SOCKET_STAYS and not followed.was_open:
        return replace(listener, action=Action.REBOUND)
    return listener


def _service(change: EndpointChange, endpoint: Endpoint) -> Iterator[str]:
    if change.old is not None and not change.replaced and Part.OPTIONS not in change.parts:
        return
    service = endpoint.service
    if service.state is not State.RUNNING:
        yield f"the protocol doesn't run yet: {service.why or service.state}"


def _sockets(followed: list[Followed], not_tuned: Mapping[Watched, str]) -> Iterator[str]:
    """Of all its listeners: a user who changes an endpoint wants to know where it can't be reached."""
    for each in followed:
        for watched in each.watched:
            address = watched.listener.plan.address
            if not _runs(watched):
                yield f"{address} isn't open yet: {watched.supervisor.why}"
            elif watched in not_tuned:
                yield f"{address} keeps its socket options: {not_tuned[watched]}"


def _runs(watched: Watched) -> bool:
    return watched.supervisor.state is State.RUNNING
